namespace VhostFs.Fuse;

/// <summary>What the guest may keep, with virtiofsd's names and meanings.</summary>
public enum FuseCacheMode
{
    /// <summary>Timeouts of 1 s, data cached while a file is open.</summary>
    Auto,

    /// <summary>Timeouts of a day, data kept across opens: only one guest writes, or none.</summary>
    Always,

    /// <summary>Timeouts 0, direct I/O, no READDIRPLUS.</summary>
    Never,

    /// <summary>Metadata as with Always, direct I/O for data.</summary>
    Metadata,
}

/// <summary>When reading moves an access time. FUSE kernels leave it to the server, whatever the mount's own options say.</summary>
public enum AccessTimeMode
{
    /// <summary>When it is not newer than the last change, or a day old.</summary>
    Relative,

    /// <summary>Always.</summary>
    Strict,

    /// <summary>Never.</summary>
    Off,
}

/// <summary>How one export is served; fixed for the life of a <see cref="FuseServer"/>.</summary>
public sealed record FuseServerOptions
{
    public FuseCacheMode Cache { get; init; } = FuseCacheMode.Auto;

    /// <summary>How long a name may be cached; null: as the cache mode says.</summary>
    public TimeSpan? EntryTimeout { get; init; }

    /// <summary>How long attributes may be cached; null: as the cache mode says.</summary>
    public TimeSpan? AttributeTimeout { get; init; }

    /// <summary>How long the absence of a name may be cached. Zero: ENOENT, and the guest asks again.</summary>
    public TimeSpan NegativeTimeout { get; init; }

    /// <summary>The guest collects small writes and owns size and mtime: for a volume with a single writer.</summary>
    public bool Writeback { get; init; }

    public bool ReadOnly { get; init; }

    public AccessTimeMode AccessTimes { get; init; }

    public bool Xattr { get; init; } = true;

    /// <summary>Needs <see cref="Xattr"/>; makes the guest kernel check permissions with ACLs.</summary>
    public bool PosixAcl { get; init; } = true;

    /// <summary>The guest sends the label of a new object along with its creation (SELinux).</summary>
    public bool SecurityLabel { get; init; }

    /// <summary>We clear set-id bits and capabilities on write, truncate and chown.</summary>
    public bool KillPrivilegesV2 { get; init; } = true;

    public bool ReadDirectoryPlus { get; init; } = true;

    public bool AnnounceSubmounts { get; init; }

    /// <summary>MAP_SHARED works on files opened with direct I/O.</summary>
    public bool AllowMmap { get; init; }

    /// <summary>Id-mapped mounts in the guest.</summary>
    public bool AllowIdmap { get; init; } = true;

    /// <summary>No OPEN and RELEASE: the file system must accept handle 0 for every file.</summary>
    public bool NoOpen { get; init; }

    /// <summary>No OPENDIR and RELEASEDIR: the file system must accept handle 0 for every directory.</summary>
    public bool NoOpenDirectory { get; init; }

    /// <summary>The guest drops cached data only when told or when it opens the file anew (exclusive use), not when mtime or size move.</summary>
    public bool ExplicitInvalidation { get; init; }

    /// <summary>fcntl(2) locks, POSIX and OFD, hold against all who use the volume, not only inside the guest. Not with <see cref="NoOpen"/>.</summary>
    public bool PosixLocks { get; init; }

    /// <summary>The same for flock(2).</summary>
    public bool FlockLocks { get; init; }

    /// <summary>The transport can take requests through io_uring, if the kernel offers it: /dev/fuse of this host only, for a mount that is the volume's
    /// only user: locks then stay in the kernel, since a request that waits for one would hold a place on its core's queue.</summary>
    public bool OverUring { get; init; }

    internal TimeSpan EffectiveEntryTimeout => EntryTimeout ?? CacheTimeout;

    internal TimeSpan EffectiveAttributeTimeout => AttributeTimeout ?? CacheTimeout;

    private TimeSpan CacheTimeout => Cache switch
    {
        FuseCacheMode.Never => TimeSpan.Zero,
        FuseCacheMode.Auto => TimeSpan.FromSeconds(1),
        _ => TimeSpan.FromDays(1),
    };
}
