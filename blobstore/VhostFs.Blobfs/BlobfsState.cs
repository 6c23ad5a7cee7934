using VhostFs.Blobstore;
using VhostFs.Fuse;

namespace VhostFs.Blobfs;

/// <summary>What all sessions of one mounted volume share. Touched only on the volume's reactor.</summary>
internal sealed class BlobfsState
{
    public BlobfsState(Volume volume, BlobfsOptions options)
    {
        Volume = volume;
        Options = options;
        NameHash hash = options.NameHash ?? new SipHash(volume.HashKey0, volume.HashKey1).Hash;
        Clock = options.Clock ?? SystemTime;
        Loop = new OperationLoop(volume);
        Entries = new DirectoryItems(volume, hash);
        Xattrs = new XattrItems(volume, hash);
        References = new SharedReferences();
        Orphans = new Orphans(this);
        Truncation = new Truncation(this);
        Locks = new LockTable();
        References.LastGone += Orphans.ReferencesGone;
    }

    public Volume Volume { get; }

    public BlobData Data => Volume.Data;

    public BlobfsOptions Options { get; }

    public Func<FsTime> Clock { get; }

    public OperationLoop Loop { get; }

    public DirectoryItems Entries { get; }

    public XattrItems Xattrs { get; }

    public SharedReferences References { get; }

    public Orphans Orphans { get; }

    public Truncation Truncation { get; }

    public LockTable Locks { get; }

    /// <summary>Sessions whose kernels are told what others change; few.</summary>
    public List<ChangeNotices> Listeners { get; } = [];

    private static FsTime SystemTime()
    {
        long ticks = DateTime.UtcNow.Ticks - DateTime.UnixEpoch.Ticks;
        long seconds = Math.DivRem(ticks, TimeSpan.TicksPerSecond, out long rest);
        return new FsTime(seconds, (uint)(rest * 100));
    }
}

/// <summary>How a volume is mounted.</summary>
public sealed record BlobfsOptions
{
    /// <summary>Bound of the inodes one session may refer to at a time; beyond it ENFILE.</summary>
    public int MaxInodesPerSession { get; init; } = 4 * 1024 * 1024;

    /// <summary>Bound of the files and directories one session may have open at a time; beyond it ENFILE.</summary>
    public int MaxOpensPerSession { get; init; } = 1024 * 1024;

    /// <summary>Bound of the locks one session may hold at a time; beyond it ENOLCK.</summary>
    public int MaxLocksPerSession { get; init; } = 4096;

    /// <summary>Bound of the requests of one session that wait for a lock; beyond it ENOLCK.</summary>
    public int MaxLockWaitersPerSession { get; init; } = 256;

    /// <summary>How long inodes without a name that are found at mount wait for the session that has them open (<see cref="BlobfsSession.Resume"/>) before they are deleted.</summary>
    public TimeSpan OrphanGrace { get; init; }

    /// <summary>Nameless inodes that are deleted at the same time.</summary>
    public int MaxConcurrentReaps { get; init; } = 4;

    /// <summary>Nameless inodes that wait for deletion before unlink helps with it.</summary>
    public int MaxReapBacklog { get; init; } = 4096;

    /// <summary>False: no session moves access times.</summary>
    public bool AccessTimes { get; init; } = true;

    /// <summary>Null: the system's clock.</summary>
    public Func<FsTime>? Clock { get; init; }

    /// <summary>Null: SipHash-1-3 with the volume's key. It must be the same at every mount of a volume.</summary>
    public NameHash? NameHash { get; init; }
}
