using System.Buffers;
using VhostFs.Reactor;

namespace VhostFs.Blobstore.Check;

/// <summary>Reads one volume as recovery would leave it: header, tree, log. The result holds every item and the images that would be written.</summary>
internal sealed class VolumeReader : IDisposable
{
    private readonly BlockReader _reader;
    private readonly CheckReport _report;
    private readonly Anchor _anchor;
    private readonly ClusterMap? _clusters;
    private readonly TreeWalker _walker;
    private readonly LogReplay _replay;
    private byte[] _ring = [];

    /// <param name="reader">The device.</param>
    /// <param name="report">Takes the findings.</param>
    /// <param name="anchor">Where the volume begins.</param>
    /// <param name="clusters">Null for volume 0.</param>
    /// <param name="isNodeSpace">A node of this volume may lie at this block.</param>
    public VolumeReader(BlockReader reader, CheckReport report, Anchor anchor, ClusterMap? clusters, Func<ulong, bool> isNodeSpace)
    {
        _reader = reader;
        _report = report;
        _anchor = anchor;
        _clusters = clusters;
        _walker = new TreeWalker(reader, report, anchor.Name, anchor.VolumeId, isNodeSpace);
        _replay = new LogReplay(reader, report, anchor.Name, anchor.VolumeId, clusters);
    }

    public ItemTable Items => _walker.Items;

    public IReadOnlyDictionary<ulong, ReadOnlyMemory<byte>> Images => _replay.Images;

    public ulong NextInode => _replay.NextInode;

    /// <summary>The header, or null when the volume cannot be read; findings say why. A damaged tree is still returned as far as it goes.</summary>
    public async IoTask<Header?> ReadAsync(ulong poolEpoch)
    {
        if (_anchor.Blocks is < Anchor.MinBlocks or > Anchor.MaxBlocks)
        {
            _report.Error("header", _anchor.Name, $"an anchor of {_anchor.Blocks} blocks is not possible");
            return null;
        }
        Header? header = await Header.FindAsync(_reader, _anchor, _report);
        if (header is null) { return null; }
        if (header.FieldError(_anchor, poolEpoch) is { } wrong)
        {
            _report.Error("header", _anchor.Name, wrong);
            return null;
        }
        int findings = _report.Findings.Count;
        await _walker.WalkAsync(header);
        // With nodes missing the tree says nothing about its count.
        if (header.CountsInodes && _report.Findings.Count == findings && (long)header.InodeCount != Items.InodesInTree)
        {
            _report.Error("header", _anchor.Name, $"counts {header.InodeCount} inodes, and its tree has {Items.InodesInTree}");
        }

        int ringBytes = (int)_anchor.RingBlocks * BlockReader.BlockBytes;
        _ring = ArrayPool<byte>.Shared.Rent(ringBytes);
        if (!await ReadRingAsync(ringBytes))
        {
            // An empty log has nothing to lose.
            if (!header.IsCleanlyClosed)
            {
                _report.Error("log", _anchor.Name, "the log cannot be read");
                return null;
            }
            _report.Warning("log", _anchor.Name, "blocks of the log, which is empty, cannot be read");
        }
        var ring = new LogRing(_ring.AsMemory(0, ringBytes), header);
        string? refused = ring.Read(poolEpoch);
        _report.Counts.LogBatches += ring.Chain.Count;
        if (refused is not null) { _report.Error("log", _anchor.Name, refused); }
        if (header.IsCleanlyClosed && ring.EndLsn > header.CheckpointLsn) { _report.Error("log", _anchor.Name, "the volume was closed cleanly, but its log holds records"); }
        await _replay.RunAsync(header, ring, Items);
        return header;
    }

    // A block that cannot be read counts as empty.
    private async IoTask<bool> ReadRingAsync(int ringBytes)
    {
        if (await _reader.ReadAsync(_anchor.RingFirst, _ring.AsMemory(0, ringBytes))) { return true; }
        for (int at = 0; at < ringBytes; at += BlockReader.BlockBytes)
        {
            Memory<byte> block = _ring.AsMemory(at, BlockReader.BlockBytes);
            if (!await _reader.ReadAsync(_anchor.RingFirst + (ulong)(at / BlockReader.BlockBytes), block)) { block.Span.Clear(); }
        }
        return false;
    }

    // Items and images are views of the ring.
    public void Dispose()
    {
        if (_ring.Length > 0) { ArrayPool<byte>.Shared.Return(_ring); }
        _ring = [];
    }
}
