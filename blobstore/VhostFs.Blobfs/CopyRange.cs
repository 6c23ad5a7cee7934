using VhostFs.Blobstore;
using VhostFs.Fuse;
using VhostFs.Linux;
using VhostFs.Reactor;

namespace VhostFs.Blobfs;

/// <summary>copy_file_range(2) by reading and writing, at most 1 MiB a call.</summary>
/// <remarks>It is as atomic as the reads and writes it is made of: the source is read without a lock, as read(2) does, so that a copy
/// can never wait for a lock while it holds another.</remarks>
internal sealed class CopyRange(FileReads reads, FileWrites writes, Attributes attributes)
{
    private const long MaxBytes = 1 << 20;
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
        PooledBuffer buffer = await _buffers.RentAsync();
        IoResult result = await CopyAsync(buffer, source, sourceOffset, target, targetOffset, wanted);
        _buffers.Return(buffer);
        return result;
    }

    private async IoTask<IoResult> CopyAsync(PooledBuffer buffer, ulong source, long sourceOffset, ulong target, long targetOffset, long wanted)
    {
        long done = 0;
        while (done < wanted)
        {
            IoResult read = await reads.ReadAsync(source, 0, sourceOffset + done, buffer.View((int)Math.Min(wanted - done, ChunkBytes)));
            IoResult written = read;
            if (!read.IsError && read.Bytes > 0)
            {
                written = await writes.WriteAsync(target, targetOffset + done, buffer.View(read.Bytes), append: false, fromCache: false, killPrivileges: true);
            }
            // What was copied before an error counts, as with write(2).
            if (written.IsError) { return done > 0 ? new IoResult((int)done) : written; }
            if (written.Bytes == 0) { break; }
            done += written.Bytes;
        }
        return new IoResult((int)done);
    }
}
