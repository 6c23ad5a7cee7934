using VhostFs.Fuse;
using VhostFs.Linux;
using VhostFs.Reactor;

namespace VhostFs.Blobfs;

/// <summary>OPEN, OPENDIR and CREATE for one session. A handle is the open flags, and above them a number of its own, by which the locks
/// made through it end with it: it means the same after a restart.</summary>
internal sealed class Opens(BlobfsState state, SessionReferences references, Names names, Func<ulong, SetAttributes, IoTask<FsResult<InodeAttributes>>> setSize)
{
    private const uint O_EXCL = 0x80;
    private const uint O_TRUNC = 0x200;

    private uint _lastOpened;

    public IoTask<FsResult<ulong>> OpenAsync(ulong node, uint openFlags, bool killPrivileges)
    {
        IoTask<FsResult<ulong>> opened = state.Loop.Read<OpenRead, ulong>(new OpenRead(this, node, openFlags, Directory: false));
        return (openFlags & O_TRUNC) == 0 ? opened : TruncateAsync(opened, node, killPrivileges);
    }

    public IoTask<FsResult<ulong>> OpenDirectoryAsync(ulong node, uint openFlags) =>
        state.Loop.Read<OpenRead, ulong>(new OpenRead(this, node, openFlags, Directory: true));

    public IoTask<FsResult<CreatedFile>> CreateAsync(CreateContext context, ulong parent, IoVec name, uint mode, uint openFlags, bool killPrivileges)
    {
        var what = new NewObject(context, (mode & FileMode.PermissionMask) | FileMode.S_IFREG);
        IoTask<FsResult<InodeAttributes>> created = names.CreateAsync(parent, name, what, open: true);
        return FinishCreateAsync(created, parent, name, openFlags, killPrivileges);
    }

    public async IoTask<FsResult<CreatedFile>> CreateTemporaryAsync(CreateContext context, ulong parent, uint mode, uint openFlags)
    {
        var what = new NewObject(context, (mode & FileMode.PermissionMask) | FileMode.S_IFREG);
        FsResult<InodeAttributes> created = await names.CreateTemporaryAsync(parent, what);
        return created.IsError ? created.Errno : new CreatedFile(created.Value, NewHandle(openFlags));
    }

    private async IoTask<FsResult<CreatedFile>> FinishCreateAsync(IoTask<FsResult<InodeAttributes>> creating, ulong parent, IoVec name, uint openFlags, bool killPrivileges)
    {
        FsResult<InodeAttributes> file = await creating;
        if (!file.IsError) { return new CreatedFile(file.Value, NewHandle(openFlags)); }
        if (file.Errno != Errno.EEXIST || (openFlags & O_EXCL) != 0) { return file.Errno; }
        // Another session made it since the guest's kernel looked: open(2) without O_EXCL opens it.
        file = await names.LookupAsync(parent, name);
        if (file.IsError) { return file.Errno; }
        ulong node = file.Value.Inode;
        FsResult<ulong> opened = await OpenAsync(node, openFlags, killPrivileges);
        FsResult<InodeRecord> now = default;
        if (!opened.IsError) { now = await state.Loop.Read<RecordRead, InodeRecord>(new RecordRead(state, node)); }
        if (opened.IsError || now.IsError)
        {
            if (!opened.IsError) { references.Close(node); }
            references.Forget(node, 1);
            return opened.IsError ? opened.Errno : now.Errno;
        }
        return new CreatedFile(now.Value.ToAttributes(node), opened.Value);
    }

    private async IoTask<FsResult<ulong>> TruncateAsync(IoTask<FsResult<ulong>> opening, ulong node, bool killPrivileges)
    {
        FsResult<ulong> opened = await opening;
        if (opened.IsError) { return opened; }
        FsResult<InodeAttributes> cut = await setSize(node, new SetAttributes(SizeBytes: 0, KillPrivileges: killPrivileges));
        if (!cut.IsError) { return opened; }
        references.Close(node);
        return cut.Errno;
    }

    private ulong NewHandle(uint openFlags) => ((ulong)++_lastOpened << 32) | openFlags;

    private Errno TryOpen(ulong node, uint openFlags, bool directory, out ulong handle)
    {
        handle = 0;
        Errno found = state.Volume.TryGetInode(node, out InodeRecord record);
        if (found != Errno.None) { return found; }
        if (directory && !record.IsDirectory) { return Errno.ENOTDIR; }
        if (!directory && !record.IsRegular) { return record.IsDirectory ? Errno.EISDIR : record.IsSymbolicLink ? Errno.ELOOP : Errno.ENXIO; }
        if (!directory)
        {
            found = Protection.OpenFile(record, openFlags);
            if (found != Errno.None) { return found; }
        }
        // A nameless inode that nobody refers to is on its way out.
        if (record.LinkCount == 0 && !state.References.Contains(node)) { return Errno.ESTALE; }
        if (!references.CanAdd(node, open: true)) { return Errno.ENFILE; }
        references.AddOpen(node);
        handle = NewHandle(openFlags);
        return Errno.None;
    }

    private readonly record struct OpenRead(Opens Opens, ulong Node, uint Flags, bool Directory) : ITreeRead<ulong>
    {
        public Errno Try(out ulong result) => Opens.TryOpen(Node, Flags, Directory, out result);
    }

    private readonly record struct RecordRead(BlobfsState State, ulong Node) : ITreeRead<InodeRecord>
    {
        public Errno Try(out InodeRecord result) => State.Volume.TryGetInode(Node, out result);
    }
}
