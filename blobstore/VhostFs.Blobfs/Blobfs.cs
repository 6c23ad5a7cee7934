using VhostFs.Blobstore;
using VhostFs.Fuse;
using VhostFs.Linux;
using VhostFs.Reactor;

namespace VhostFs.Blobfs;

/// <summary>A POSIX file system in a volume: makes and ends sessions, owns what outlives them (docs/blobfs.md).</summary>
/// <remarks>Everything happens on the volume's reactor.</remarks>
public sealed class Blobfs
{
    private readonly BlobfsState _state;

    private Blobfs(BlobfsState state) => _state = state;

    public Volume Volume => _state.Volume;

    /// <summary>Inodes without a name that are kept for a session or wait for deletion.</summary>
    public int OrphanCount => _state.Orphans.Count;

    /// <summary>Makes the root directory of a new volume; deletes what a crash left without names, and finishes interrupted truncations.</summary>
    public static async IoTask<FsResult<Blobfs>> MountAsync(Volume volume, BlobfsOptions options)
    {
        var state = new BlobfsState(volume, options);
        FsResult<Nothing> root = await state.Loop.Change<RootChange, Nothing>(new RootChange(state));
        if (root.IsError) { return root.Errno; }
        Errno recovered = await state.Orphans.RecoverAsync(state.Truncation);
        return recovered == Errno.None ? new Blobfs(state) : recovered;
    }

    /// <param name="isReadOnly">Reading leaves no trace: access times stay. That nothing else changes is up to the FUSE server's own option.</param>
    public BlobfsSession OpenSession(bool isReadOnly = false, AccessTimeMode accessTimes = AccessTimeMode.Relative) => new(_state, isReadOnly ? AccessTimeMode.Off : accessTimes);

    /// <summary>From now on nothing is deleted that a session has open: another process will serve the session (<see cref="BlobfsSession.Resume"/>).</summary>
    public void LeaveOrphans() => _state.Orphans.Leave();

    /// <summary>Waits for deletions under way. All sessions have ended; the volume is closed by whoever opened it.</summary>
    public IoTask<Errno> CloseAsync() => _state.Orphans.StopAsync();

    private readonly record struct RootChange(BlobfsState State) : ITreeChange<Nothing>
    {
        public Admission Admission => State.Volume.IsNew ? Admission.Grow : Admission.Release;

        public Errno Try(out Nothing result, out ulong lsn)
        {
            result = default;
            lsn = 0;
            Errno found = State.Volume.TryGetInode(BlobfsKeys.RootInode, out InodeRecord record);
            if (found == Errno.None) { return record.IsDirectory ? Errno.None : Errno.EIO; }
            // Only a volume in which nothing was ever made may be without a root.
            if (found != Errno.ESTALE) { return found; }
            if (!State.Volume.IsNew) { return Errno.EIO; }
            record = (new InodeRecord() with { Mode = FileMode.S_IFDIR | 0x1ED, LinkCount = 2, Generation = 1, Parent = BlobfsKeys.RootInode }).WithBirth(State.Clock());
            Transaction tx = State.Volume.Begin();
            Errno staged = tx.PutInode(BlobfsKeys.RootInode, record);
            if (staged != Errno.None) { tx.Abort(); return staged; }
            Invariant.That(State.Volume.AllocateInode() == BlobfsKeys.RootInode);
            lsn = tx.Commit();
            return Errno.None;
        }
    }
}
