using VhostFs.Blobstore;
using VhostFs.Fuse;
using VhostFs.Linux;
using VhostFs.Reactor;

namespace VhostFs.Blobfs;

/// <summary>READ, LSEEK and READLINK. They hold no lock: a read sees what is committed, each 4 KiB block of it as of one moment.</summary>
internal sealed class FileReads(BlobfsState state, InlineContent inline, AccessTimes accessTimes)
{
    private const uint SeekData = 3;
    private const uint SeekHole = 4;

    public IoTask<IoResult> ReadAsync(ulong node, ulong handle, long offset, IoVecs target)
    {
        Errno done = TryRead(node, handle, offset, target, out int bytes, out long sizeBytes);
        if (done == Residency.NotResident) { return ReadSlowAsync(node, handle, offset, target); }
        if (done != Errno.None) { return new IoTask<IoResult>(IoResult.FromErrno(done)); }
        return bytes >= 0 ? new IoTask<IoResult>(new IoResult(bytes)) : state.Data.ReadAsync(node, sizeBytes, offset, target);
    }

    /// <summary>Sets the access time, for several reads that do not.</summary>
    public IoTask<FsResult<Nothing>> TouchAsync(ulong node) => state.Loop.Read<TouchRead, Nothing>(new TouchRead(state, accessTimes, node));

    public IoTask<FsResult<long>> SeekAsync(ulong node, long offset, uint whence)
    {
        if (whence is not (SeekData or SeekHole)) { return new IoTask<FsResult<long>>(Errno.EINVAL); }
        return state.Loop.Read<SeekRead, long>(new SeekRead(this, node, offset, whence == SeekData));
    }

    public IoTask<IoResult> ReadLinkAsync(ulong node, IoVec target) =>
        state.Loop.Read<LinkRead, int>(new LinkRead(this, node, target)).ToIoResult();

    /// <param name="bytes">Read already; -1: read the file's blocks, up to <paramref name="sizeBytes"/>.</param>
    private Errno TryRead(ulong node, ulong handle, long offset, IoVecs target, out int bytes, out long sizeBytes)
    {
        bytes = 0;
        sizeBytes = 0;
        Errno found = state.Volume.TryGetInode(node, out InodeRecord record);
        if (found == Errno.None) { found = ContentLocks.CheckRegular(record); }
        if (found != Errno.None) { return found; }
        if (offset < 0) { return Errno.EINVAL; }
        if (record.IsInline) { found = inline.TryRead(node, record, offset, target, out bytes); }
        else if (offset < record.SizeBytes && target.Count > 0) { bytes = -1; }
        sizeBytes = record.SizeBytes;
        if (found == Errno.None) { accessTimes.Touch(node, record, handle); }
        return found;
    }

    private async IoTask<IoResult> ReadSlowAsync(ulong node, ulong handle, long offset, IoVecs target)
    {
        for (int attempt = 0; attempt < OperationLoop.MaxAttempts; attempt++)
        {
            Errno loaded = await state.Volume.LoadMissingAsync();
            if (loaded != Errno.None) { return IoResult.FromErrno(loaded); }
            Errno done = TryRead(node, handle, offset, target, out int bytes, out long sizeBytes);
            if (done == Residency.NotResident) { continue; }
            if (done != Errno.None) { return IoResult.FromErrno(done); }
            return bytes >= 0 ? new IoResult(bytes) : await state.Data.ReadAsync(node, sizeBytes, offset, target);
        }
        return IoResult.FromErrno(Errno.EIO);
    }

    private Errno TrySeek(ulong node, long offset, bool data, out long result)
    {
        result = 0;
        Errno found = state.Volume.TryGetInode(node, out InodeRecord record);
        if (found == Errno.None) { found = ContentLocks.CheckRegular(record); }
        if (found != Errno.None) { return found; }
        if (offset < 0 || offset >= record.SizeBytes) { return Errno.ENXIO; }
        if (!record.IsInline) { return state.Data.TrySeek(node, record.SizeBytes, offset, data, out result); }
        result = data ? offset : record.SizeBytes;
        return Errno.None;
    }

    private Errno TryReadLink(ulong node, Span<byte> target, out int length)
    {
        length = 0;
        Errno found = state.Volume.TryGetInode(node, out InodeRecord record);
        if (found != Errno.None) { return found; }
        if (!record.IsSymbolicLink) { return Errno.EINVAL; }
        if (record.SizeBytes > target.Length) { return record.SizeBytes > FileLimits.MaxLinkTargetBytes ? Errno.EIO : Errno.ERANGE; }
        for (ulong chunk = 0; length < record.SizeBytes; chunk++)
        {
            found = state.Volume.TryGet(BlobfsKeys.Inline(node, chunk), out ReadOnlySpan<byte> part);
            if (found != Errno.None) { return found == Errno.ENOENT ? Errno.EIO : found; }
            if (part.IsEmpty || part.Length > record.SizeBytes - length) { return Errno.EIO; }
            part.CopyTo(target[length..]);
            length += part.Length;
        }
        accessTimes.Touch(node, record);
        return Errno.None;
    }

    private readonly record struct TouchRead(BlobfsState State, AccessTimes AccessTimes, ulong Node) : ITreeRead<Nothing>
    {
        public Errno Try(out Nothing result)
        {
            result = default;
            Errno found = State.Volume.TryGetInode(Node, out InodeRecord record);
            if (found == Errno.None) { AccessTimes.Touch(Node, record); }
            return found;
        }
    }

    private readonly record struct SeekRead(FileReads Reads, ulong Node, long Offset, bool Data) : ITreeRead<long>
    {
        public Errno Try(out long result) => Reads.TrySeek(Node, Offset, Data, out result);
    }

    private readonly record struct LinkRead(FileReads Reads, ulong Node, IoVec Target) : ITreeRead<int>
    {
        public Errno Try(out int result) => Reads.TryReadLink(Node, Target.Span, out result);
    }
}
