using VhostFs.Blobstore;
using VhostFs.Fuse;
using VhostFs.Linux;
using VhostFs.Reactor;

namespace VhostFs.Blobfs;

/// <summary>Contents of up to 2,048 bytes, kept in the tree: the INLINE item is exactly as long as the file; an empty file has none.</summary>
internal sealed class InlineContent(BlobfsState state)
{
    private const int MaxConversions = 64;

    private readonly BufferPool _buffers = new((int)FileLimits.BlockBytes, MaxConversions);

    public static bool Fits(long sizeBytes) => sizeBytes <= BlobData.MaxInlineBytes;

    /// <summary>Copies the content from <paramref name="offset"/> on; returns bytes copied.</summary>
    public Errno TryRead(ulong node, in InodeRecord record, long offset, IoVecs target, out int bytes)
    {
        bytes = 0;
        if (offset >= record.SizeBytes) { return Errno.None; }
        Errno found = TryGet(node, record, out ReadOnlySpan<byte> content);
        if (found == Errno.None) { bytes = target.CopyFrom(0, content[(int)offset..]); }
        return found;
    }

    /// <summary>Stages the content after a write at <paramref name="offset"/>, and its size in the record.</summary>
    public Errno StageWrite(Transaction tx, ulong node, ref InodeRecord record, long offset, IoVecs source, int length)
    {
        Span<byte> content = stackalloc byte[BlobData.MaxInlineBytes];
        Errno found = TryCopy(node, record, content);
        if (found != Errno.None) { return found; }
        // Fetched once: guest memory may change, but what is staged is one content.
        source.CopyTo(0, content.Slice((int)offset, length));
        int size = (int)Math.Max(record.SizeBytes, offset + length);
        record = record with { SizeBytes = size };
        return tx.Put(BlobfsKeys.Inline(node), content[..size]);
    }

    /// <summary>Stages the content cut or filled up with zeroes to a size that fits.</summary>
    public Errno StageResize(Transaction tx, ulong node, ref InodeRecord record, long size)
    {
        long old = record.SizeBytes;
        Span<byte> content = stackalloc byte[BlobData.MaxInlineBytes];
        Errno found = TryCopy(node, record, content);
        if (found != Errno.None) { return found; }
        record = record with { SizeBytes = size };
        if (size > 0) { return tx.Put(BlobfsKeys.Inline(node), content[..(int)size]); }
        return old > 0 ? tx.Delete(BlobfsKeys.Inline(node)) : Errno.None;
    }

    /// <summary>Stages the content with zeroes in [first, limit); the size stays.</summary>
    public Errno StageZero(Transaction tx, ulong node, in InodeRecord record, long first, long limit)
    {
        limit = Math.Min(limit, record.SizeBytes);
        if (first >= limit) { return Errno.None; }
        Span<byte> content = stackalloc byte[BlobData.MaxInlineBytes];
        Errno found = TryCopy(node, record, content);
        if (found != Errno.None) { return found; }
        content[(int)first..(int)limit].Clear();
        return tx.Put(BlobfsKeys.Inline(node), content[..(int)record.SizeBytes]);
    }

    /// <summary>Moves the content into a block. The caller holds the lock on everything, and the file is inline and not empty.</summary>
    public async IoTask<Errno> ConvertAsync(ulong node)
    {
        PooledBuffer buffer = await _buffers.RentAsync();
        FsResult<int> read = await state.Loop.Read<ContentRead, int>(new ContentRead(this, node, buffer));
        Errno result = read.Errno;
        if (!read.IsError)
        {
            BlobChange change = state.Data.RentChange();
            result = await state.Data.PrepareWriteAsync(change, node, 0, buffer.View(read.Value));
            if (result == Errno.None)
            {
                FsResult<Nothing> changed = await state.Loop.Change<ConvertChange, Nothing>(new ConvertChange(this, node, change));
                result = changed.Errno;
            }
            state.Data.End(change);
        }
        _buffers.Return(buffer);
        return result;
    }

    private Errno TryGet(ulong node, in InodeRecord record, out ReadOnlySpan<byte> content)
    {
        Errno found = state.Volume.TryGet(BlobfsKeys.Inline(node), out content);
        if (found != Errno.None) { return found == Errno.ENOENT ? Errno.EIO : found; }
        return content.Length == record.SizeBytes && Fits(content.Length) ? Errno.None : Errno.EIO;
    }

    /// <summary>The content, and zeroes behind it.</summary>
    private Errno TryCopy(ulong node, in InodeRecord record, Span<byte> target)
    {
        target.Clear();
        if (record.SizeBytes == 0) { return Errno.None; }
        Errno found = TryGet(node, record, out ReadOnlySpan<byte> content);
        if (found == Errno.None) { content.CopyTo(target); }
        return found;
    }

    private Errno TryRead(ulong node, PooledBuffer buffer, out int length)
    {
        length = 0;
        Errno found = state.Volume.TryGetInode(node, out InodeRecord record);
        if (found != Errno.None) { return found; }
        found = TryGet(node, record, out ReadOnlySpan<byte> content);
        if (found != Errno.None) { return found; }
        content.CopyTo(buffer.Memory.Span);
        length = content.Length;
        return Errno.None;
    }

    private Errno TryConvert(ulong node, BlobChange change, out ulong lsn)
    {
        lsn = 0;
        Transaction tx = state.Volume.Begin();
        Errno staged = tx.TryGetInode(node, out InodeRecord record);
        if (staged == Errno.None) { staged = state.Data.TryStage(tx, change); }
        if (staged == Errno.None) { staged = tx.Delete(BlobfsKeys.Inline(node)); }
        if (staged == Errno.None)
        {
            staged = tx.PutInode(node, record with { Flags = record.Flags & ~InodeFlags.Inline, Blocks = record.Blocks + change.BlocksDelta });
        }
        if (staged != Errno.None) { tx.Abort(); return staged; }
        lsn = tx.Commit();
        return Errno.None;
    }

    private readonly record struct ContentRead(InlineContent Inline, ulong Node, PooledBuffer Buffer) : ITreeRead<int>
    {
        public Errno Try(out int result) => Inline.TryRead(Node, Buffer, out result);
    }

    private readonly record struct ConvertChange(InlineContent Inline, ulong Node, BlobChange Change) : ITreeChange<Nothing>
    {
        public Admission Admission => Admission.Grow;

        public Errno Try(out Nothing result, out ulong lsn)
        {
            result = default;
            return Inline.TryConvert(Node, Change, out lsn);
        }
    }
}
