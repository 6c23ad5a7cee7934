using System.Diagnostics.CodeAnalysis;
using System.Runtime.InteropServices;

namespace VhostFs.Blobstore;

/// <summary>A log batch as a process left it in <see cref="LogMemory"/>, in the form in which it would have gone to the ring.</summary>
/// <param name="Volume">Uuid of the volume.</param>
/// <param name="Blocks">Header, records and images: whole blocks.</param>
public sealed record StagedBatch(Guid Volume, ulong FirstLsn, byte[] Blocks)
{
    /// <summary>Reads the batch that a chunk describes, from memory of any origin. False: it describes none, or nonsense.</summary>
    internal static bool TryRead(ReadOnlySpan<byte> chunks, int chunk, [NotNullWhen(true)] out StagedBatch? batch)
    {
        batch = null;
        ReadOnlySpan<byte> memory = chunks.Slice(chunk * LogMemory.ChunkBytes, LogMemory.ChunkBytes);
        if (!BatchDescriptor.TryRead(memory, out LogBatchIdentity identity, out LogBatchExtent extent)) { return false; }
        if (extent.Records < 0 || extent.RecordBytes is < 0 or > LogBatch.BufferBytes - LogBatchHeader.Bytes || extent.Images is < 0 or > BatchDescriptor.MaxImages) { return false; }
        ReadOnlySpan<byte> records = memory.Slice(BatchDescriptor.Bytes + LogBatchHeader.Bytes, extent.RecordBytes);
        if (Crc32C.Compute(records) != extent.RecordsCrc) { return false; }
        int recordBlocks = LogBatchHeader.RecordBlocks(extent.RecordBytes);
        byte[] blocks = new byte[(recordBlocks + extent.Images) * BlobData.BlockBytes];
        records.CopyTo(blocks.AsSpan(LogBatchHeader.Bytes));
        ReadOnlySpan<int> images = MemoryMarshal.Cast<byte, int>(memory.Slice(BatchDescriptor.ImagesOffset, extent.Images * sizeof(int)));
        for (int i = 0; i < images.Length; i++)
        {
            if (images[i] < 0 || images[i] >= chunks.Length / BlobData.BlockBytes) { return false; }
            chunks.Slice(images[i] * BlobData.BlockBytes, BlobData.BlockBytes).CopyTo(blocks.AsSpan((recordBlocks + i) * BlobData.BlockBytes));
        }
        LogBatchHeader.Write(blocks.AsSpan(0, recordBlocks * BlobData.BlockBytes), identity, extent);
        batch = new StagedBatch(identity.Volume, identity.FirstLsn, blocks);
        return true;
    }
}
