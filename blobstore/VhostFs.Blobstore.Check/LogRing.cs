namespace VhostFs.Blobstore.Check;

/// <summary>Section 7, steps 2 to 4: what the ring proves to be durable (P), and the chain of batches from the tail on.</summary>
internal sealed class LogRing
{
    /// <summary>Bound on the checksum work of a scan, in multiples of the ring: a sound ring needs one, a hostile one could ask for thousands.</summary>
    private const int MaxChecksumFactor = 16;

    private readonly ReadOnlyMemory<byte> _ring;
    private readonly uint _blocks;
    private readonly Header _header;
    private readonly Guid _volume;
    private readonly List<LogBatch> _chain = [];
    private long _checksumBudget;

    public LogRing(ReadOnlyMemory<byte> ring, Header header)
    {
        _ring = ring;
        _blocks = (uint)(ring.Length / BlockReader.BlockBytes);
        _header = header;
        _volume = header.VolumeUuid;
        _checksumBudget = (long)ring.Length * MaxChecksumFactor;
    }

    public IReadOnlyList<LogBatch> Chain => _chain;

    /// <summary>P: everything up to this LSN was durable before the crash.</summary>
    public ulong ProvenLsn { get; private set; }

    /// <summary>The last LSN of the chain.</summary>
    public ulong EndLsn { get; private set; }

    /// <summary>Null, or why the log cannot be what a vhostfs wrote.</summary>
    public string? Read(ulong poolEpoch)
    {
        FindChain();
        ProvenLsn = _header.CheckpointLsn;
        foreach (LogBatch batch in _chain) { ProvenLsn = Math.Max(ProvenLsn, batch.DurableLsn); }
        // Batches that the chain does not reach testify too: behind a gap there may be one that knows what was durable.
        for (uint position = 0; position < _blocks; position++)
        {
            if (Parse(position) is { } batch) { ProvenLsn = Math.Max(ProvenLsn, batch.DurableLsn); }
            if (_checksumBudget < 0) { return "batches overlap so much that the ring cannot be a log"; }
        }
        if (EndLsn < ProvenLsn) { return $"the log ends at LSN {EndLsn}, but {ProvenLsn} was durable: acknowledged changes are lost"; }
        foreach (LogBatch batch in _chain)
        {
            if (batch.Malformed is { } malformed) { return $"batch at ring block {batch.Position}: {malformed}"; }
            if (batch.Epoch > poolEpoch) { return $"batch at ring block {batch.Position} is of epoch {batch.Epoch}, the pool is at {poolEpoch}"; }
        }
        return null;
    }

    private void FindChain()
    {
        uint at = _header.TailPosition;
        ulong lsn = _header.TailLsn;
        uint previousCrc = _header.TailPreviousCrc;
        ulong epoch = _header.LogEpoch;
        uint blocksLeft = _blocks;
        EndLsn = lsn - 1;
        while ((Fits(at, lsn, previousCrc, epoch) ?? Fits(0, lsn, previousCrc, epoch)) is { } batch && batch.TotalBlocks <= blocksLeft)
        {
            _chain.Add(batch);
            blocksLeft -= batch.TotalBlocks; // a chain longer than the ring would run over itself
            at = batch.RingLimit;
            lsn += batch.RecordCount;
            previousCrc = batch.Crc;
            epoch = batch.Epoch;
            EndLsn = lsn - 1;
        }
    }

    private LogBatch? Fits(uint position, ulong lsn, uint previousCrc, ulong epoch) =>
        position < _blocks && Parse(position) is { } batch && batch.FirstLsn == lsn && batch.PreviousCrc == previousCrc && batch.Epoch >= epoch ? batch : null;

    private LogBatch? Parse(uint position)
    {
        if (_checksumBudget < 0) { return null; }
        LogBatch? batch = LogBatch.Parse(_ring, position, _volume, _header.LogEpoch, out long checksumBytes);
        _checksumBudget -= checksumBytes;
        return batch;
    }
}
