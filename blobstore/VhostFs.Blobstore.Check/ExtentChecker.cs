using System.Buffers;
using System.Buffers.Binary;
using System.Numerics;
using VhostFs.Reactor;

namespace VhostFs.Blobstore.Check;

/// <summary>What the extent groups of one inode add up to.</summary>
/// <param name="Blocks">Mapped blocks, unwritten ones included.</param>
/// <param name="WrittenLimit">One past the last logical block that is written; 0 when none is.</param>
/// <param name="LastWritten">Physical address of that last block.</param>
internal readonly record struct MappedBlocks(ulong Blocks, ulong WrittenLimit, ulong LastWritten);

/// <summary>Extent groups and Allocation items: every mapped block is in a data cluster of the volume, mapped once or as often as its count says, marked as allocated, and nothing else is.</summary>
internal sealed class ExtentChecker
{
    private const int GroupBlocks = 128;
    private const int GroupHeaderBytes = 8;
    private const int RunBytes = 24;
    private const ulong MaxGroup = (1UL << 52) / GroupBlocks; // a logical byte offset has 63 bits

    private readonly CheckReport _report;
    private readonly string _volume;
    private readonly ulong _volumeId;
    private readonly Header _header;
    private readonly ClusterMap _clusters;
    private readonly SharedBlockChecker _shared;
    private readonly Dictionary<uint, byte[]> _mapped = []; // per data cluster, the blocks that extents name
    private readonly List<WrittenRun> _written = [];

    public ExtentChecker(CheckReport report, string volume, Header header, ClusterMap clusters, SharedBlockChecker shared)
    {
        _report = report;
        _volume = volume;
        _volumeId = header.VolumeId;
        _header = header;
        _clusters = clusters;
        _shared = shared;
    }

    /// <summary>Written runs with their checksums, for the check of the data.</summary>
    public IReadOnlyList<WrittenRun> Written => _written;

    /// <summary>Checks one extent group and adds it to what its inode has so far.</summary>
    public MappedBlocks AddGroup(ItemKey key, ReadOnlyMemory<byte> value, MappedBlocks sum)
    {
        string where = $"{_volume}, inode {key.Object}, extent group {key.Sub}";
        ReadOnlySpan<byte> bytes = value.Span;
        if (key.Sub > MaxGroup) { Error(where, "is beyond the largest file"); }
        if (bytes.Length < GroupHeaderBytes) { return Error(where, $"has only {bytes.Length} bytes", sum); }
        int runCount = BinaryPrimitives.ReadUInt16LittleEndian(bytes);
        int crcCount = BinaryPrimitives.ReadUInt16LittleEndian(bytes[2..]);
        int crcStart = GroupHeaderBytes + runCount * RunBytes;
        if (bytes.Length != crcStart + crcCount * sizeof(uint)) { return Error(where, $"has {bytes.Length} bytes for {runCount} runs and {crcCount} checksums", sum); }
        if (runCount == 0) { return Error(where, "has no run; such a group is deleted", sum); }

        int next = 0, writtenBlocks = 0;
        for (int i = 0; i < runCount; i++)
        {
            ReadOnlySpan<byte> run = bytes.Slice(GroupHeaderBytes + i * RunBytes, RunBytes);
            int first = run[0];
            int count = run[1] + 1;
            ushort flags = BinaryPrimitives.ReadUInt16LittleEndian(run[2..]);
            ulong physical = BinaryPrimitives.ReadUInt64LittleEndian(run[8..]);
            ulong birth = BinaryPrimitives.ReadUInt64LittleEndian(run[16..]);
            if (first < next || first + count > GroupBlocks) { return Error(where, $"run {i} ({first}, {count} blocks) is out of order or outside of the group", sum); }
            if (flags > 1) { return Error(where, $"run {i} has unknown flags {flags}", sum); }
            if (birth > _header.SnapshotEpoch) { Error(where, $"run {i} was born in epoch {birth}, after the volume's epoch {_header.SnapshotEpoch}"); }
            if (!_clusters.Holds(physical, (ulong)count, ClusterKind.Data, _volumeId)) { return Error(where, $"run {i} names blocks from {physical}, which are not in data clusters of the volume", sum); }
            bool isWritten = flags == 0;
            Claim(physical, count, isWritten, where);
            if (isWritten)
            {
                if (_header.HasDataChecksums && writtenBlocks + count <= crcCount)
                {
                    _written.Add(new WrittenRun(key.Object, key.Sub * GroupBlocks + (ulong)first, physical, count, value.Slice(crcStart + writtenBlocks * sizeof(uint), count * sizeof(uint))));
                }
                writtenBlocks += count;
            }
            next = first + count;
            _report.Counts.ExtentRuns++;
            _report.Counts.DataBlocks += count;
            sum = sum with { Blocks = sum.Blocks + (ulong)count };
            if (isWritten) { sum = sum with { WrittenLimit = key.Sub * GroupBlocks + (ulong)next, LastWritten = physical + (ulong)count - 1 }; }
        }
        int expectedCrcs = _header.HasDataChecksums ? writtenBlocks : 0;
        if (crcCount != expectedCrcs) { Error(where, $"has {crcCount} checksums for {writtenBlocks} written blocks"); }
        return sum;
    }

    /// <summary>After all extents: the Allocation items say exactly the same.</summary>
    public void CheckAllocation(IEnumerable<(ItemKey Key, ReadOnlyMemory<byte> Value)> allocationItems)
    {
        foreach ((ItemKey key, ReadOnlyMemory<byte> bitmap) in allocationItems)
        {
            string where = $"{_volume}, cluster {key.Sub}";
            if (key.Sub >= _clusters.Count || _clusters.KindOf((uint)key.Sub) != ClusterKind.Data || _clusters.OwnerOf((uint)key.Sub) != _volumeId)
            {
                Error(where, "has an Allocation item but is not a data cluster of the volume", "allocation");
                continue;
            }
            if (bitmap.Length != _clusters.ClusterBlocks / 8)
            {
                Error(where, $"has an Allocation item of {bitmap.Length} bytes", "allocation");
                continue;
            }
            _mapped.Remove((uint)key.Sub, out byte[]? mapped);
            mapped ??= new byte[bitmap.Length];
            if (bitmap.Span.SequenceEqual(mapped)) { continue; }
            (int leaked, int missing) = Compare(bitmap.Span, mapped);
            if (leaked > 0) { Error(where, $"{leaked} blocks are allocated, but no extent names them", "allocation"); }
            if (missing > 0) { Error(where, $"{missing} blocks are in use, but not allocated", "allocation"); }
        }
        foreach (uint cluster in _mapped.Keys) { Error($"{_volume}, cluster {cluster}", "blocks are in use, but the cluster has no Allocation item", "allocation"); }
    }

    /// <summary>Reads every written block and compares it with its checksum. <paramref name="images"/> stands for what recovery would write.</summary>
    public async IoTask<bool> VerifyDataAsync(BlockReader reader, IReadOnlyDictionary<ulong, ReadOnlyMemory<byte>> images)
    {
        byte[] buffer = ArrayPool<byte>.Shared.Rent(GroupBlocks * BlockReader.BlockBytes);
        foreach (WrittenRun run in _written)
        {
            string where = $"{_volume}, inode {run.Inode}";
            Memory<byte> bytes = buffer.AsMemory(0, run.Count * BlockReader.BlockBytes);
            if (!await reader.ReadAsync(run.Physical, bytes))
            {
                Error(where, $"blocks from {run.Physical} cannot be read", "data");
                continue;
            }
            for (int i = 0; i < run.Count; i++)
            {
                ReadOnlyMemory<byte> content = images.TryGetValue(run.Physical + (ulong)i, out ReadOnlyMemory<byte> image) ? image : bytes.Slice(i * BlockReader.BlockBytes, BlockReader.BlockBytes);
                _report.Counts.DataBlocksVerified++;
                if (Checksum.Of(content.Span) == BinaryPrimitives.ReadUInt32LittleEndian(run.Crcs.Span[(i * sizeof(uint))..])) { continue; }
                Error(where, $"logical block {run.Logical + (ulong)i} (block {run.Physical + (ulong)i}) does not match its checksum", "data");
            }
        }
        ArrayPool<byte>.Shared.Return(buffer);
        return true;
    }

    private void Claim(ulong physical, int count, bool isWritten, string where)
    {
        for (ulong block = physical; block < physical + (ulong)count; block++)
        {
            _clusters.TryClusterOf(block, out uint cluster, out uint bit);
            if (!_mapped.TryGetValue(cluster, out byte[]? bitmap)) { _mapped[cluster] = bitmap = new byte[_clusters.ClusterBlocks / 8]; }
            byte mask = (byte)(1 << (int)(bit % 8));
            if (_shared.TryClaim(block))
            {
                if (!isWritten) { Error(where, $"block {block} is shared, and not written"); }
            }
            else if ((bitmap[bit / 8] & mask) != 0) { Error(where, $"block {block} is mapped twice"); }
            bitmap[bit / 8] |= mask;
        }
    }

    private static (int Leaked, int Missing) Compare(ReadOnlySpan<byte> allocated, ReadOnlySpan<byte> mapped)
    {
        int leaked = 0, missing = 0;
        for (int i = 0; i < allocated.Length; i++)
        {
            leaked += BitOperations.PopCount((uint)(allocated[i] & ~mapped[i]));
            missing += BitOperations.PopCount((uint)(mapped[i] & ~allocated[i]));
        }
        return (leaked, missing);
    }

    private void Error(string where, string sentence, string structure = "extent") => _report.Error(structure, where, sentence);

    private MappedBlocks Error(string where, string sentence, MappedBlocks sum)
    {
        Error(where, sentence);
        return sum;
    }
}

/// <summary>A run of written blocks and their checksums.</summary>
internal readonly record struct WrittenRun(ulong Inode, ulong Logical, ulong Physical, int Count, ReadOnlyMemory<byte> Crcs);
