using VhostFs.Fuse;
using VhostFs.Linux;
using VhostFs.Reactor;
using VhostFs.Simulation.Tests.World;

namespace VhostFs.Simulation.Tests;

/// <summary>A file system with a mistake in it, put in on purpose (<see cref="Sabotage"/>); everything else is passed on.</summary>
internal sealed class SabotagedFileSystem(IFileSystem inner, Sabotage sabotage, SimWorld world) : IFileSystem
{
    private const int MaxOldBytes = 1 << 17;
    private readonly Dictionary<(ulong Node, long Offset), byte[]> _old = [];
    private int _count;

    public static IFileSystem Wrap(IFileSystem inner, Sabotage sabotage, SimWorld world) =>
        sabotage is Sabotage.FsyncDoesNothing or Sabotage.OldDataIsRead or Sabotage.ReplyIsLost or Sabotage.NameIsNotListed ? new SabotagedFileSystem(inner, sabotage, world) : inner;

    public IoTask<FsResult<InodeAttributes>> LookupAsync(ulong parent, IoVec name) => inner.LookupAsync(parent, name);

    public void Forget(ulong node, ulong count) => inner.Forget(node, count);

    public IoTask<FsResult<InodeAttributes>> GetAttributesAsync(ulong node) => inner.GetAttributesAsync(node);

    public IoTask<FsResult<InodeAttributes>> SetAttributesAsync(FuseCaller caller, ulong node, SetAttributes changes) => inner.SetAttributesAsync(caller, node, changes);

    public IoTask<IoResult> ReadLinkAsync(ulong node, IoVec target) => inner.ReadLinkAsync(node, target);

    public IoTask<FsResult<InodeAttributes>> SymlinkAsync(CreateContext context, ulong parent, IoVec name, IoVec linkTarget) => inner.SymlinkAsync(context, parent, name, linkTarget);

    public IoTask<FsResult<InodeAttributes>> MakeNodeAsync(CreateContext context, ulong parent, IoVec name, uint mode, uint deviceNumber) => inner.MakeNodeAsync(context, parent, name, mode, deviceNumber);

    public IoTask<FsResult<InodeAttributes>> MakeDirectoryAsync(CreateContext context, ulong parent, IoVec name, uint mode) => inner.MakeDirectoryAsync(context, parent, name, mode);

    public IoTask<Errno> UnlinkAsync(ulong parent, IoVec name) => inner.UnlinkAsync(parent, name);

    public IoTask<Errno> RemoveDirectoryAsync(ulong parent, IoVec name) => inner.RemoveDirectoryAsync(parent, name);

    public IoTask<Errno> RenameAsync(FuseCaller caller, ulong parent, IoVec name, ulong newParent, IoVec newName, uint flags) => inner.RenameAsync(caller, parent, name, newParent, newName, flags);

    public IoTask<FsResult<InodeAttributes>> LinkAsync(ulong node, ulong newParent, IoVec newName) => inner.LinkAsync(node, newParent, newName);

    public IoTask<FsResult<ulong>> OpenAsync(ulong node, uint openFlags, bool killPrivileges) => inner.OpenAsync(node, openFlags, killPrivileges);

    public IoTask<FsResult<CreatedFile>> CreateAsync(CreateContext context, ulong parent, IoVec name, uint mode, uint openFlags, bool killPrivileges) =>
        inner.CreateAsync(context, parent, name, mode, openFlags, killPrivileges);

    public IoTask<FsResult<CreatedFile>> TemporaryFileAsync(CreateContext context, ulong parent, uint mode, uint openFlags) => inner.TemporaryFileAsync(context, parent, mode, openFlags);

    public async IoTask<IoResult> ReadAsync(ulong node, ulong handle, long offsetBytes, IoVecs target)
    {
        if (sabotage == Sabotage.ReplyIsLost && ++_count % 10 == 0) { await new IoCompletion<bool>().Task; }
        IoResult read = await inner.ReadAsync(node, handle, offsetBytes, target);
        if (sabotage != Sabotage.OldDataIsRead || read.IsError || read.Bytes is 0 or > MaxOldBytes) { return read; }
        if (_old.TryGetValue((node, offsetBytes), out byte[]? old) && old.Length == read.Bytes) { target.CopyFrom(0, old); }
        else
        {
            byte[] now = new byte[read.Bytes];
            target.CopyTo(0, now);
            _old[(node, offsetBytes)] = now;
        }
        return read;
    }

    public IoTask<IoResult> WriteAsync(ulong node, ulong handle, long offsetBytes, IoVecs source, uint openFlags, bool fromCache, bool killPrivileges) =>
        inner.WriteAsync(node, handle, offsetBytes, source, openFlags, fromCache, killPrivileges);

    public IoTask<Errno> FlushAsync(ulong node, ulong handle, ulong lockOwner) => inner.FlushAsync(node, handle, lockOwner);

    public IoTask<Errno> ReleaseAsync(ulong node, ulong handle) => inner.ReleaseAsync(node, handle);

    public IoTask<Errno> FsyncAsync(ulong node, ulong handle, bool dataOnly) => sabotage == Sabotage.FsyncDoesNothing ? PretendAsync() : inner.FsyncAsync(node, handle, dataOnly);

    public IoTask<FsResult<ulong>> OpenDirectoryAsync(ulong node, uint openFlags) => inner.OpenDirectoryAsync(node, openFlags);

    public IoTask<Errno> ReadDirectoryAsync(ulong node, ulong handle, ulong cookie, DirectoryWriter writer) =>
        inner.ReadDirectoryAsync(node, handle, cookie, sabotage == Sabotage.NameIsNotListed ? new ForgetfulWriter(writer, ++_count) : writer);

    public IoTask<Errno> ReleaseDirectoryAsync(ulong node, ulong handle) => inner.ReleaseDirectoryAsync(node, handle);

    public IoTask<Errno> FsyncDirectoryAsync(ulong node, ulong handle, bool dataOnly) => sabotage == Sabotage.FsyncDoesNothing ? PretendAsync() : inner.FsyncDirectoryAsync(node, handle, dataOnly);

    public IoTask<IoResult> GetXattrAsync(ulong node, IoVec name, IoVec target) => inner.GetXattrAsync(node, name, target);

    public IoTask<IoResult> ListXattrAsync(FuseCaller caller, ulong node, IoVec target) => inner.ListXattrAsync(caller, node, target);

    public IoTask<Errno> SetXattrAsync(ulong node, IoVec name, IoVec value, uint flags, bool killSgid) => inner.SetXattrAsync(node, name, value, flags, killSgid);

    public IoTask<Errno> RemoveXattrAsync(ulong node, IoVec name) => inner.RemoveXattrAsync(node, name);

    public IoTask<FsResult<FsStatistics>> StatFsAsync() => inner.StatFsAsync();

    public IoTask<Errno> FallocateAsync(FuseCaller caller, ulong node, ulong handle, uint mode, long offsetBytes, long lengthBytes) =>
        inner.FallocateAsync(caller, node, handle, mode, offsetBytes, lengthBytes);

    public IoTask<FsResult<long>> SeekAsync(ulong node, ulong handle, long offsetBytes, uint whence) => inner.SeekAsync(node, handle, offsetBytes, whence);

    public IoTask<IoResult> CopyFileRangeAsync(ulong sourceNode, ulong sourceHandle, long sourceOffset, ulong targetNode, ulong targetHandle, long targetOffset, long lengthBytes) =>
        inner.CopyFileRangeAsync(sourceNode, sourceHandle, sourceOffset, targetNode, targetHandle, targetOffset, lengthBytes);

    public IoTask<Errno> SetFlagsAsync(FuseCaller caller, ulong node, FsFlags flags, FsFlags changeable) => inner.SetFlagsAsync(caller, node, flags, changeable);

    public IoTask<Errno> SyncFsAsync() => sabotage == Sabotage.FsyncDoesNothing ? PretendAsync() : inner.SyncFsAsync();

    public void EndSession() => inner.EndSession();

    private async IoTask<Errno> PretendAsync()
    {
        await world.DelayAsync(1000);
        return Errno.None;
    }

    private sealed class ForgetfulWriter(DirectoryWriter inner, int count) : DirectoryWriter
    {
        private int _left = count % 20 == 0 ? 3 : int.MaxValue; // after "." and ".." one name is missing

        public override bool WantsAttributes => inner.WantsAttributes;

        public override bool TryAdd(ReadOnlySpan<byte> name, ulong inode, ulong cookie, uint type) => --_left == 0 || inner.TryAdd(name, inode, cookie, type);

        public override bool TryAdd(ReadOnlySpan<byte> name, in InodeAttributes attributes, ulong cookie) => inner.TryAdd(name, attributes, cookie);
    }
}
