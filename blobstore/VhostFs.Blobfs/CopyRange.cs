using VhostFs.Blobstore;
using VhostFs.Fuse;
using VhostFs.Linux;
using VhostFs.Reactor;

namespace VhostFs.Blobfs;

/// <summary>copy_file_range(2): whole blocks are shared where that is possible, the rest is read and written, at most 1 MiB a call.</summary>
/// <remarks>What is copied is as atomic as the reads and writes it is made of: the source is read without a lock, as read(2) does. What is shared: see <see cref="ShareRange"/>.</remarks>
internal sealed class CopyRange(FileReads reads, FileWrites writes, Attributes attributes, ShareRange share)
{
    /// <summary>Of one call: what a reply can count.</summary>
    private const long MaxBytes = int.MaxValue & ~(FileLimits.BlockBytes - 1);

    /// <summary>Of one call, read and written.</summary>
    private const long MaxCopiedBytes = 1 << 20;

    private const int ChunkBytes = 256 * 1024;
    private const int MaxBuffers = 8;

    private readonly BufferPool _buffers = new(ChunkBytes, MaxBuffers);

    public async IoTask<IoResult> CopyAsync(ulong source, long sourceOffset, ulong target, long targetOffset, long lengthBytes)
    {
        FsResult<InodeRecord> from = await attributes.GetRecordAsync(source);
        FsResult<InodeRecord> to = from.IsError ? from : await attributes.GetRecordAsync(target);
        Errno legal = to.Errno;
        if (legal == Errno.None) { legal = ContentLocks.CheckRegular(from.Value); }
        if (legal == Errno.None) { legal = ContentLocks.CheckRegular(to.Value); }
        if (legal == Errno.None && (sourceOffset < 0 || targetOffset < 0 || lengthBytes < 0)) { legal = Errno.EINVAL; }
        if (legal != Errno.None) { return IoResult.FromErrno(legal); }
        long wanted = Math.Min(Math.Min(lengthBytes, MaxBytes), Math.Max(from.Value.SizeBytes - sourceOffset, 0));
        if (source == target && sourceOffset < targetOffset + wanted && targetOffset < sourceOffset + wanted && wanted > 0) { return IoResult.FromErrno(Errno.EINVAL); }
        if (targetOffset > FileLimits.MaxFileBytes - wanted) { return IoResult.FromErrno(Errno.EFBIG); }
        if (wanted == 0) { return new IoResult(0); }
        // Once, before anything changes: within one file a later read would find the access time older than the content.
        FsResult<Nothing> touched = await reads.TouchAsync(source);
        if (touched.IsError) { return IoResult.FromErrno(touched.Errno); }
        bool shares = share.IsPossible(from.Value, sourceOffset, targetOffset, wanted);
        long done = 0;
        if (shares && sourceOffset % FileLimits.BlockBytes != 0)
        {
            // The ragged start, so that what follows begins with a block.
            long head = FileLimits.BlockCeiling(sourceOffset) - sourceOffset;
            IoResult copied = await ReadAndWriteAsync(source, sourceOffset, target, targetOffset, head);
            if (copied.IsError || copied.Bytes < head) { return copied; }
            done = head;
        }
        if (shares)
        {
            IoResult shared = await share.ShareAsync(source, sourceOffset + done, target, targetOffset + done, wanted - done);
            if (shared.IsError) { return done > 0 ? new IoResult((int)done) : shared; }
            done += shared.Bytes;
        }
        if (done == wanted) { return new IoResult((int)done); }
        IoResult rest = await ReadAndWriteAsync(source, sourceOffset + done, target, targetOffset + done, Math.Min(wanted - done, MaxCopiedBytes));
        // What was copied before an error counts, as with write(2).
        return rest.IsError ? (done > 0 ? new IoResult((int)done) : rest) : new IoResult((int)done + rest.Bytes);
    }

    private async IoTask<IoResult> ReadAndWriteAsync(ulong source, long sourceOffset, ulong target, long targetOffset, long wanted)
    {
        PooledBuffer buffer = await _buffers.RentAsync();
        IoResult result = await ReadAndWriteAsync(buffer, source, sourceOffset, target, targetOffset, wanted);
        _buffers.Return(buffer);
        return result;
    }

    private async IoTask<IoResult> ReadAndWriteAsync(PooledBuffer buffer, ulong source, long sourceOffset, ulong target, long targetOffset, long wanted)
    {
        long done = 0;
        while (done < wanted)
        {
            IoResult read = await reads.ReadAsync(source, AccessTimes.None, sourceOffset + done, buffer.View((int)Math.Min(wanted - done, ChunkBytes)));
            IoResult written = read;
            if (!read.IsError && read.Bytes > 0)
            {
                // Every kernel that copies has had the set-id bits taken away before, if the caller is not to keep them.
                written = await writes.WriteAsync(target, targetOffset + done, buffer.View(read.Bytes), append: false, fromCache: false, killPrivileges: false);
            }
            if (written.IsError) { return done > 0 ? new IoResult((int)done) : written; }
            if (written.Bytes == 0) { break; }
            done += written.Bytes;
        }
        return new IoResult((int)done);
    }
}
