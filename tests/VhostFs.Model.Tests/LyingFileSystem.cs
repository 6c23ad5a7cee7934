using VhostFs.Fuse;
using VhostFs.Linux;
using VhostFs.Reactor;

namespace VhostFs.Model.Tests;

/// <summary>A mistake that a file system could make.</summary>
public enum Lie
{
    /// <summary>rmdir of a full directory says that there is such a file.</summary>
    WrongErrno,

    /// <summary>A byte of a file that grew is not zero.</summary>
    ByteInAHole,

    /// <summary>An unlink says that it was done, and was not.</summary>
    NotUnlinked,

    /// <summary>The last byte of a write is lost.</summary>
    ShortWrite,

    /// <summary>A write by somebody else leaves the set-user-id bit.</summary>
    KeptPrivileges,

    /// <summary>A rename does not heed "no replace".</summary>
    Replaced,

    /// <summary>A link count is told one too high.</summary>
    LinkCount,

    /// <summary>An exclusive creation of an xattr replaces.</summary>
    XattrReplaced,

    /// <summary>Forgetting does not forget.</summary>
    NotForgotten,

    /// <summary>A name is listed twice.</summary>
    ListedTwice,
}

/// <summary>A file system with one mistake: the model has to notice.</summary>
internal sealed class LyingFileSystem(IFileSystem inner, Lie lie) : IFileSystem
{
    public IoTask<FsResult<InodeAttributes>> LookupAsync(ulong parent, IoVec name) => inner.LookupAsync(parent, name);

    public void Forget(ulong node, ulong count)
    {
        if (lie != Lie.NotForgotten) { inner.Forget(node, count); }
    }

    public async IoTask<FsResult<InodeAttributes>> GetAttributesAsync(ulong node)
    {
        FsResult<InodeAttributes> told = await inner.GetAttributesAsync(node);
        return lie == Lie.LinkCount && told.Value.LinkCount > 2 ? told.Value with { LinkCount = told.Value.LinkCount + 1 } : told;
    }

    public async IoTask<FsResult<InodeAttributes>> SetAttributesAsync(FuseCaller caller, ulong node, SetAttributes changes)
    {
        FsResult<InodeAttributes> set = await inner.SetAttributesAsync(caller, node, changes);
        if (lie != Lie.ByteInAHole || set.IsError || changes.SizeBytes is not > 40_000) { return set; }
        using var memory = new NativeBuffer(1);
        using var list = new IoVecList(1);
        memory.Span[0] = 1;
        list.Add(memory.Vec);
        await inner.WriteAsync(node, 0, 39_999, list.View(), 2, false, false);
        return set;
    }

    public IoTask<Errno> SetFlagsAsync(FuseCaller caller, ulong node, FsFlags flags, FsFlags changeable) => inner.SetFlagsAsync(caller, node, flags, changeable);

    public IoTask<IoResult> ReadLinkAsync(ulong node, IoVec target) => inner.ReadLinkAsync(node, target);

    public IoTask<FsResult<InodeAttributes>> SymlinkAsync(CreateContext context, ulong parent, IoVec name, IoVec linkTarget) => inner.SymlinkAsync(context, parent, name, linkTarget);

    public IoTask<FsResult<InodeAttributes>> MakeNodeAsync(CreateContext context, ulong parent, IoVec name, uint mode, uint deviceNumber) => inner.MakeNodeAsync(context, parent, name, mode, deviceNumber);

    public IoTask<FsResult<InodeAttributes>> MakeDirectoryAsync(CreateContext context, ulong parent, IoVec name, uint mode) => inner.MakeDirectoryAsync(context, parent, name, mode);

    public async IoTask<Errno> UnlinkAsync(ulong parent, IoVec name)
    {
        if (lie != Lie.NotUnlinked || name.Length < 3) { return await inner.UnlinkAsync(parent, name); }
        FsResult<InodeAttributes> found = await inner.LookupAsync(parent, name);
        if (!found.IsError) { inner.Forget(found.Value.Inode, 1); }
        return found.Errno;
    }

    public async IoTask<Errno> RemoveDirectoryAsync(ulong parent, IoVec name)
    {
        Errno removed = await inner.RemoveDirectoryAsync(parent, name);
        return lie == Lie.WrongErrno && removed == Errno.ENOTEMPTY ? Errno.EEXIST : removed;
    }

    public IoTask<Errno> RenameAsync(FuseCaller caller, ulong parent, IoVec name, ulong newParent, IoVec newName, uint flags) =>
        inner.RenameAsync(caller, parent, name, newParent, newName, lie == Lie.Replaced ? flags & ~1u : flags);

    public IoTask<FsResult<InodeAttributes>> LinkAsync(ulong node, ulong newParent, IoVec newName) => inner.LinkAsync(node, newParent, newName);

    public IoTask<FsResult<ulong>> OpenAsync(ulong node, uint openFlags, bool killPrivileges) => inner.OpenAsync(node, openFlags, killPrivileges);

    public IoTask<FsResult<CreatedFile>> CreateAsync(CreateContext context, ulong parent, IoVec name, uint mode, uint openFlags, bool killPrivileges) =>
        inner.CreateAsync(context, parent, name, mode, openFlags, killPrivileges);

    public IoTask<FsResult<CreatedFile>> TemporaryFileAsync(CreateContext context, ulong parent, uint mode, uint openFlags) => inner.TemporaryFileAsync(context, parent, mode, openFlags);

    public IoTask<IoResult> ReadAsync(ulong node, ulong handle, long offsetBytes, IoVecs target) => inner.ReadAsync(node, handle, offsetBytes, target);

    public async IoTask<IoResult> WriteAsync(ulong node, ulong handle, long offsetBytes, IoVecs source, uint openFlags, bool fromCache, bool killPrivileges)
    {
        if (lie == Lie.KeptPrivileges) { killPrivileges = false; }
        if (lie != Lie.ShortWrite || source.LengthBytes < 4097) { return await inner.WriteAsync(node, handle, offsetBytes, source, openFlags, fromCache, killPrivileges); }
        using var list = new IoVecList();
        list.AddSlice(source, 0, source.LengthBytes - 1);
        IoResult written = await inner.WriteAsync(node, handle, offsetBytes, list.View(), openFlags, fromCache, killPrivileges);
        return written.IsError ? written : new IoResult(written.Bytes + 1);
    }

    public IoTask<Errno> FlushAsync(ulong node, ulong handle, ulong lockOwner) => inner.FlushAsync(node, handle, lockOwner);

    public IoTask<Errno> ReleaseAsync(ulong node, ulong handle) => inner.ReleaseAsync(node, handle);

    public IoTask<Errno> FsyncAsync(ulong node, ulong handle, bool dataOnly) => inner.FsyncAsync(node, handle, dataOnly);

    public IoTask<FsResult<ulong>> OpenDirectoryAsync(ulong node, uint openFlags) => inner.OpenDirectoryAsync(node, openFlags);

    public IoTask<Errno> ReadDirectoryAsync(ulong node, ulong handle, ulong cookie, DirectoryWriter writer)
    {
        if (lie == Lie.ListedTwice && cookie == 0) { writer.TryAdd("."u8, node, 1, 4); }
        return inner.ReadDirectoryAsync(node, handle, cookie, writer);
    }

    public IoTask<Errno> ReleaseDirectoryAsync(ulong node, ulong handle) => inner.ReleaseDirectoryAsync(node, handle);

    public IoTask<Errno> FsyncDirectoryAsync(ulong node, ulong handle, bool dataOnly) => inner.FsyncDirectoryAsync(node, handle, dataOnly);

    public IoTask<IoResult> GetXattrAsync(ulong node, IoVec name, IoVec target) => inner.GetXattrAsync(node, name, target);

    public IoTask<IoResult> ListXattrAsync(FuseCaller caller, ulong node, IoVec target) => inner.ListXattrAsync(caller, node, target);

    public IoTask<Errno> SetXattrAsync(ulong node, IoVec name, IoVec value, uint flags, bool killSgid) =>
        inner.SetXattrAsync(node, name, value, lie == Lie.XattrReplaced ? flags & ~1u : flags, killSgid);

    public IoTask<Errno> RemoveXattrAsync(ulong node, IoVec name) => inner.RemoveXattrAsync(node, name);

    public IoTask<FsResult<FsStatistics>> StatFsAsync() => inner.StatFsAsync();

    public IoTask<Errno> FallocateAsync(FuseCaller caller, ulong node, ulong handle, uint mode, long offsetBytes, long lengthBytes) => inner.FallocateAsync(caller, node, handle, mode, offsetBytes, lengthBytes);

    public IoTask<FsResult<long>> SeekAsync(ulong node, ulong handle, long offsetBytes, uint whence) => inner.SeekAsync(node, handle, offsetBytes, whence);

    public IoTask<IoResult> CopyFileRangeAsync(ulong sourceNode, ulong sourceHandle, long sourceOffset, ulong targetNode, ulong targetHandle, long targetOffset, long lengthBytes) =>
        inner.CopyFileRangeAsync(sourceNode, sourceHandle, sourceOffset, targetNode, targetHandle, targetOffset, lengthBytes);

    public IoTask<Errno> SyncFsAsync() => inner.SyncFsAsync();

    public void EndSession() => inner.EndSession();
}
