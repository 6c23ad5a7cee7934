using System.Buffers.Binary;
using VhostFs.Linux;

namespace VhostFs.Blobstore;

/// <summary>A consecutive part of an extent group that is mapped the same way.</summary>
/// <param name="Physical">First block on the device; 0 for a hole.</param>
/// <param name="CrcIndex">Index of the first block's checksum among the group's, when written.</param>
/// <param name="Birth">The epoch in which it was mapped.</param>
internal readonly record struct ExtentPart(int First, int Count, ulong Physical, bool IsUnwritten, int CrcIndex, ulong Birth)
{
    public bool IsHole => Physical == 0;

    /// <summary>Has content on the device.</summary>
    public bool IsWritten => Physical != 0 && !IsUnwritten;
}

/// <summary>The stored form of 128 consecutive blocks of a blob (docs/blobstore-format.md, section 5): runs, then checksums.</summary>
internal static class ExtentGroup
{
    public const int Blocks = 128;
    public const int HeaderBytes = 8;
    public const int RunBytes = 24;
    public const ushort Unwritten = 1;

    public static TreeKey Key(ulong blob, ulong group) => new(blob, ItemType.Extent, group);

    public static int RunCount(ReadOnlySpan<byte> value) => BinaryPrimitives.ReadUInt16LittleEndian(value);

    public static int CrcOffset(ReadOnlySpan<byte> value, int index) => HeaderBytes + (RunCount(value) * RunBytes) + (4 * index);

    public static uint Crc(ReadOnlySpan<byte> value, int index) => BinaryPrimitives.ReadUInt32LittleEndian(value[CrcOffset(value, index)..]);

    /// <summary>The part that begins with <paramref name="block"/>, up to <paramref name="limit"/>. False: the value makes no sense.</summary>
    public static bool TryFind(ReadOnlySpan<byte> value, int block, int limit, bool hasCrcs, out ExtentPart part)
    {
        part = new ExtentPart(block, limit - block, 0, false, 0, 0);
        if (value.IsEmpty) { return true; }
        if (!TryReadCounts(value, out int runs, out int crcs)) { return false; }
        int crcIndex = 0;
        for (int i = 0; i < runs; i++)
        {
            if (!ExtentRun.TryRead(value, i, out ExtentRun run)) { return false; }
            if (run.First > block)
            {
                part = part with { Count = Math.Min(run.First, limit) - block };
                return true;
            }
            if (block < run.First + run.Count)
            {
                int inRun = block - run.First;
                if (run.Physical == 0 || (hasCrcs && !run.IsUnwritten && crcIndex + run.Count > crcs)) { return false; }
                part = new ExtentPart(block, Math.Min(run.First + run.Count, limit) - block, run.Physical + (ulong)inRun, run.IsUnwritten, crcIndex + inRun, run.Birth);
                return true;
            }
            if (!run.IsUnwritten) { crcIndex += run.Count; }
        }
        return true;
    }

    /// <summary>How many runs and checksums there are; false: not as many bytes.</summary>
    public static bool TryReadCounts(ReadOnlySpan<byte> value, out int runs, out int crcs)
    {
        runs = crcs = 0;
        if (value.Length < HeaderBytes) { return false; }
        runs = RunCount(value);
        crcs = BinaryPrimitives.ReadUInt16LittleEndian(value[2..]);
        return value.Length == HeaderBytes + (runs * RunBytes) + (4 * crcs);
    }
}

/// <summary>A stored run of a group.</summary>
internal readonly record struct ExtentRun(int First, int Count, bool IsUnwritten, ulong Physical, ulong Birth)
{
    /// <summary>False: it is none.</summary>
    public static bool TryRead(ReadOnlySpan<byte> value, int index, out ExtentRun run)
    {
        ReadOnlySpan<byte> stored = value.Slice(ExtentGroup.HeaderBytes + (index * ExtentGroup.RunBytes), ExtentGroup.RunBytes);
        ushort flags = BinaryPrimitives.ReadUInt16LittleEndian(stored[2..]);
        run = new ExtentRun(stored[0], stored[1] + 1, (flags & ExtentGroup.Unwritten) != 0, BinaryPrimitives.ReadUInt64LittleEndian(stored[8..]), BinaryPrimitives.ReadUInt64LittleEndian(stored[16..]));
        return run.First + run.Count <= ExtentGroup.Blocks && (flags & ~ExtentGroup.Unwritten) == 0;
    }
}

/// <summary>One extent group taken apart for a change.</summary>
internal sealed class ExtentGroupEditor
{
    private readonly ulong[] _physical = new ulong[ExtentGroup.Blocks];
    private readonly ulong[] _birth = new ulong[ExtentGroup.Blocks];
    private readonly uint[] _crc = new uint[ExtentGroup.Blocks];
    private readonly bool[] _unwritten = new bool[ExtentGroup.Blocks];
    private readonly byte[] _encoded = new byte[Tree.MaxValueBytes];

    public bool IsEmpty => Array.TrueForAll(_physical, static p => p == 0);

    public ulong Physical(int block) => _physical[block];

    public bool IsUnwritten(int block) => _unwritten[block];

    /// <summary>Decodes the group as the transaction has it; no item is an empty group.</summary>
    public Errno Load(Transaction transaction, TreeKey key, bool hasCrcs)
    {
        Errno found = transaction.TryGet(key, out ReadOnlySpan<byte> value);
        if (found is not (Errno.None or Errno.ENOENT)) { return found; }
        return TryLoad(value, hasCrcs) ? Errno.None : Errno.EIO;
    }

    /// <summary>Decodes, run by run; false when the value makes no sense.</summary>
    public bool TryLoad(ReadOnlySpan<byte> value, bool hasCrcs)
    {
        Array.Clear(_physical);
        Array.Clear(_unwritten);
        if (value.IsEmpty) { return true; }
        if (!ExtentGroup.TryReadCounts(value, out int runs, out int crcs)) { return false; }
        int limit = 0, crcIndex = 0;
        for (int i = 0; i < runs; i++)
        {
            if (!ExtentRun.TryRead(value, i, out ExtentRun run) || run.First < limit || run.Physical == 0) { return false; }
            limit = run.First + run.Count;
            if (hasCrcs && !run.IsUnwritten && crcIndex + run.Count > crcs) { return false; }
            for (int k = 0; k < run.Count; k++)
            {
                int block = run.First + k;
                _physical[block] = run.Physical + (ulong)k;
                _unwritten[block] = run.IsUnwritten;
                _birth[block] = run.Birth;
                _crc[block] = hasCrcs && !run.IsUnwritten ? ExtentGroup.Crc(value, crcIndex + k) : 0;
            }
            if (!run.IsUnwritten) { crcIndex += run.Count; }
        }
        return true;
    }

    public void Set(int block, ulong physical, bool unwritten, uint crc, ulong birth)
    {
        _physical[block] = physical;
        _unwritten[block] = unwritten;
        _crc[block] = crc;
        _birth[block] = birth;
    }

    public void Clear(int block)
    {
        _physical[block] = 0;
        _unwritten[block] = false;
    }

    /// <summary>The stored form; valid until the next call.</summary>
    public ReadOnlySpan<byte> Encode(bool hasCrcs)
    {
        Span<byte> target = _encoded;
        target[..ExtentGroup.HeaderBytes].Clear();
        int runs = 0, at = ExtentGroup.HeaderBytes;
        for (int block = 0; block < ExtentGroup.Blocks;)
        {
            if (_physical[block] == 0) { block++; continue; }
            int first = block++;
            while (block < ExtentGroup.Blocks && _physical[block] == _physical[block - 1] + 1
                && _unwritten[block] == _unwritten[first] && _birth[block] == _birth[first]) { block++; }
            Span<byte> run = target.Slice(at, ExtentGroup.RunBytes);
            run.Clear();
            run[0] = (byte)first;
            run[1] = (byte)(block - first - 1);
            BinaryPrimitives.WriteUInt16LittleEndian(run[2..], _unwritten[first] ? ExtentGroup.Unwritten : (ushort)0);
            BinaryPrimitives.WriteUInt64LittleEndian(run[8..], _physical[first]);
            BinaryPrimitives.WriteUInt64LittleEndian(run[16..], _birth[first]);
            at += ExtentGroup.RunBytes;
            runs++;
        }
        int crcs = 0;
        for (int block = 0; hasCrcs && block < ExtentGroup.Blocks; block++)
        {
            if (_physical[block] == 0 || _unwritten[block]) { continue; }
            BinaryPrimitives.WriteUInt32LittleEndian(target[at..], _crc[block]);
            at += 4;
            crcs++;
        }
        BinaryPrimitives.WriteUInt16LittleEndian(target, (ushort)runs);
        BinaryPrimitives.WriteUInt16LittleEndian(target[2..], (ushort)crcs);
        return target[..at];
    }
}
