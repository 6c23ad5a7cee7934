using System.Text;
using VhostFs.Fuse;
using VhostFs.Linux;
using VhostFs.Reactor;
using VhostFs.Simulation.Tests.Model;
using VhostFs.Simulation.Tests.World;

namespace VhostFs.Simulation.Tests.Guest;

/// <summary>The result of one file operation as a guest sees it; data in a form that a model can compare.</summary>
internal readonly record struct FileResult(bool IsLost, Errno Errno, byte[] Data)
{
    public static FileResult Of(FuseReply reply, byte[]? data = null) => new(reply.IsLost, reply.Errno, reply.IsLost || reply.Errno != Errno.None ? [] : data ?? []);

    public string Outcome => IsLost ? "lost" : Errno.ToString();

    public bool IsDone => !IsLost && Errno == Errno.None;
}

/// <summary>File operations by path, inside one directory of the volume's root, as FUSE requests: what a guest's kernel makes of system calls.</summary>
/// <remarks>One operation at a time. Nothing is cached: every path is looked up anew, so that each look-up is an observation, too.</remarks>
internal sealed class GuestFiles(SimGuest guest, int share, string root, SimRandom random)
{
    private const ulong RootNode = 1;
    private const int MaxChunkBytes = GuestConnection.MaxPayloadBytes;
    private readonly List<FuseForgetOne> _lookups = [];

    /// <summary>A look-up that was answered with EIO or lost ends an operation before anything was asked for.</summary>
    public bool WasSent { get; private set; }

    public async IoTask<FileResult> MakeRootAsync(uint mode) => FileResult.Of(await SendAsync(FuseOpcode.MKDIR, RootNode, [.. Wire.Bytes(new FuseMkdirIn(mode, 0)), .. Wire.Name(root)], 128, counts: true));

    public async IoTask<FileResult> StatAsync(string path)
    {
        (FileResult found, FuseEntryOut entry) = await LookupAsync(path);
        if (!found.IsDone) { return found; }
        FuseReply reply = await SendAsync(FuseOpcode.GETATTR, entry.NodeId, Wire.Bytes(new FuseGetattrIn(0, 0, 0)), 104);
        return FileResult.Of(reply, reply.Body.Length == 104 ? Describe(Wire.Read<FuseAttrOut>(reply.Body).Attributes) : null);
    }

    public async IoTask<FileResult> CreateAsync(string path, uint mode)
    {
        (FileResult found, ulong parent) = await ParentAsync(path);
        if (!found.IsDone) { return found; }
        const uint ReadWrite = 2, Create = 0x40, Exclusive = 0x80;
        FuseReply reply = await SendAsync(FuseOpcode.CREATE, parent, [.. Wire.Bytes(new FuseCreateIn(ReadWrite | Create | Exclusive, mode, 0)), .. Wire.Name(ModelState.Name(path))], 144, counts: true);
        if (reply.IsLost || reply.Errno != Errno.None) { return FileResult.Of(reply); }
        FuseCreateOut created = Wire.Read<FuseCreateOut>(reply.Body);
        FuseReply released = await SendAsync(FuseOpcode.RELEASE, created.Entry.NodeId, Wire.Bytes(new FuseReleaseIn(created.Open.Handle, ReadWrite, 0, 0)), 0);
        return FileResult.Of(released.IsLost ? reply : released, Describe(created.Entry.Attributes));
    }

    public async IoTask<FileResult> MakeDirectoryAsync(string path, uint mode)
    {
        (FileResult found, ulong parent) = await ParentAsync(path);
        if (!found.IsDone) { return found; }
        return FileResult.Of(await SendAsync(FuseOpcode.MKDIR, parent, [.. Wire.Bytes(new FuseMkdirIn(mode, 0)), .. Wire.Name(ModelState.Name(path))], 128, counts: true));
    }

    public async IoTask<FileResult> MakeLinkAsync(string path, string target)
    {
        (FileResult found, ulong parent) = await ParentAsync(path);
        if (!found.IsDone) { return found; }
        return FileResult.Of(await SendAsync(FuseOpcode.SYMLINK, parent, [.. Wire.Name(ModelState.Name(path)), .. Wire.Name(target)], 128, counts: true));
    }

    public async IoTask<FileResult> ReadLinkAsync(string path)
    {
        (FileResult found, FuseEntryOut entry) = await LookupAsync(path);
        if (!found.IsDone) { return found; }
        FuseReply reply = await SendAsync(FuseOpcode.READLINK, entry.NodeId, [], 4096);
        return FileResult.Of(reply, reply.Body);
    }

    public async IoTask<FileResult> HardLinkAsync(string existing, string path)
    {
        (FileResult found, FuseEntryOut entry) = await LookupAsync(existing);
        if (!found.IsDone) { return found; }
        (found, ulong parent) = await ParentAsync(path);
        if (!found.IsDone) { return found; }
        return FileResult.Of(await SendAsync(FuseOpcode.LINK, parent, [.. Wire.Bytes(new FuseLinkIn(entry.NodeId)), .. Wire.Name(ModelState.Name(path))], 128, counts: true));
    }

    public async IoTask<FileResult> RemoveAsync(string path, bool isDirectory)
    {
        (FileResult found, ulong parent) = await ParentAsync(path);
        if (!found.IsDone) { return found; }
        return FileResult.Of(await SendAsync(isDirectory ? FuseOpcode.RMDIR : FuseOpcode.UNLINK, parent, Wire.Name(ModelState.Name(path)), 0));
    }

    public async IoTask<FileResult> RenameAsync(string source, string target, uint flags)
    {
        (FileResult found, ulong parent) = await ParentAsync(source);
        if (!found.IsDone) { return found; }
        (found, ulong newParent) = await ParentAsync(target);
        if (!found.IsDone) { return found; }
        byte[] names = [.. Wire.Name(ModelState.Name(source)), .. Wire.Name(ModelState.Name(target))];
        return FileResult.Of(flags == 0 && random.OneIn(2)
            ? await SendAsync(FuseOpcode.RENAME, parent, [.. Wire.Bytes(new FuseRenameIn(newParent)), .. names], 0)
            : await SendAsync(FuseOpcode.RENAME2, parent, [.. Wire.Bytes(new FuseRename2In(newParent, flags)), .. names], 0));
    }

    /// <summary>One WRITE.</summary>
    public async IoTask<FileResult> WriteAsync(string path, long offset, byte[] data, bool append)
    {
        (FileResult found, FuseEntryOut entry) = await LookupAsync(path);
        if (!found.IsDone) { return found; }
        const uint ReadWrite = 2, Append = 0x400;
        byte[] arguments = Wire.Bytes(new FuseWriteIn(0, (ulong)offset, (uint)data.Length, 0, 0, ReadWrite | (append ? Append : 0)));
        FuseReply reply = await SendAsync(FuseOpcode.WRITE, entry.NodeId, arguments, 8, payload: data);
        return FileResult.Of(reply, reply.Body.Length == 8 ? Text($"{Wire.Read<FuseWriteOut>(reply.Body).SizeBytes} written") : null);
    }

    /// <summary>One READ.</summary>
    public async IoTask<FileResult> ReadAsync(string path, long offset, int length)
    {
        (FileResult found, FuseEntryOut entry) = await LookupAsync(path);
        if (!found.IsDone) { return found; }
        FuseReply reply = await SendAsync(FuseOpcode.READ, entry.NodeId, Wire.Bytes(new FuseReadIn(0, (ulong)offset, (uint)length)), length);
        return FileResult.Of(reply, reply.Body);
    }

    /// <summary>Removes the name of an open file, and then reads it to its end: it lives until it is closed.</summary>
    public async IoTask<FileResult> RemoveOpenAsync(string path)
    {
        const uint ReadWrite = 2;
        (FileResult found, FuseEntryOut entry) = await LookupAsync(path);
        if (!found.IsDone) { return found; }
        FuseReply opened = await guest.CallAsync(share, FuseOpcode.OPEN, entry.NodeId, Wire.Bytes(new FuseOpenIn(ReadWrite)), null, 16);
        if (opened.IsLost || opened.Errno != Errno.None) { return FileResult.Of(opened); }
        FileResult removed = await RemoveAsync(path, isDirectory: false);
        if (!removed.IsDone) { return removed; }
        FuseReply read = await SendAsync(FuseOpcode.READ, entry.NodeId, Wire.Bytes(new FuseReadIn(0, 0, MaxChunkBytes)), MaxChunkBytes);
        if (read.IsLost || read.Errno != Errno.None) { return FileResult.Of(read); }
        ulong handle = Wire.Read<FuseOpenOut>(opened.Body).Handle;
        await SendAsync(FuseOpcode.RELEASE, entry.NodeId, Wire.Bytes(new FuseReleaseIn(handle, ReadWrite, 0, 0)), 0);
        return FileResult.Of(read, read.Body);
    }

    /// <summary>O_TMPFILE, content, and at last a name.</summary>
    public async IoTask<FileResult> CreateNamelessAsync(string path, uint mode, byte[] data)
    {
        const uint ReadWrite = 2;
        (FileResult found, ulong parent) = await ParentAsync(path);
        if (!found.IsDone) { return found; }
        FuseReply made = await SendAsync(FuseOpcode.TMPFILE, parent, [.. Wire.Bytes(new FuseCreateIn(ReadWrite, mode, 0)), .. Wire.Name("/")], 144, counts: true);
        if (made.IsLost || made.Errno != Errno.None) { return FileResult.Of(made); }
        FuseCreateOut file = Wire.Read<FuseCreateOut>(made.Body);
        FuseReply written = await SendAsync(FuseOpcode.WRITE, file.Entry.NodeId, Wire.Bytes(new FuseWriteIn(file.Open.Handle, 0, (uint)data.Length, 0, 0, ReadWrite)), 8, payload: data);
        FuseReply linked = written;
        if (!written.IsLost && written.Errno == Errno.None)
        {
            linked = await SendAsync(FuseOpcode.LINK, parent, [.. Wire.Bytes(new FuseLinkIn(file.Entry.NodeId)), .. Wire.Name(ModelState.Name(path))], 128, counts: true);
        }
        if (!linked.IsLost) { await SendAsync(FuseOpcode.RELEASE, file.Entry.NodeId, Wire.Bytes(new FuseReleaseIn(file.Open.Handle, ReadWrite, 0, 0)), 0); }
        return FileResult.Of(linked);
    }

    /// <summary>copy_file_range within 128 KiB: one write.</summary>
    public async IoTask<FileResult> CopyAsync(string source, long sourceOffset, string target, long targetOffset, int length)
    {
        (FileResult found, FuseEntryOut from) = await LookupAsync(source);
        if (!found.IsDone) { return found; }
        (found, FuseEntryOut to) = await LookupAsync(target);
        if (!found.IsDone) { return found; }
        byte[] copy = Wire.Bytes(new FuseCopyFileRangeIn(0, (ulong)sourceOffset, to.NodeId, 0, (ulong)targetOffset, (ulong)length));
        FuseReply reply = await SendAsync(FuseOpcode.COPY_FILE_RANGE, from.NodeId, copy, 8);
        return FileResult.Of(reply, reply.Body.Length == 8 ? Text($"{Wire.Read<FuseWriteOut>(reply.Body).SizeBytes} copied") : null);
    }

    public async IoTask<FileResult> SetAttributesAsync(string path, FuseSetattrIn changes)
    {
        (FileResult found, FuseEntryOut entry) = await LookupAsync(path);
        if (!found.IsDone) { return found; }
        FuseReply reply = await SendAsync(FuseOpcode.SETATTR, entry.NodeId, Wire.Bytes(changes), 104);
        return FileResult.Of(reply, reply.Body.Length == 104 ? Describe(Wire.Read<FuseAttrOut>(reply.Body).Attributes) : null);
    }

    public async IoTask<FileResult> SyncAsync(string path)
    {
        (FileResult found, FuseEntryOut entry) = await LookupAsync(path);
        if (!found.IsDone) { return found; }
        byte[] fsync = Wire.Bytes(new FuseFsyncIn(0, random.OneIn(2) ? 1u : 0u));
        return FileResult.Of(random.Below(3) switch
        {
            0 => await SendAsync(FuseOpcode.SYNCFS, RootNode, Wire.Bytes(new FuseSyncfsIn(0)), 0),
            1 => await SendAsync(FuseOpcode.FSYNCDIR, RootNode, fsync, 0),
            _ => await SendAsync(FuseOpcode.FSYNC, entry.NodeId, fsync, 0),
        });
    }

    /// <summary>All names of a directory with their types, sorted, in as many requests as it takes.</summary>
    public async IoTask<FileResult> ListAsync(string path)
    {
        (FileResult found, FuseEntryOut entry) = await LookupAsync(path);
        if (!found.IsDone) { return found; }
        bool plus = random.OneIn(2);
        int room = random.OneIn(2) ? 4096 : 400;
        var names = new List<string>();
        for (ulong cookie = 0; ;)
        {
            FuseReply reply = await SendAsync(plus ? FuseOpcode.READDIRPLUS : FuseOpcode.READDIR, entry.NodeId, Wire.Bytes(new FuseReadIn(0, cookie, (uint)room)), room);
            if (reply.IsLost || reply.Errno != Errno.None) { return FileResult.Of(reply); }
            if (reply.Body.Length == 0) { break; }
            if (!TakeEntries(reply.Body, plus, names, ref cookie)) { return new FileResult(false, Errno.None, Text("a listing that cannot be read")); }
        }
        names.Sort(StringComparer.Ordinal);
        return new FileResult(false, Errno.None, Text(string.Join('\n', names)));
    }

    public async IoTask<FileResult> SetXattrAsync(string path, string name, byte[] value, uint flags)
    {
        (FileResult found, FuseEntryOut entry) = await LookupAsync(path);
        if (!found.IsDone) { return found; }
        // Without FUSE_SETXATTR_EXT the short form.
        return FileResult.Of(await SendAsync(FuseOpcode.SETXATTR, entry.NodeId, [.. Wire.Bytes(new FuseSetxattrCompatIn((uint)value.Length, flags)), .. Wire.Name(name)], 0, payload: value));
    }

    public async IoTask<FileResult> GetXattrAsync(string path, string name)
    {
        (FileResult found, FuseEntryOut entry) = await LookupAsync(path);
        if (!found.IsDone) { return found; }
        FuseReply reply = await SendAsync(FuseOpcode.GETXATTR, entry.NodeId, [.. Wire.Bytes(new FuseGetxattrIn(65536)), .. Wire.Name(name)], 65536);
        return FileResult.Of(reply, reply.Body);
    }

    public async IoTask<FileResult> RemoveXattrAsync(string path, string name)
    {
        (FileResult found, FuseEntryOut entry) = await LookupAsync(path);
        if (!found.IsDone) { return found; }
        return FileResult.Of(await SendAsync(FuseOpcode.REMOVEXATTR, entry.NodeId, Wire.Name(name), 0));
    }

    public async IoTask<FileResult> ListXattrsAsync(string path)
    {
        (FileResult found, FuseEntryOut entry) = await LookupAsync(path);
        if (!found.IsDone) { return found; }
        FuseReply reply = await SendAsync(FuseOpcode.LISTXATTR, entry.NodeId, Wire.Bytes(new FuseGetxattrIn(65536)), 65536);
        if (reply.IsLost || reply.Errno != Errno.None) { return FileResult.Of(reply); }
        return FileResult.Of(reply, Text(string.Join('\n', Encoding.UTF8.GetString(reply.Body).Split('\0', StringSplitOptions.RemoveEmptyEntries).Order(StringComparer.Ordinal))));
    }

    /// <summary>Everything below the worker's directory, read back. The state is meaningful when the result is done.</summary>
    public async IoTask<(FileResult Result, ModelState State)> ReadAllAsync()
    {
        (FileResult found, _) = await LookupAsync("");
        if (!found.IsLost && found.Errno == Errno.ENOENT) { return (new FileResult(false, Errno.None, []), ModelState.Absent); }
        if (!found.IsDone) { return (found, ModelState.Absent); }
        ModelState state = ModelState.Empty;
        var nodes = new Dictionary<ulong, string>();
        var directories = new Queue<string>([""]);
        while (directories.TryDequeue(out string? directory))
        {
            FileResult listed = await ListAsync(directory);
            if (!listed.IsDone) { return (listed, state); }
            foreach (string line in Encoding.UTF8.GetString(listed.Data).Split('\n', StringSplitOptions.RemoveEmptyEntries))
            {
                string name = line[..line.LastIndexOf(' ')];
                if (name is "." or "..") { continue; }
                string path = directory.Length == 0 ? name : $"{directory}/{name}";
                (found, FuseEntryOut entry) = await LookupAsync(path);
                if (!found.IsDone) { return (found, state); }
                if (nodes.TryGetValue(entry.NodeId, out string? same))
                {
                    state = state.AddLink(path, same);
                    continue;
                }
                nodes[entry.NodeId] = path;
                (found, ModelInode inode) = await ReadInodeAsync(path, entry);
                if (!found.IsDone) { return (found, state); }
                state = state.Add(path, inode);
                if (inode.Kind == InodeKind.Directory) { directories.Enqueue(path); }
            }
        }
        return (new FileResult(false, Errno.None, []), state);
    }

    public static byte[] Text(string text) => Encoding.UTF8.GetBytes(text);

    /// <summary>What stat tells, as far as the model knows it.</summary>
    public static string Describe(InodeKind kind, uint mode, uint uid, uint gid, uint links, long size) =>
        kind == InodeKind.File ? $"{kind} {Convert.ToString(mode, 8)} {uid}:{gid} x{links} {size}" : $"{kind} {Convert.ToString(mode, 8)} {uid}:{gid} x{links}";

    private static byte[] Describe(in FuseAttr attr) => Text(Describe(KindOf(attr.Mode), attr.Mode & 0xFFF, attr.Uid, attr.Gid, attr.LinkCount, (long)attr.SizeBytes));

    private static InodeKind KindOf(uint mode) => (mode & 0xF000) switch { 0x4000 => InodeKind.Directory, 0xA000 => InodeKind.Link, _ => InodeKind.File };

    private async IoTask<(FileResult Result, ModelInode Inode)> ReadInodeAsync(string path, FuseEntryOut entry)
    {
        FuseAttr attr = entry.Attributes;
        var inode = new ModelInode(KindOf(attr.Mode), attr.Mode & 0xFFF, attr.Uid, attr.Gid);
        FileResult got;
        if (inode.Kind == InodeKind.Link)
        {
            got = await ReadLinkAsync(path);
            if (!got.IsDone) { return (got, inode); }
            inode = inode with { Target = Encoding.UTF8.GetString(got.Data) };
        }
        if (inode.Kind == InodeKind.File)
        {
            byte[] content = new byte[attr.SizeBytes];
            for (int at = 0; at < content.Length;)
            {
                got = await ReadAsync(path, at, Math.Min(MaxChunkBytes, content.Length - at));
                if (!got.IsDone) { return (got, inode); }
                if (got.Data.Length == 0 || got.Data.Length > content.Length - at) { return (new FileResult(false, Errno.None, []), inode with { Target = $"a read at {at} of {content.Length} bytes returned {got.Data.Length}" }); }
                got.Data.CopyTo(content, at);
                at += got.Data.Length;
            }
            inode = inode with { Content = content };
        }
        got = await ListXattrsAsync(path);
        if (!got.IsDone) { return (got, inode); }
        foreach (string name in Encoding.UTF8.GetString(got.Data).Split('\n', StringSplitOptions.RemoveEmptyEntries))
        {
            FileResult value = await GetXattrAsync(path, name);
            if (!value.IsDone) { return (value, inode); }
            inode = inode with { Xattrs = inode.Xattrs.SetItem(name, value.Data) };
        }
        return (got, inode);
    }

    private async IoTask<(FileResult Result, ulong Node)> ParentAsync(string path)
    {
        (FileResult found, FuseEntryOut entry) = await LookupAsync(ModelState.Parent(path));
        return (found, entry.NodeId);
    }

    private async IoTask<(FileResult Result, FuseEntryOut Entry)> LookupAsync(string path)
    {
        WasSent = false;
        if (_lookups.Count > 0 && random.OneIn(4)) { await ForgetAsync(); }
        ulong node = RootNode;
        FuseEntryOut entry = default;
        foreach (string name in path.Length == 0 ? [root] : $"{root}/{path}".Split('/'))
        {
            FuseReply reply = await guest.CallAsync(share, FuseOpcode.LOOKUP, node, Wire.Name(name), null, 128);
            if (reply.IsLost || reply.Errno != Errno.None) { return (FileResult.Of(reply), default); }
            entry = Wire.Read<FuseEntryOut>(reply.Body);
            node = entry.NodeId;
            _lookups.Add(new FuseForgetOne(node, 1));
        }
        return (new FileResult(false, Errno.None, []), entry);
    }

    private async IoTask<FuseReply> SendAsync(FuseOpcode opcode, ulong node, byte[] arguments, int replyBytes, bool counts = false, byte[]? payload = null)
    {
        WasSent = true;
        FuseReply reply = await guest.CallAsync(share, opcode, node, arguments, payload, replyBytes);
        if (reply.IsLost) { _lookups.Clear(); }
        else if (counts && reply.Errno == Errno.None) { _lookups.Add(new FuseForgetOne(Wire.Read<FuseEntryOut>(reply.Body).NodeId, 1)); }
        return reply;
    }

    private async IoTask<bool> ForgetAsync()
    {
        byte[] batch = [.. Wire.Bytes(new FuseBatchForgetIn((uint)Math.Min(_lookups.Count, 200))), .. _lookups.Take(200).SelectMany(Wire.Bytes)];
        _lookups.Clear();
        await guest.CallAsync(share, FuseOpcode.BATCH_FORGET, 0, batch, null, 0);
        return true;
    }

    private bool TakeEntries(ReadOnlySpan<byte> body, bool plus, List<string> names, ref ulong cookie)
    {
        while (body.Length > 0)
        {
            int fixedBytes = plus ? FuseDirentPlus.Size : FuseDirent.Size;
            if (body.Length < fixedBytes) { return false; }
            FuseDirent dirent = Wire.Read<FuseDirent>(body[(fixedBytes - FuseDirent.Size)..]);
            int padded = (fixedBytes + (int)dirent.NameLength + 7) & ~7;
            if (padded > body.Length || dirent.Cookie == 0) { return false; }
            if (plus && Wire.Read<FuseEntryOut>(body).NodeId is not 0 and var node) { _lookups.Add(new FuseForgetOne(node, 1)); }
            names.Add($"{Encoding.UTF8.GetString(body.Slice(fixedBytes, (int)dirent.NameLength))} {dirent.Type}");
            cookie = dirent.Cookie;
            body = body[padded..];
        }
        return true;
    }
}
