using System.Buffers.Binary;
using System.Runtime.InteropServices;
using System.Text;
using VhostFs.Linux;
using VhostFs.Reactor;

namespace VhostFs.Bdev;

/// <param name="Number">From 1, by its place in the table.</param>
/// <param name="FirstBlock">Of the disk.</param>
public readonly record struct GptPartition(int Number, Guid Type, Guid Id, long FirstBlock, long BlockCount, string Name);

/// <summary>What a look for a table has found: a table, or what is wrong with it, or (neither) that there is none.</summary>
/// <param name="Error">Why it cannot be used; or, with a table, what is wrong with the copy that was not used.</param>
public readonly record struct GptResult(IReadOnlyList<GptPartition>? Partitions, string? Error);

/// <summary>Reads a GUID partition table (UEFI 2.10, 5): a protective MBR, a header behind it or at the end of the disk, and the entries that the header names.</summary>
/// <remarks>All of it may have been written by a guest. What is returned is inside of the disk, behind the structures of the table, and does not overlap.</remarks>
public static class GptTable
{
    // The entries of usual tables are 128 of 128 bytes.
    private const uint MaxEntries = 1024, MaxEntryBytes = 1024;

    private const int FewestBlocks = 3; // MBR, header, entries

    /// <summary>The backup at the end of the disk is looked at only where the primary is damaged.</summary>
    public static async IoTask<GptResult> ReadAsync(IBdev bdev)
    {
        if (BlockCount(bdev) < FewestBlocks) { return default; }
        using var block = new NativeBuffer(bdev.BlockSize);
        Errno read = await ReadAsync(bdev, 0, block);
        if (read != Errno.None) { return new GptResult(null, $"its first block cannot be read ({read})"); }
        if (!IsProtective(block.Span)) { return default; }
        GptResult primary = await ReadTableAsync(bdev, 1, block);
        if (primary.Partitions is not null) { return primary; }
        GptResult backup = await ReadTableAsync(bdev, BlockCount(bdev) - 1, block);
        return new GptResult(backup.Partitions, backup.Partitions is null ? $"{primary.Error}; and the backup: {backup.Error}" : primary.Error);
    }

    private static async IoTask<GptResult> ReadTableAsync(IBdev bdev, long headerBlock, NativeBuffer block)
    {
        Errno read = await ReadAsync(bdev, headerBlock, block);
        if (read != Errno.None) { return new GptResult(null, $"its header cannot be read ({read})"); }
        string? problem = CheckHeader(block.Span, headerBlock, BlockCount(bdev), out GptHeader header);
        if (problem is not null) { return new GptResult(null, problem); }
        if (header.EntryCount == 0) { return new GptResult([], null); }
        using var entries = new NativeBuffer((int)EntryBlocks(header, bdev.BlockSize) * bdev.BlockSize);
        read = await ReadAsync(bdev, (long)header.EntriesBlock, entries);
        if (read != Errno.None) { return new GptResult(null, $"its entries cannot be read ({read})"); }
        return ReadEntries(entries.Span[..(int)(header.EntryCount * header.EntryBytes)], header);
    }

    // Any of the four: a hybrid MBR has others beside it. Its size is not looked at: a disk may have grown since.
    private static bool IsProtective(ReadOnlySpan<byte> block)
    {
        if (BinaryPrimitives.ReadUInt16LittleEndian(block[MbrRecord.SignatureOffset..]) != MbrRecord.ExpectedSignature) { return false; }
        for (int i = 0; i < MbrRecord.Count; i++)
        {
            var record = MemoryMarshal.Read<MbrRecord>(block[(MbrRecord.Offset + (i * MbrRecord.Size))..]);
            if (record is { Type: MbrRecord.Protective, FirstBlock: 1 }) { return true; }
        }
        return false;
    }

    private static string? CheckHeader(Span<byte> block, long headerBlock, long diskBlocks, out GptHeader header)
    {
        header = MemoryMarshal.Read<GptHeader>(block);
        if (header.Signature != GptHeader.ExpectedSignature) { return "it has no header"; }
        if (header.HeaderBytes < GptHeader.Size || header.HeaderBytes > block.Length) { return $"its header says that it has {header.HeaderBytes} bytes"; }
        block.Slice(GptHeader.HeaderCrcOffset, sizeof(uint)).Clear();
        if (Crc32.Of(block[..(int)header.HeaderBytes]) != header.HeaderCrc) { return "the checksum of its header does not match"; }
        if (header.MyBlock != (ulong)headerBlock) { return $"its header is for block {header.MyBlock}, and lies in block {headerBlock}"; }
        if (header.FirstUsableBlock > header.LastUsableBlock || header.LastUsableBlock >= (ulong)diskBlocks) { return $"its usable blocks {header.FirstUsableBlock} to {header.LastUsableBlock} are none of the disk's {diskBlocks}"; }
        if (header.EntryCount > MaxEntries) { return $"it has {header.EntryCount} entries; {MaxEntries} are the most"; }
        if (header.EntryBytes is < GptEntry.SmallestBytes or > MaxEntryBytes || (header.EntryBytes & (header.EntryBytes - 1)) != 0) { return $"its entries have {header.EntryBytes} bytes"; }
        // Below: no sum can wrap, as every block number is below that of the disk.
        ulong entryBlocks = EntryBlocks(header, block.Length);
        if (header.EntriesBlock < 2 || header.EntriesBlock >= (ulong)diskBlocks || entryBlocks > (ulong)diskBlocks - header.EntriesBlock) { return $"its entries, in {entryBlocks} blocks from {header.EntriesBlock} on, are not inside of the disk"; }
        ulong entriesEnd = header.EntriesBlock + entryBlocks;
        bool isUsable = entriesEnd > header.FirstUsableBlock && header.EntriesBlock <= header.LastUsableBlock;
        bool isHeaderUsable = header.FirstUsableBlock < 2 || (header.FirstUsableBlock <= (ulong)headerBlock && (ulong)headerBlock <= header.LastUsableBlock);
        bool isHeaderEntry = header.EntriesBlock <= (ulong)headerBlock && (ulong)headerBlock < entriesEnd;
        return (isUsable && entryBlocks > 0) || isHeaderUsable || isHeaderEntry ? "its header, its entries and its usable blocks overlap" : null;
    }

    private static GptResult ReadEntries(ReadOnlySpan<byte> entries, in GptHeader header)
    {
        if (Crc32.Of(entries) != header.EntriesCrc) { return new GptResult(null, "the checksum of its entries does not match"); }
        var partitions = new List<GptPartition>();
        for (int i = 0; i < header.EntryCount; i++)
        {
            ReadOnlySpan<byte> bytes = entries.Slice(i * (int)header.EntryBytes, (int)header.EntryBytes);
            var entry = MemoryMarshal.Read<GptEntry>(bytes);
            if (entry.Type == Guid.Empty) { continue; }
            if (entry.FirstBlock < header.FirstUsableBlock || entry.LastBlock > header.LastUsableBlock || entry.FirstBlock > entry.LastBlock)
            {
                return new GptResult(null, $"partition {i + 1}, blocks {entry.FirstBlock} to {entry.LastBlock}, is not inside of the usable blocks {header.FirstUsableBlock} to {header.LastUsableBlock}");
            }
            partitions.Add(new GptPartition(i + 1, entry.Type, entry.Id, (long)entry.FirstBlock, (long)(entry.LastBlock - entry.FirstBlock) + 1, ReadName(bytes.Slice(GptEntry.Size, GptEntry.NameBytes))));
        }
        return FindOverlap(partitions) is { } overlap ? new GptResult(null, overlap) : new GptResult(partitions, null);
    }

    private static string? FindOverlap(List<GptPartition> partitions)
    {
        GptPartition[] byPlace = [.. partitions.OrderBy(p => p.FirstBlock)];
        for (int i = 1; i < byPlace.Length; i++)
        {
            if (byPlace[i].FirstBlock < byPlace[i - 1].FirstBlock + byPlace[i - 1].BlockCount) { return $"partitions {byPlace[i - 1].Number} and {byPlace[i].Number} overlap"; }
        }
        return null;
    }

    // Half of a pair of surrogates becomes the replacement character, and not an exception of whoever writes it down.
    private static string ReadName(ReadOnlySpan<byte> bytes)
    {
        string name = Encoding.Unicode.GetString(bytes);
        int end = name.IndexOf('\0', StringComparison.Ordinal);
        return end < 0 ? name : name[..end];
    }

    private static async IoTask<Errno> ReadAsync(IBdev bdev, long block, NativeBuffer target)
    {
        using var list = new IoVecList(1);
        list.Add(target.Vec);
        IoResult read = await bdev.ReadAsync(block * bdev.BlockSize, list.View());
        return read.IsError ? read.Errno : Errno.None;
    }

    private static long BlockCount(IBdev bdev) => bdev.SizeBytes / bdev.BlockSize;

    private static ulong EntryBlocks(in GptHeader header, int blockSize) => (((ulong)header.EntryCount * header.EntryBytes) + (ulong)blockSize - 1) / (ulong)blockSize;
}
