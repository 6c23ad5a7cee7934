using VhostFs.Bdev;
using VhostFs.Linux;
using VhostFs.Simulation.Tests.World;

namespace VhostFs.Simulation.Tests.Disk;

/// <summary>The medium of one disk and its volatile cache; outlives the process that uses it.</summary>
/// <remarks>Invariants: what is read is the cache over the medium; a write is in <see cref="_cached"/> from its start until a flush that began after its
/// completion has completed; a power cut leaves the medium and any part of what is in the cache, 512-byte sector by sector.</remarks>
internal sealed class SimDisk
{
    public const int BlockBytes = 4096;
    public const int SectorBytes = 512;
    private const int SectorsPerBlock = BlockBytes / SectorBytes;
    private static readonly byte[] s_zeroes = new byte[BlockBytes];

    private readonly SimRandom _random;
    private readonly byte[]?[] _medium;
    private readonly byte[]?[] _visible;
    private readonly List<DiskWrite> _cached = [];
    private readonly List<int> _written = [];

    public SimDisk(string name, long sizeBytes, SimRandom random)
    {
        Name = name;
        _random = random;
        _medium = new byte[sizeBytes / BlockBytes][];
        _visible = new byte[sizeBytes / BlockBytes][];
    }

    public string Name { get; }

    public long SizeBytes => (long)_medium.Length * BlockBytes;

    /// <summary>Changes with each process that opens the disk: what an earlier one still has under way does not arrive any more.</summary>
    public int Generation { get; private set; }

    /// <summary>Lies told so far, since the disk was made: lost and misdirected writes, rotten blocks.</summary>
    public int LieCount { get; private set; }

    public int CachedCount => _cached.Count;

    public void Read(long offset, Span<byte> target)
    {
        for (; target.Length > 0; offset += BlockBytes, target = target[BlockBytes..])
        {
            long block = offset / BlockBytes;
            (_visible[block] ?? _medium[block] ?? s_zeroes).CopyTo(target);
        }
    }

    public DiskWrite Begin(BdevOperations operation, long offset, long length, byte[] data)
    {
        var write = new DiskWrite(operation, offset, length, data);
        _cached.Add(write);
        return write;
    }

    /// <summary>From now on readers see it.</summary>
    public void Apply(DiskWrite write)
    {
        if (write.IsApplied) { return; }
        write.IsApplied = true;
        for (long at = 0; at < write.LengthBytes; at += BlockBytes) { Put(_visible, write, at, all: true, sectors: 0); }
    }

    /// <summary>Acknowledged.</summary>
    public void Complete(DiskWrite write)
    {
        Apply(write);
        write.IsCompleted = true;
    }

    /// <summary>Failed: it may have arrived, in part or as a whole.</summary>
    public void Fail(DiskWrite write)
    {
        if (!write.IsApplied) { Tear(write, _visible, _random.Below(3)); }
        write.IsApplied = true;
        write.IsCompleted = true;
    }

    /// <summary>What a flush that begins now will make durable.</summary>
    public List<DiskWrite> Completed() => [.. _cached.Where(write => write.IsCompleted)];

    public void MakeDurable(List<DiskWrite> writes)
    {
        if (writes.Count == 0) { return; }
        var done = new HashSet<DiskWrite>(writes);
        foreach (DiskWrite write in writes)
        {
            if (write.IsDurable) { continue; }
            write.IsDurable = true;
            for (long at = 0; at < write.LengthBytes; at += BlockBytes)
            {
                if (write.Torn is null || write.Torn.ContainsKey(at)) { Put(_medium, write, at, write.Torn is null, write.Torn?[at] ?? 0); }
            }
        }
        _cached.RemoveAll(done.Contains);
    }

    /// <summary>The process ends: what it had under way arrives, or not, or in part. Nothing that it still asks for does.</summary>
    public void EndProcess()
    {
        Generation++;
        foreach (DiskWrite write in _cached)
        {
            if (write.IsCompleted) { continue; }
            if (!write.IsApplied) { Tear(write, _visible, _random.Below(3)); }
            write.IsApplied = true;
            write.IsCompleted = true;
        }
    }

    public void CutPower(Survival survival)
    {
        EndProcess();
        DropCache(survival);
    }

    /// <summary>The cache is gone, but for what happened to have been written back.</summary>
    public void DropCache(Survival survival)
    {
        int keep = _cached.Count == 0 ? 0 : _random.Below(_cached.Count);
        int percent = _random.Between(5, 95);
        for (int i = 0; i < _cached.Count; i++)
        {
            DiskWrite write = _cached[i];
            bool survives = survival switch
            {
                Survival.Nothing => false,
                Survival.Everything => true,
                Survival.Prefix => i < keep,
                Survival.AllButOne => i != keep,
                _ => _random.Below(100) < percent,
            };
            if (!survives) { continue; }
            bool torn = survival == Survival.Torn || (survival == Survival.Prefix && i == keep - 1);
            if (torn && write.Torn is null) { Tear(write, _medium, 1); }
            else
            {
                for (long at = 0; at < write.LengthBytes; at += BlockBytes)
                {
                    if (write.Torn is null || write.Torn.ContainsKey(at)) { Put(_medium, write, at, write.Torn is null, write.Torn?[at] ?? 0); }
                }
            }
        }
        // What is still under way (the process goes on) arrives later.
        List<DiskWrite> underWay = [.. _cached.Where(write => !write.IsCompleted)];
        _cached.Clear();
        Array.Clear(_visible);
        foreach (DiskWrite write in underWay)
        {
            _cached.Add(write);
            if (write.IsApplied) { write.IsApplied = false; Apply(write); }
        }
    }

    /// <summary>A block that once was written changes by itself. False: there is none.</summary>
    public bool Rot(out long block)
    {
        block = -1;
        if (_written.Count == 0) { return false; }
        // Mostly something written lately: that is what is read again.
        int recent = Math.Min(_written.Count, 200);
        block = _random.OneIn(4) ? _written[_random.Below(_written.Count)] : _written[_written.Count - 1 - _random.Below(recent)];
        int bit = _random.Below(BlockBytes * 8), burst = _random.OneIn(3) ? _random.Between(8, 512) : 1;
        foreach (byte[]?[] layer in new[] { _visible, _medium })
        {
            if (layer[block] is not { } old) { continue; }
            byte[] rotten = [.. old];
            for (int i = 0; i < burst; i++) { rotten[((bit / 8) + i) % BlockBytes] ^= (byte)(1 << (bit % 8)); }
            layer[block] = rotten;
        }
        LieCount++;
        return true;
    }

    /// <summary>A write that is acknowledged and does nothing; or does it elsewhere.</summary>
    public void Lie(DiskWrite write, bool elsewhere, out long target)
    {
        LieCount++;
        write.IsApplied = true;
        _cached.Remove(write);
        target = -1;
        if (!elsewhere || write.Operation != BdevOperations.Write) { return; }
        int blocks = (int)(write.LengthBytes / BlockBytes);
        target = _written.Count > 0 && _random.OneIn(2) ? _written[_random.Below(_written.Count)] : _random.Below(_medium.Length);
        target = Math.Min(target, _medium.Length - blocks);
        DiskWrite misplaced = Begin(write.Operation, target * BlockBytes, write.LengthBytes, write.Data);
        Complete(misplaced);
    }

    /// <summary>kind 0: nothing arrives; 1: some sectors; 2: everything.</summary>
    private void Tear(DiskWrite write, byte[]?[] layer, int kind)
    {
        if (kind == 2)
        {
            for (long at = 0; at < write.LengthBytes; at += BlockBytes) { Put(layer, write, at, all: true, sectors: 0); }
            return;
        }
        write.Torn = [];
        if (kind == 0) { return; }
        bool prefix = _random.OneIn(2), wholeBlocks = _random.OneIn(2);
        long limit = _random.Below(write.LengthBytes / SectorBytes + 1);
        for (long at = 0; at < write.LengthBytes; at += BlockBytes)
        {
            int kept = 0;
            for (int sector = 0; sector < SectorsPerBlock; sector++)
            {
                bool keeps = prefix ? (at / SectorBytes) + sector < limit : _random.OneIn(2);
                if (keeps) { kept |= 1 << sector; }
            }
            if (wholeBlocks) { kept = (kept & 1) != 0 ? 0xFF : 0; }
            if (kept == 0) { continue; }
            write.Torn[at] = kept;
            Put(layer, write, at, kept == 0xFF, kept);
        }
    }

    private void Put(byte[]?[] layer, DiskWrite write, long at, bool all, int sectors)
    {
        long block = (write.OffsetBytes + at) / BlockBytes;
        byte[] next = new byte[BlockBytes];
        ReadOnlySpan<byte> source = write.Operation == BdevOperations.Write ? write.Data.AsSpan((int)at, BlockBytes) : s_zeroes;
        if (all) { source.CopyTo(next); }
        else
        {
            (layer[block] ?? _medium[block] ?? s_zeroes).CopyTo(next, 0);
            for (int sector = 0; sector < SectorsPerBlock; sector++)
            {
                if ((sectors & (1 << sector)) != 0) { source.Slice(sector * SectorBytes, SectorBytes).CopyTo(next.AsSpan(sector * SectorBytes)); }
            }
        }
        layer[block] = next;
        if (write.Operation == BdevOperations.Write) { _written.Add((int)block); }
    }
}

/// <summary>One write, unmap or write-zeroes.</summary>
internal sealed class DiskWrite(BdevOperations operation, long offsetBytes, long lengthBytes, byte[] data)
{
    public BdevOperations Operation => operation;

    public long OffsetBytes => offsetBytes;

    public long LengthBytes => lengthBytes;

    /// <summary>The bytes as they were when it started.</summary>
    public byte[] Data => data;

    public bool IsApplied { get; set; }

    public bool IsCompleted { get; set; }

    public bool IsDurable { get; set; }

    /// <summary>Only these sectors of these blocks (by their offset in the write) arrived; null: all.</summary>
    public Dictionary<long, int>? Torn { get; set; }
}
