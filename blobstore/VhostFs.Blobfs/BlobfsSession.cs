using VhostFs.Fuse;
using VhostFs.Linux;
using VhostFs.Reactor;

namespace VhostFs.Blobfs;

/// <summary>One FUSE session on a mounted volume: its references, and the operations bound to them.</summary>
public sealed class BlobfsSession : IFileSystem
{
    private const uint O_APPEND = 0x400;
    private const uint MaxNameBytes = FileLimits.MaxNameBytes;

    /// <summary>Estimate of inodes per free block for statfs(2); the real bound is space.</summary>
    private const long InodesPerBlock = 4;

    private readonly BlobfsState _state;
    private readonly SessionReferences _references;
    private readonly Names _names;
    private readonly Renames _renames;
    private readonly Attributes _attributes;
    private readonly ContentLocks _locks;
    private readonly InlineContent _inline;
    private readonly Opens _opens;
    private readonly FileReads _reads;
    private readonly FileWrites _writes;
    private readonly Allocation _allocation;
    private readonly CopyRange _copies;
    private readonly Directories _directories;
    private readonly Xattrs _xattrs;
    private readonly SessionLocks _fileLocks;
    private readonly InodeFlagRules _flags;
    private readonly ChangeNotices _notices;

    internal BlobfsSession(BlobfsState state, AccessTimeMode accessTimeMode)
    {
        _state = state;
        _references = new SessionReferences(state.References, state.Options.MaxInodesPerSession, state.Options.MaxOpensPerSession);
        _notices = new ChangeNotices(state, _references);
        var creation = new Creation(state);
        var accessTimes = new AccessTimes(state, accessTimeMode);
        _names = new Names(state, _references, creation, _notices);
        _renames = new Renames(state, _names, creation, _notices);
        _attributes = new Attributes(state, _notices);
        _locks = new ContentLocks(state, _attributes);
        _inline = new InlineContent(state);
        _opens = new Opens(state, _references, _names, SetSizeAsync);
        _reads = new FileReads(state, _inline, accessTimes);
        _writes = new FileWrites(state, _locks, _inline, _attributes, _notices);
        _allocation = new Allocation(state, _locks, _inline, _attributes, _notices);
        _copies = new CopyRange(_reads, _writes, _attributes, new ShareRange(state, _locks, _inline, _attributes, _notices));
        _directories = new Directories(state, _references, accessTimes);
        _xattrs = new Xattrs(state, _notices);
        _fileLocks = new SessionLocks(state.Locks, state.Options.MaxLocksPerSession, state.Options.MaxLockWaitersPerSession);
        _flags = new InodeFlagRules(state, _notices);
    }

    public IFileLocks Locks => _fileLocks;

    /// <summary>From now on, and until the session ends, what other sessions change is told to this one's kernel.</summary>
    public void KeepUpToDate(IKernelCache cache) => _notices.Listen(cache);

    /// <summary>Inodes this session refers to.</summary>
    public int ReferencedInodes => _references.Count;

    public IoTask<FsResult<InodeAttributes>> LookupAsync(ulong parent, IoVec name) => _names.LookupAsync(parent, name);

    public void Forget(ulong node, ulong count) => _references.Forget(node, count);

    public IoTask<FsResult<InodeAttributes>> GetAttributesAsync(ulong node) => _attributes.GetAsync(node);

    public IoTask<FsResult<InodeAttributes>> SetAttributesAsync(FuseCaller caller, ulong node, SetAttributes changes)
    {
        if (!Attributes.IsValid(changes)) { return new IoTask<FsResult<InodeAttributes>>(Errno.EINVAL); }
        // chown(path, -1, -1) sets nothing, and POSIX lets it leave the change time alone.
        if (changes == default) { return _attributes.GetAsync(node); }
        if (changes.DropPrivileges) { return _attributes.DropPrivilegesAsync(node, marks: changes.KillPrivileges); }
        return changes.SizeBytes is null ? _attributes.SetAsync(node, changes) : SetSizeAsync(node, changes);
    }

    public IoTask<Errno> SetFlagsAsync(FuseCaller caller, ulong node, FsFlags flags, FsFlags changeable) => _flags.SetAsync(caller, node, flags, changeable);

    public IoTask<IoResult> ReadLinkAsync(ulong node, IoVec target) => _reads.ReadLinkAsync(node, target);

    public IoTask<FsResult<InodeAttributes>> SymlinkAsync(CreateContext context, ulong parent, IoVec name, IoVec linkTarget)
    {
        if (linkTarget.IsEmpty) { return new IoTask<FsResult<InodeAttributes>>(Errno.ENOENT); }
        if (linkTarget.Length > FileLimits.MaxLinkTargetBytes) { return new IoTask<FsResult<InodeAttributes>>(Errno.ENAMETOOLONG); }
        return _names.CreateAsync(parent, name, new NewObject(context, FileMode.S_IFLNK | 0x1FF, 0, linkTarget), open: false);
    }

    public IoTask<FsResult<InodeAttributes>> MakeNodeAsync(CreateContext context, ulong parent, IoVec name, uint mode, uint deviceNumber)
    {
        uint type = mode & FileMode.S_IFMT;
        if (type == 0) { type = FileMode.S_IFREG; }
        if (type is not (FileMode.S_IFREG or FileMode.S_IFCHR or FileMode.S_IFBLK or FileMode.S_IFIFO or FileMode.S_IFSOCK))
        {
            return new IoTask<FsResult<InodeAttributes>>(type == FileMode.S_IFDIR ? Errno.EPERM : Errno.EINVAL);
        }
        uint device = type is FileMode.S_IFCHR or FileMode.S_IFBLK ? deviceNumber : 0;
        return _names.CreateAsync(parent, name, new NewObject(context, type | (mode & FileMode.PermissionMask), device), open: false);
    }

    public IoTask<FsResult<InodeAttributes>> MakeDirectoryAsync(CreateContext context, ulong parent, IoVec name, uint mode) =>
        _names.CreateAsync(parent, name, new NewObject(context, FileMode.S_IFDIR | (mode & FileMode.PermissionMask)), open: false);

    public IoTask<Errno> UnlinkAsync(ulong parent, IoVec name) => _names.RemoveAsync(parent, name, directory: false);

    public IoTask<Errno> RemoveDirectoryAsync(ulong parent, IoVec name) => _names.RemoveAsync(parent, name, directory: true);

    public IoTask<Errno> RenameAsync(FuseCaller caller, ulong parent, IoVec name, ulong newParent, IoVec newName, uint flags) =>
        _renames.RenameAsync(caller, parent, name, newParent, newName, flags);

    public IoTask<FsResult<InodeAttributes>> LinkAsync(ulong node, ulong newParent, IoVec newName) => _names.LinkAsync(node, newParent, newName);

    public IoTask<FsResult<ulong>> OpenAsync(ulong node, uint openFlags, bool killPrivileges) => _opens.OpenAsync(node, openFlags, killPrivileges);

    public IoTask<FsResult<CreatedFile>> CreateAsync(CreateContext context, ulong parent, IoVec name, uint mode, uint openFlags, bool killPrivileges) =>
        _opens.CreateAsync(context, parent, name, mode, openFlags, killPrivileges);

    public IoTask<FsResult<CreatedFile>> TemporaryFileAsync(CreateContext context, ulong parent, uint mode, uint openFlags) =>
        _opens.CreateTemporaryAsync(context, parent, mode, openFlags);

    public IoTask<IoResult> ReadAsync(ulong node, ulong handle, long offsetBytes, IoVecs target) => _reads.ReadAsync(node, handle, offsetBytes, target);

    public IoTask<IoResult> WriteAsync(ulong node, ulong handle, long offsetBytes, IoVecs source, uint openFlags, bool fromCache, bool killPrivileges) =>
        _writes.WriteAsync(node, offsetBytes, source, (openFlags & O_APPEND) != 0 && !fromCache, fromCache, killPrivileges);

    /// <summary>Every write is visible and survives the process when it is replied to: closing a descriptor only ends locks.</summary>
    public IoTask<Errno> FlushAsync(ulong node, ulong handle, ulong lockOwner)
    {
        _fileLocks.EndOwner(node, lockOwner);
        return new IoTask<Errno>(Errno.None);
    }

    public IoTask<Errno> ReleaseAsync(ulong node, ulong handle)
    {
        _fileLocks.EndHandle(node, handle);
        _references.Close(node);
        return new IoTask<Errno>(Errno.None);
    }

    // One log for everything: making one file durable makes all that came before durable, and costs the same flush.
    public IoTask<Errno> FsyncAsync(ulong node, ulong handle, bool dataOnly) => _state.Volume.SyncAsync();

    public IoTask<FsResult<ulong>> OpenDirectoryAsync(ulong node, uint openFlags) => _opens.OpenDirectoryAsync(node, openFlags);

    public IoTask<Errno> ReadDirectoryAsync(ulong node, ulong handle, ulong cookie, DirectoryWriter writer) => _directories.ReadAsync(node, handle, cookie, writer);

    public IoTask<Errno> ReleaseDirectoryAsync(ulong node, ulong handle) => ReleaseAsync(node, handle);

    public IoTask<Errno> FsyncDirectoryAsync(ulong node, ulong handle, bool dataOnly) => _state.Volume.SyncAsync();

    public IoTask<IoResult> GetXattrAsync(ulong node, IoVec name, IoVec target) => _xattrs.GetAsync(node, name, target);

    public IoTask<IoResult> ListXattrAsync(FuseCaller caller, ulong node, IoVec target) => _xattrs.ListAsync(node, target, withTrusted: caller.IsRoot || caller.IsUnknown);

    public IoTask<Errno> SetXattrAsync(ulong node, IoVec name, IoVec value, uint flags, bool killSgid) => _xattrs.SetAsync(node, name, value, flags, killSgid);

    public IoTask<Errno> RemoveXattrAsync(ulong node, IoVec name) => _xattrs.RemoveAsync(node, name);

    public IoTask<FsResult<FsStatistics>> StatFsAsync()
    {
        Blobstore.VolumeSpace space = _state.Volume.Space;
        long limit = _state.Volume.Quota.Inodes, used = Math.Max(_state.Volume.InodeCount, 0), available = Math.Max(space.AvailableBlocks, 0);
        long freeFiles = limit > 0 ? Math.Max(limit - used, 0) : available * InodesPerBlock;
        return new IoTask<FsResult<FsStatistics>>(new FsStatistics(
            (ulong)Math.Max(space.TotalBlocks, 0), (ulong)Math.Max(space.FreeBlocks, 0), (ulong)available, (ulong)(limit > 0 ? limit : used + freeFiles), (ulong)freeFiles,
            (uint)FileLimits.BlockBytes, MaxNameBytes));
    }

    // When the kernel does not tell the caller, it has had the set-id bits taken away before, if need be.
    public IoTask<Errno> FallocateAsync(FuseCaller caller, ulong node, ulong handle, uint mode, long offsetBytes, long lengthBytes) =>
        _allocation.FallocateAsync(node, mode, offsetBytes, lengthBytes, killPrivileges: !caller.IsRoot && !caller.IsUnknown);

    public IoTask<FsResult<long>> SeekAsync(ulong node, ulong handle, long offsetBytes, uint whence) => _reads.SeekAsync(node, offsetBytes, whence);

    public IoTask<IoResult> CopyFileRangeAsync(ulong sourceNode, ulong sourceHandle, long sourceOffset, ulong targetNode, ulong targetHandle, long targetOffset, long lengthBytes) =>
        _copies.CopyAsync(sourceNode, sourceOffset, targetNode, targetOffset, lengthBytes);

    public IoTask<Errno> SyncFsAsync() => _state.Volume.SyncAsync();

    /// <summary>The session began with another process: it may have open whatever has no name any more, and refers to all of that until its kernel says FORGET.</summary>
    public void Resume()
    {
        _references.IsResumed = true;
        foreach (ulong inode in _state.Orphans.Heirless) { _references.Presume(inode); }
    }

    public void EndSession()
    {
        _notices.StopListening();
        _references.Clear();
        _fileLocks.Clear();
    }

    private IoTask<FsResult<InodeAttributes>> SetSizeAsync(ulong node, SetAttributes changes) =>
        _state.Truncation.SetSizeAsync(_locks, _inline, _attributes, _notices, node, changes);
}
