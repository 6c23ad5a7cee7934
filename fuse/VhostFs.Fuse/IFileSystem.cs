using VhostFs.Linux;
using VhostFs.Reactor;

namespace VhostFs.Fuse;

/// <summary>One session's view of a file system: what the FUSE server needs from it, in POSIX terms.</summary>
/// <remarks>
/// <para>A node id is an inode number; 1 is the root directory. The session keeps one lookup reference per successful
/// Lookup, Symlink, MakeNode, MakeDirectory, Link, Create, TemporaryFile and per READDIRPLUS entry (not "." and ".."), and one open
/// reference per Open, Create, TemporaryFile and OpenDirectory. An inode without a name lives until no session refers to it.
/// Forget and Release are hostile input: counts saturate and never free an object in use.</para>
/// <para>Names have passed the server's one validator: 1 to 255 bytes, no '/', no NUL, not "." or "..";
/// only <see cref="LookupAsync"/> may also be asked for "." and ".." (NFS export).
/// Permission bits are checked by the guest kernel (default_permissions); set-id rules, sticky bits of ownership changes and ACL inheritance are kept here.</para>
/// <para>Buffers (names, values, payload lists) are valid until the returned task completes; names and values are private copies,
/// payload lists are guest memory and may change at any time. A change is visible when the task completes and survives
/// the death of the process from then on; it survives a power cut after the next sync.</para>
/// </remarks>
public interface IFileSystem
{
    IoTask<FsResult<InodeAttributes>> LookupAsync(ulong parent, IoVec name);

    /// <summary>Drops lookup references. Never fails; unknown nodes are ignored.</summary>
    void Forget(ulong node, ulong count);

    IoTask<FsResult<InodeAttributes>> GetAttributesAsync(ulong node);

    IoTask<FsResult<InodeAttributes>> SetAttributesAsync(FuseCaller caller, ulong node, SetAttributes changes);

    /// <summary>Sets the flags of chattr(1) that are in <paramref name="changeable"/>: those in <paramref name="flags"/> on, the others off. Files and directories only (ENOTTY).
    /// What immutable and append-only mean is enforced by the file system.</summary>
    IoTask<Errno> SetFlagsAsync(FuseCaller caller, ulong node, FsFlags flags, FsFlags changeable);

    /// <summary>Writes the target of a symbolic link to <paramref name="target"/> (4,096 bytes); returns its length.</summary>
    IoTask<IoResult> ReadLinkAsync(ulong node, IoVec target);

    IoTask<FsResult<InodeAttributes>> SymlinkAsync(CreateContext context, ulong parent, IoVec name, IoVec linkTarget);

    /// <summary>Makes a regular file, device, fifo or socket; <paramref name="mode"/> carries the type.</summary>
    IoTask<FsResult<InodeAttributes>> MakeNodeAsync(CreateContext context, ulong parent, IoVec name, uint mode, uint deviceNumber);

    IoTask<FsResult<InodeAttributes>> MakeDirectoryAsync(CreateContext context, ulong parent, IoVec name, uint mode);

    IoTask<Errno> UnlinkAsync(ulong parent, IoVec name);

    IoTask<Errno> RemoveDirectoryAsync(ulong parent, IoVec name);

    /// <param name="flags">RENAME_NOREPLACE 1, RENAME_EXCHANGE 2, RENAME_WHITEOUT 4, as in renameat2(2).</param>
    IoTask<Errno> RenameAsync(FuseCaller caller, ulong parent, IoVec name, ulong newParent, IoVec newName, uint flags);

    IoTask<FsResult<InodeAttributes>> LinkAsync(ulong node, ulong newParent, IoVec newName);

    /// <summary>Opens a file. The handle is data (flags), not a pointer, so it stays meaningful across a restart.</summary>
    /// <param name="openFlags">O_* flags; O_TRUNC truncates (ATOMIC_O_TRUNC).</param>
    /// <param name="killPrivileges">FUSE_OPEN_KILL_SUIDGID: clear set-id bits when truncating.</param>
    IoTask<FsResult<ulong>> OpenAsync(ulong node, uint openFlags, bool killPrivileges);

    IoTask<FsResult<CreatedFile>> CreateAsync(CreateContext context, ulong parent, IoVec name, uint mode, uint openFlags, bool killPrivileges);

    /// <summary>O_TMPFILE: a regular file without a name in the file system of <paramref name="parent"/>.</summary>
    IoTask<FsResult<CreatedFile>> TemporaryFileAsync(CreateContext context, ulong parent, uint mode, uint openFlags);

    /// <summary>Reads up to the length of <paramref name="target"/>; fewer bytes only at the end of the file.</summary>
    IoTask<IoResult> ReadAsync(ulong node, ulong handle, long offsetBytes, IoVecs target);

    /// <summary>Writes all of <paramref name="source"/>. With O_APPEND in <paramref name="openFlags"/> and not from the guest's write-back cache
    /// (<paramref name="fromCache"/>), the offset is ignored and the data goes atomically to the end, across sessions.</summary>
    IoTask<IoResult> WriteAsync(ulong node, ulong handle, long offsetBytes, IoVecs source, uint openFlags, bool fromCache, bool killPrivileges);

    /// <summary>close(2): the byte-range locks of <paramref name="lockOwner"/> on this file end, however often it is still open.</summary>
    IoTask<Errno> FlushAsync(ulong node, ulong handle, ulong lockOwner);

    /// <summary>The last close of an open file: what was locked through it ends, too.</summary>
    IoTask<Errno> ReleaseAsync(ulong node, ulong handle);

    IoTask<Errno> FsyncAsync(ulong node, ulong handle, bool dataOnly);

    IoTask<FsResult<ulong>> OpenDirectoryAsync(ulong node, uint openFlags);

    /// <summary>Adds entries after <paramref name="cookie"/> (0: from the start) until the writer is full. "." and ".." come first.</summary>
    IoTask<Errno> ReadDirectoryAsync(ulong node, ulong handle, ulong cookie, DirectoryWriter writer);

    IoTask<Errno> ReleaseDirectoryAsync(ulong node, ulong handle);

    IoTask<Errno> FsyncDirectoryAsync(ulong node, ulong handle, bool dataOnly);

    /// <summary>Returns the value's length; fills <paramref name="target"/> unless it is empty (a size query). ERANGE: it does not fit.</summary>
    IoTask<IoResult> GetXattrAsync(ulong node, IoVec name, IoVec target);

    /// <summary>Names, each followed by NUL; an empty target is a size query (an upper bound). ERANGE: they do not fit. Names in trusted.* are told to root, and to a caller that is not known.</summary>
    IoTask<IoResult> ListXattrAsync(FuseCaller caller, ulong node, IoVec target);

    /// <param name="flags">XATTR_CREATE 1, XATTR_REPLACE 2.</param>
    /// <param name="killSgid">FUSE_SETXATTR_ACL_KILL_SGID.</param>
    IoTask<Errno> SetXattrAsync(ulong node, IoVec name, IoVec value, uint flags, bool killSgid);

    IoTask<Errno> RemoveXattrAsync(ulong node, IoVec name);

    IoTask<FsResult<FsStatistics>> StatFsAsync();

    /// <param name="mode">FALLOC_FL_KEEP_SIZE 1, PUNCH_HOLE 2, ZERO_RANGE 0x10; others are EOPNOTSUPP.</param>
    /// <remarks>Clears set-id bits unless it is known that root asks: as with a write, but the request has no flag for it.</remarks>
    IoTask<Errno> FallocateAsync(FuseCaller caller, ulong node, ulong handle, uint mode, long offsetBytes, long lengthBytes);

    /// <param name="whence">SEEK_DATA 3 or SEEK_HOLE 4.</param>
    IoTask<FsResult<long>> SeekAsync(ulong node, ulong handle, long offsetBytes, uint whence);

    /// <summary>Copies up to <paramref name="lengthBytes"/>; may copy less, 0 at the end of the source.</summary>
    IoTask<IoResult> CopyFileRangeAsync(ulong sourceNode, ulong sourceHandle, long sourceOffset, ulong targetNode, ulong targetHandle, long targetOffset, long lengthBytes);

    /// <summary>Makes everything replied to so far durable.</summary>
    IoTask<Errno> SyncFsAsync();

    /// <summary>Locks between sessions; null: there are none, and they stay local to each guest.</summary>
    IFileLocks? Locks => null;

    /// <summary>The session is over (DESTROY, a second INIT, a reset, a disconnect): drops all its references. It may begin anew afterwards.</summary>
    /// <remarks>An operation that began before and completes after still makes its reference; the server takes it back at once.</remarks>
    void EndSession();
}
