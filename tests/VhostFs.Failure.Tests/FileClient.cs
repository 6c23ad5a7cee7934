using System.Text;
using VhostFs.Blobfs;
using VhostFs.Crash.Tests.Explorer;
using VhostFs.Fuse;
using VhostFs.Linux;
using VhostFs.Reactor;

namespace VhostFs.Failure.Tests;

/// <summary>File operations by path, as a guest's kernel makes them out of lookups; each answers with its errno or a text of all it learned.</summary>
public sealed class FileClient : IDisposable
{
    public const ulong Root = 1;
    public const uint Regular = 0x8000 | 0x1A4;
    private readonly NativeBuffer _memory = new(MemoryBytes);
    private const int MemoryBytes = (1 << 20) + (256 << 10);
    private readonly List<IoVecList> _lists = [];
    private readonly List<ulong> _found = [];
    private int _used;
    private int _nextList;

    /// <summary>Null while nothing is mounted.</summary>
    public BlobfsSession Session { get; set; } = null!;

    public FuseCaller Caller { get; set; } = new(0, 0, 1);

    /// <summary>Forgets what it looked up after each operation, so that what lost its name is deleted at once.</summary>
    public bool Forgets { get; set; }

    private CreateContext Context => new(Caller, 0x12);

    public IoTask<string> Look(string path) => On(path, node => Told(Session.GetAttributesAsync(node)));

    public IoTask<string> LookNowhere(string path, string name) => In(path, name, async (parent, child) =>
    {
        FsResult<InodeAttributes> found = await Session.LookupAsync(parent, child);
        if (!found.IsError) { _found.Add(found.Value.Inode); }
        return Text(found);
    });

    public IoTask<string> Make(string directory, string name, uint mode = Regular, uint device = 0) =>
        Born(directory, name, (parent, child) => Session.MakeNodeAsync(Context, parent, child, mode, device));

    public IoTask<string> MakeDirectory(string directory, string name) =>
        Born(directory, name, (parent, child) => Session.MakeDirectoryAsync(Context, parent, child, 0x1FF));

    public IoTask<string> Symlink(string directory, string name, int length) =>
        Born(directory, name, (parent, child) => Session.SymlinkAsync(Context, parent, child, Bytes(length, 't')));

    public IoTask<string> MakeLabelled(string directory, string name) =>
        Born(directory, name, (parent, child) => Session.MakeNodeAsync(Context with { SecurityName = Text("security.selinux"), SecurityValue = Bytes(300, 'l') }, parent, child, Regular, 0));

    public IoTask<string> Create(string directory, string name, uint flags, bool keepOpen = false) => In(directory, name, async (parent, child) =>
    {
        FsResult<CreatedFile> made = await Session.CreateAsync(Context, parent, child, 0x1B6, flags, true);
        if (made.IsError) { return made.Errno.ToString(); }
        ulong node = made.Value.Attributes.Inode;
        if (!keepOpen) { await Session.ReleaseAsync(node, made.Value.Handle); }
        _found.Add(node);
        return Text(made.Value.Attributes);
    });

    /// <summary>A file without a name, written to, and then given a name unless <paramref name="name"/> is null.</summary>
    public IoTask<string> Temporary(string directory, string? name, int length) => On(directory, async parent =>
    {
        FsResult<CreatedFile> made = await Session.TemporaryFileAsync(Context, parent, 0x180, 2);
        if (made.IsError) { return made.Errno.ToString(); }
        ulong node = made.Value.Attributes.Inode;
        string result = "None";
        if (length > 0) { result = (await Session.WriteAsync(node, 0, 0, List(Bytes(length, 'o')), 2, false, false)).Errno.ToString(); }
        if (result == "None" && name is not null)
        {
            FsResult<InodeAttributes> linked = await Session.LinkAsync(node, parent, Text(name));
            if (!linked.IsError) { Session.Forget(node, 1); }
            result = linked.Errno.ToString();
        }
        await Session.ReleaseAsync(node, made.Value.Handle);
        Session.Forget(node, 1);
        return result;
    });

    public IoTask<string> Link(string path, string directory, string name) => On(path, node =>
        Born(directory, name, (parent, child) => Session.LinkAsync(node, parent, child)));

    public IoTask<string> Unlink(string directory, string name) => In(directory, name, async (parent, child) => (await Session.UnlinkAsync(parent, child)).ToString());

    /// <summary>Opens it before and keeps it open.</summary>
    public IoTask<string> UnlinkOpen(string directory, string name) => On($"{directory}/{name}", async node =>
    {
        FsResult<ulong> opened = await Session.OpenAsync(node, 2, false);
        return opened.IsError ? opened.Errno.ToString() : await Unlink(directory, name);
    });

    public IoTask<string> RemoveDirectory(string directory, string name) => In(directory, name, async (parent, child) => (await Session.RemoveDirectoryAsync(parent, child)).ToString());

    public IoTask<string> Rename(string from, string name, string to, string newName, uint flags = 0) =>
        On(from, parent => In(to, newName, async (newParent, child) => (await Session.RenameAsync(Caller, parent, Text(name), newParent, child, flags)).ToString()));

    public IoTask<string> Write(string path, long offset, int length, uint flags = 2) =>
        On(path, async node => Text(await Session.WriteAsync(node, 0, offset, List(Bytes(length, (byte)(offset + length))), flags, false, true)));

    public IoTask<string> Read(string path, long offset, int length) => On(path, async node =>
    {
        IoVec target = Room(length);
        IoResult read = await Session.ReadAsync(node, 0, offset, List(target));
        return read.IsError ? read.Errno.ToString() : $"{read.Bytes} bytes, {Hash(target.Span[..read.Bytes]):x}";
    });

    public IoTask<string> ReadLink(string path) => On(path, async node =>
    {
        IoVec target = Room(4096);
        IoResult read = await Session.ReadLinkAsync(node, target);
        return read.IsError ? read.Errno.ToString() : $"{read.Bytes} bytes, {Hash(target.Span[..read.Bytes]):x}";
    });

    public IoTask<string> Set(string path, SetAttributes changes) => On(path, node => Told(Session.SetAttributesAsync(Caller, node, changes)));

    public IoTask<string> Truncate(string path, long size) => Set(path, new SetAttributes(SizeBytes: size, KillPrivileges: true));

    public IoTask<string> OpenTruncating(string path) => On(path, async node =>
    {
        FsResult<ulong> opened = await Session.OpenAsync(node, 0x202, true);
        if (!opened.IsError) { await Session.ReleaseAsync(node, opened.Value); }
        return opened.Errno.ToString();
    });

    public IoTask<string> Fallocate(string path, uint mode, long offset, long length) =>
        On(path, async node => (await Session.FallocateAsync(Caller, node, 0, mode, offset, length)).ToString());

    public IoTask<string> Copy(string source, long sourceOffset, string target, long targetOffset, long length) => On(source, from =>
        On(target, async to => Text(await Session.CopyFileRangeAsync(from, 0, sourceOffset, to, 0, targetOffset, length))));

    public IoTask<string> Seek(string path, long offset, uint whence) => On(path, async node =>
    {
        FsResult<long> found = await Session.SeekAsync(node, 0, offset, whence);
        return found.IsError ? found.Errno.ToString() : $"at {found.Value}";
    });

    public IoTask<string> SetXattr(string path, string name, int length, uint flags = 0) =>
        On(path, async node => (await Session.SetXattrAsync(node, Text(name), Bytes(length, (byte)(length + name.Length)), flags, false)).ToString());

    public IoTask<string> SetAcl(string path, string name, params ReadOnlySpan<AclEntry> entries)
    {
        var acl = new byte[4 + (8 * entries.Length)];
        acl[0] = 2;
        for (int i = 0; i < entries.Length; i++)
        {
            BitConverter.TryWriteBytes(acl.AsSpan(4 + (8 * i)), entries[i].Tag);
            BitConverter.TryWriteBytes(acl.AsSpan(6 + (8 * i)), entries[i].Bits);
            BitConverter.TryWriteBytes(acl.AsSpan(8 + (8 * i)), entries[i].Id);
        }
        return On(path, async node => (await Session.SetXattrAsync(node, Text(name), Copy(acl), 0, false)).ToString());
    }

    public IoTask<string> GetXattr(string path, string name) => On(path, async node =>
    {
        IoVec target = Room(65536);
        IoResult got = await Session.GetXattrAsync(node, Text(name), target);
        return got.IsError ? got.Errno.ToString() : $"{got.Bytes} bytes, {Hash(target.Span[..got.Bytes]):x}";
    });

    public IoTask<string> ListXattr(string path) => On(path, async node =>
    {
        IoVec target = Room(65536);
        IoResult got = await Session.ListXattrAsync(Caller, node, target);
        // In the order of their hashes, which are other ones on each volume.
        return got.IsError ? got.Errno.ToString() : string.Join(' ', Encoding.UTF8.GetString(target.Span[..got.Bytes]).Split('\0').Order(StringComparer.Ordinal));
    });

    public IoTask<string> RemoveXattr(string path, string name) => On(path, async node => (await Session.RemoveXattrAsync(node, Text(name))).ToString());

    public IoTask<string> List(string path, bool plus) => On(path, async node =>
    {
        FsResult<ulong> opened = await Session.OpenDirectoryAsync(node, 0);
        if (opened.IsError) { return opened.Errno.ToString(); }
        var names = new List<string>();
        Errno result = Errno.None;
        for (ulong cookie = 0; ;)
        {
            var writer = new NameWriter(plus);
            result = await Session.ReadDirectoryAsync(node, 0, cookie, writer);
            foreach (ulong inode in writer.Referenced) { Session.Forget(inode, 1); }
            if (result != Errno.None || writer.Names.Count == 0) { break; }
            names.AddRange(writer.Names);
            cookie = writer.LastCookie;
        }
        await Session.ReleaseDirectoryAsync(node, 0);
        return result == Errno.None ? string.Join(' ', names.Order(StringComparer.Ordinal)) : result.ToString();
    });

    public IoTask<string> Fsync(string path) => On(path, async node => (await Session.FsyncAsync(node, 0, false)).ToString());

    public async IoTask<string> Sync() => (await Session.SyncFsAsync()).ToString();

    public async IoTask<string> StatFs()
    {
        FsResult<FsStatistics> told = await Session.StatFsAsync();
        return told.IsError ? told.Errno.ToString() : "None";
    }

    /// <summary>The inode at a path; what it looked up on the way is forgotten by <see cref="ForgetFound"/>.</summary>
    public async IoTask<FsResult<ulong>> FindAsync(string path)
    {
        ulong node = Root;
        foreach (string part in path.Split('/', StringSplitOptions.RemoveEmptyEntries))
        {
            FsResult<InodeAttributes> found = await Session.LookupAsync(node, Text(part));
            if (found.IsError) { return found.Errno; }
            node = found.Value.Inode;
            _found.Add(node);
        }
        return node;
    }

    public void ForgetFound()
    {
        foreach (ulong node in _found) { Session.Forget(node, 1); }
        _found.Clear();
    }

    public void EndSession()
    {
        _found.Clear();
        Session?.EndSession();
    }

    public void Dispose()
    {
        _memory.Dispose();
        foreach (IoVecList list in _lists) { list.Dispose(); }
    }

    public IoVec Room(int length)
    {
        if (_used + length > _memory.Length) { _used = 0; }
        IoVec room = _memory.Slice(_used, length);
        _used += (length + 7) & ~7;
        return room;
    }

    public IoVecs List(IoVec vec)
    {
        if (_lists.Count < 8) { _lists.Add(new IoVecList(1)); }
        IoVecList list = _lists[_nextList++ % _lists.Count];
        list.Clear();
        list.Add(vec);
        return list.View();
    }

    public static ulong Hash(ReadOnlySpan<byte> bytes)
    {
        ContentHash hash = default;
        hash.Add(bytes);
        return hash.Value;
    }

    public IoVec Text(string text) => Copy(Encoding.UTF8.GetBytes(text));

    private IoVec Copy(byte[] bytes)
    {
        IoVec room = Room(bytes.Length);
        bytes.CopyTo(room.Span);
        return room;
    }

    /// <summary>Bytes that say where in the content they belong, so that a mixture of two writes shows.</summary>
    private IoVec Bytes(int length, int kind)
    {
        IoVec room = Room(length);
        Span<byte> bytes = room.Span;
        for (int i = 0; i < bytes.Length; i++) { bytes[i] = (byte)((i * 7) + (i >> 8) + kind + 1); }
        return room;
    }

    private async IoTask<string> On(string path, Func<ulong, IoTask<string>> work)
    {
        FsResult<ulong> found = await FindAsync(path);
        string result = found.IsError ? found.Errno.ToString() : await work(found.Value);
        if (Forgets) { ForgetFound(); }
        return result;
    }

    private IoTask<string> In(string directory, string name, Func<ulong, IoVec, IoTask<string>> work) => On(directory, parent => work(parent, Text(name)));

    private IoTask<string> Born(string directory, string name, Func<ulong, IoVec, IoTask<FsResult<InodeAttributes>>> make) => In(directory, name, async (parent, child) =>
    {
        FsResult<InodeAttributes> made = await make(parent, child);
        if (!made.IsError) { _found.Add(made.Value.Inode); }
        return Text(made);
    });

    private static async IoTask<string> Told(IoTask<FsResult<InodeAttributes>> asked) => Text(await asked);

    private static string Text(FsResult<InodeAttributes> result) => result.IsError ? result.Errno.ToString() : Text(result.Value);

    private static string Text(IoResult result) => result.IsError ? result.Errno.ToString() : $"{result.Bytes} bytes";

    /// <summary>All but the inode number, which depends on what was tried before, and blocks, which depend on how it is stored.</summary>
    public static string Text(in InodeAttributes a) =>
        $"mode {Convert.ToString(a.Mode, 8)} links {a.LinkCount} owner {a.Uid}:{a.Gid} device {a.DeviceNumber:x} size {a.SizeBytes} times {a.ModifyTime.Seconds} {a.ChangeTime.Seconds} {a.BirthTime.Seconds}";
}

/// <summary>One entry of a POSIX ACL; only a named user or group has an id.</summary>
public readonly record struct AclEntry(ushort Tag, ushort Bits, uint Id = uint.MaxValue);

/// <summary>Takes the names of a READDIR or READDIRPLUS, a few per call.</summary>
public sealed class NameWriter(bool plus) : DirectoryWriter
{
    private const int PerCall = 64;

    public List<string> Names { get; } = [];

    public List<ulong> Referenced { get; } = [];

    public ulong LastCookie { get; private set; }

    public override bool WantsAttributes => plus;

    public override bool TryAdd(ReadOnlySpan<byte> name, ulong inode, ulong cookie, uint type)
    {
        if (Names.Count == PerCall) { return false; }
        Names.Add($"{Encoding.UTF8.GetString(name)}:{type}");
        LastCookie = cookie;
        return true;
    }

    public override bool TryAdd(ReadOnlySpan<byte> name, in InodeAttributes attributes, ulong cookie)
    {
        if (!TryAdd(name, attributes.Inode, cookie, attributes.Mode >> 12)) { return false; }
        Referenced.Add(attributes.Inode);
        return true;
    }
}
