using VhostFs.Linux;

namespace VhostFs.Blobstore;

/// <summary>Joins consecutive blocks of one cluster, allocated or given up by a change, into one operation.</summary>
internal ref struct BlockRunBuilder(Volume volume)
{
    private ulong _first;
    private int _count;

    public Errno Add(ulong block, Transaction transaction, bool isFree)
    {
        if (_count > 0 && block == _first + (ulong)_count && volume.Allocator.ClusterOf(block) == volume.Allocator.ClusterOf(_first))
        {
            _count++;
            return Errno.None;
        }
        Errno ended = Finish(transaction, isFree);
        _first = block;
        _count = 1;
        // A map that names a block outside of our clusters is a damaged or hostile one.
        return volume.Allocator.Owns(block, 1) ? ended : Errno.EIO;
    }

    public Errno Finish(Transaction transaction, bool isFree)
    {
        if (_count == 0) { return Errno.None; }
        var run = new BlockRun(_first, _count);
        _count = 0;
        return isFree ? volume.Shared.TryStageRelease(transaction, run) : transaction.Allocate(run);
    }
}
