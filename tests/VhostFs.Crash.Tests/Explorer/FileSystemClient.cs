using System.Text;
using VhostFs.Fuse;
using VhostFs.Linux;
using VhostFs.Reactor;

namespace VhostFs.Crash.Tests.Explorer;

/// <summary>What is made durable after an operation.</summary>
public enum Persistence
{
    None,
    Fsync,
    Fdatasync,
    Sync,
}

/// <summary>Does each operation twice: in the file system and in the model; and keeps the history of the model.</summary>
/// <remarks>Called only with what must succeed: an error other than ENOSPC is a finding. ENOSPC leaves both as they were.</remarks>
public sealed class FileSystemClient(FileSystemCalls calls, FileSystemModel model, CrashTrace trace, ContentHistory history)
{
    public const uint Exchange = 2;
    public const uint KeepSize = 1, PunchHole = 3, ZeroRange = 0x10;

    private const int BlockBytes = 4096;
    private const uint FilePermissions = 0x1A4, DirectoryPermissions = 0x1ED;

    /// <summary>Files that are open, with or without a name.</summary>
    private readonly List<ModelNode> _open = [];

    public FileSystemModel Model => model;

    public IReadOnlyList<ModelNode> Open => _open;

    public async IoTask<ModelNode?> CreateAsync(ModelNode directory, string name) =>
        await MakeAsync(directory, name, FileSystemModel.Regular | FilePermissions, () => calls.MakeFileAsync(directory.Inode, name, FileSystemModel.Regular | FilePermissions));

    public async IoTask<ModelNode?> MakeDirectoryAsync(ModelNode directory, string name) =>
        await MakeAsync(directory, name, FileSystemModel.Directory | DirectoryPermissions, () => calls.MakeDirectoryAsync(directory.Inode, name, DirectoryPermissions));

    public async IoTask<ModelNode?> SymlinkAsync(ModelNode directory, string name, string target) =>
        await MakeAsync(directory, name, FileSystemModel.Link | 0x1FF, () => calls.SymlinkAsync(directory.Inode, name, target), node => node.SetContent(Encoding.UTF8.GetBytes(target)));

    /// <summary>A file without a name, open.</summary>
    public async IoTask<ModelNode?> TemporaryFileAsync(ModelNode directory)
    {
        FsResult<InodeAttributes> made = await calls.TemporaryFileAsync(directory.Inode, FilePermissions);
        if (Failed(made.Errno, "O_TMPFILE")) { return null; }
        var node = new ModelNode(made.Value.Inode, FileSystemModel.Regular | FilePermissions);
        _open.Add(node);
        return node;
    }

    public IoTask<Errno> LinkAsync(ModelNode node, ModelNode directory, string name) =>
        ChangeAsync($"link {name}", async () => (await calls.LinkAsync(node.Inode, directory.Inode, name)).Errno, () => directory.Entries!.Add(name, node));

    public IoTask<Errno> UnlinkAsync(ModelNode directory, string name) =>
        ChangeAsync($"unlink {name}", () => calls.UnlinkAsync(directory.Inode, name), () => directory.Entries!.Remove(name));

    public IoTask<Errno> RemoveDirectoryAsync(ModelNode directory, string name) =>
        ChangeAsync($"rmdir {name}", () => calls.RemoveDirectoryAsync(directory.Inode, name), () => directory.Entries!.Remove(name));

    public IoTask<Errno> RenameAsync(ModelNode directory, string name, ModelNode newDirectory, string newName, uint flags) =>
        ChangeAsync($"rename {name} {newName}", () => calls.RenameAsync(directory.Inode, name, newDirectory.Inode, newName, flags), () =>
        {
            ModelNode moved = directory.Entries![name];
            newDirectory.Entries!.TryGetValue(newName, out ModelNode? other);
            if (other == moved) { return; } // two names of one file: rename(2) does nothing
            directory.Entries.Remove(name);
            newDirectory.Entries[newName] = moved;
            if (flags == Exchange) { directory.Entries[name] = other!; }
        });

    public IoTask<Errno> WriteAsync(ModelNode node, long offset, byte[] bytes) =>
        ChangeAsync($"write {offset}+{bytes.Length}", () => calls.WriteAsync(node.Inode, offset, bytes), () => Splice(node, offset, bytes));

    public IoTask<Errno> TruncateAsync(ModelNode node, long size) =>
        ChangeAsync($"truncate {size}", () => calls.SetSizeAsync(node.Inode, size), () => Resize(node, size));

    public IoTask<Errno> SetModeAsync(ModelNode node, uint permissions)
    {
        uint mode = (node.Mode & FileSystemModel.TypeMask) | permissions;
        return ChangeAsync($"chmod {permissions:x}", () => calls.SetModeAsync(node.Inode, mode), () => node.Mode = mode);
    }

    public IoTask<Errno> SetXattrAsync(ModelNode node, string name, byte[] value) =>
        ChangeAsync($"setxattr {name} {value.Length}", () => calls.SetXattrAsync(node.Inode, name, value), () => node.Xattrs[name] = value);

    public IoTask<Errno> RemoveXattrAsync(ModelNode node, string name) =>
        ChangeAsync($"removexattr {name}", () => calls.RemoveXattrAsync(node.Inode, name), () => node.Xattrs.Remove(name));

    /// <summary>fallocate(2). A zeroed range that grows the file is zeroed first: a crash may come in between.</summary>
    public IoTask<Errno> FallocateAsync(ModelNode node, uint mode, long offset, long length)
    {
        bool zeroes = mode == PunchHole || (mode & ZeroRange) != 0, grows = (mode & KeepSize) == 0;
        byte[] before = node.Content;
        return ChangeAsync($"fallocate {mode:x} {offset}+{length}", () => calls.FallocateAsync(node.Inode, mode, offset, length),
            () =>
            {
                if (!zeroes || offset >= node.Content.Length) { return; }
                byte[] zeroed = (byte[])before.Clone();
                zeroed.AsSpan((int)offset, (int)Math.Min(length, zeroed.Length - offset)).Clear();
                node.SetContent(zeroed);
            },
            () =>
            {
                if (grows && node.Content.Length < offset + length) { Resize(node, offset + length); }
            });
    }

    /// <summary>copy_file_range(2). Blocks that can be shared are, in steps, between a ragged start and a ragged end: a crash may come after each block.</summary>
    public async IoTask<Errno> CopyAsync(ModelNode source, long sourceOffset, ModelNode target, long targetOffset, int length)
    {
        long before = trace.Now;
        IoResult copied = await calls.CopyAsync(source.Inode, sourceOffset, target.Inode, targetOffset, length);
        if (Failed(copied.Errno, "copy_file_range")) { return copied.Errno; }
        bool isStepwise = (sourceOffset - targetOffset) % BlockBytes == 0;
        for (int done = 0, step; done < copied.Bytes; done += step)
        {
            step = Math.Min(copied.Bytes - done, isStepwise ? BlockBytes - (int)((sourceOffset + done) % BlockBytes) : copied.Bytes);
            Splice(target, targetOffset + done, source.Content.AsSpan((int)sourceOffset + done, step).ToArray());
            history.AddAt(before, model.Hash());
        }
        history.Replied(history.Current);
        return Errno.None;
    }

    /// <summary>Null, or how its content differs.</summary>
    public async IoTask<string?> ReadAsync(ModelNode node) =>
        await calls.ReadAsync(node.Inode, node.Content.Length) is { } read && read.AsSpan().SequenceEqual(node.Content) ? null : $"inode {node.Inode} does not read as it was written";

    public async IoTask<Errno> OpenAsync(ModelNode node)
    {
        Errno opened = (await calls.Session.OpenAsync(node.Inode, 2, false)).Errno;
        if (!Failed(opened, "open")) { _open.Add(node); }
        return opened;
    }

    /// <summary>Closes; a file without a name is on its way out from here on.</summary>
    public async IoTask<Errno> CloseAsync(ModelNode node)
    {
        _open.Remove(node);
        return await calls.Session.ReleaseAsync(node.Inode, 0);
    }

    public async IoTask<Errno> PersistAsync(Persistence how, ModelNode node)
    {
        int version = history.Current;
        bool isDirectory = node.Entries is not null;
        Errno done = how switch
        {
            Persistence.Fsync => isDirectory ? await calls.Session.FsyncDirectoryAsync(node.Inode, 0, false) : await calls.Session.FsyncAsync(node.Inode, 0, false),
            Persistence.Fdatasync => isDirectory ? await calls.Session.FsyncDirectoryAsync(node.Inode, 0, true) : await calls.Session.FsyncAsync(node.Inode, 0, true),
            Persistence.Sync => await calls.Session.SyncFsAsync(),
            _ => Errno.None,
        };
        if (how != Persistence.None && !Failed(done, how.ToString())) { history.Durable(version); }
        return done;
    }

    /// <summary>Null, or how the file system differs from the model right now.</summary>
    public async IoTask<string?> CompareAsync()
    {
        var there = new FileSystemModel(model.Root.Inode);
        if (await FileSystemReader.ReadAsync(calls, there) is { } problem) { return $"before any crash: {problem}"; }
        return there.Hash() == model.Hash() ? null : $"before any crash, the file system is not what was done to it; it should be\n{model.Describe()}\nand is\n{there.Describe()}";
    }

    private async IoTask<ModelNode?> MakeAsync(ModelNode directory, string name, uint mode, Func<IoTask<FsResult<InodeAttributes>>> call, Action<ModelNode>? fill = null)
    {
        FsResult<InodeAttributes> made = default;
        ModelNode? node = null;
        Errno done = await ChangeAsync($"create {name}",
            async () =>
            {
                made = await call();
                return made.Errno;
            },
            () =>
            {
                node = new ModelNode(made.Value.Inode, mode);
                fill?.Invoke(node);
                directory.Entries!.Add(name, node);
            });
        return done == Errno.None ? node : null;
    }

    private async IoTask<Errno> ChangeAsync(string what, Func<IoTask<Errno>> call, params Action[] steps)
    {
        long before = trace.Now;
        Errno done = await call();
        if (Failed(done, what)) { return done; }
        foreach (Action step in steps)
        {
            step();
            history.AddAt(before, model.Hash());
        }
        history.Replied(history.Current);
        return Errno.None;
    }

    private static bool Failed(Errno done, string what)
    {
        if (done is not (Errno.None or Errno.ENOSPC)) { throw new InvalidOperationException($"{what} was refused: {done}"); }
        return done != Errno.None;
    }

    private static void Splice(ModelNode node, long offset, byte[] bytes)
    {
        byte[] content = new byte[Math.Max(node.Content.Length, offset + bytes.Length)];
        node.Content.CopyTo(content, 0);
        bytes.CopyTo(content, offset);
        node.SetContent(content);
    }

    private static void Resize(ModelNode node, long size)
    {
        byte[] content = node.Content;
        Array.Resize(ref content, (int)size);
        node.SetContent(content);
    }
}
