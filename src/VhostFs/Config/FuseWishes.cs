using VhostFs.Fuse;

namespace VhostFs.Config;

/// <summary>Who else uses a volume while a session does.</summary>
internal enum SharingMode
{
    /// <summary>Nothing was said: caching as <c>cache</c> says, and others may use the volume, too.</summary>
    Unsaid,

    /// <summary>Nobody: the session may keep everything, and collects writes.</summary>
    Exclusive,

    /// <summary>Any number of readers, and nobody who writes: everything may be kept for ever.</summary>
    SharedReadOnly,

    /// <summary>Anybody: nothing is kept without asking.</summary>
    Shared,
}

/// <summary>What the user said about how a volume is served; what was left open (null) follows from <see cref="Sharing"/>.</summary>
internal sealed record FuseWishes
{
    private static readonly TimeSpan s_day = TimeSpan.FromDays(1);
    private static readonly TimeSpan s_year = TimeSpan.FromDays(365);

    public SharingMode Sharing { get; init; }

    public FuseCacheMode? Cache { get; init; }

    public bool? Writeback { get; init; }

    public bool? ReadOnly { get; init; }

    public bool? ReadDirectoryPlus { get; init; }

    public bool? PosixLocks { get; init; }

    public bool? FlockLocks { get; init; }

    /// <summary>Locks of a program on this host are expected to hold against guests, unless nobody else can be there.</summary>
    public bool IsHostMount { get; init; }

    public TimeSpan? EntryTimeout { get; init; }

    public TimeSpan? AttributeTimeout { get; init; }

    public TimeSpan? NegativeTimeout { get; init; }

    /// <summary>What has nothing to do with sharing.</summary>
    public FuseServerOptions Others { get; init; } = new();

    /// <summary>A cache mode of the user's own decides over time-outs, too; a time-out of his decides over both.</summary>
    public FuseServerOptions Settle()
    {
        bool isAlone = Sharing is SharingMode.Exclusive or SharingMode.SharedReadOnly;
        bool readOnly = ReadOnly ?? Sharing == SharingMode.SharedReadOnly;
        FuseCacheMode cache = Cache ?? (isAlone ? FuseCacheMode.Always : FuseCacheMode.Auto);
        bool locks = Sharing == SharingMode.Shared || (IsHostMount && Sharing != SharingMode.Exclusive);
        TimeSpan? timeout = Cache is null ? Timeout : null;
        return Others with
        {
            Cache = cache,
            ReadOnly = readOnly,
            Writeback = Writeback ?? (Sharing == SharingMode.Exclusive && !readOnly && cache != FuseCacheMode.Never),
            // Listings with attributes that must be asked for again are only longer.
            ReadDirectoryPlus = ReadDirectoryPlus ?? timeout != TimeSpan.Zero,
            ExplicitInvalidation = isAlone,
            PosixLocks = PosixLocks ?? locks,
            FlockLocks = FlockLocks ?? locks,
            EntryTimeout = EntryTimeout ?? timeout,
            AttributeTimeout = AttributeTimeout ?? timeout,
            NegativeTimeout = NegativeTimeout ?? (isAlone ? timeout : null) ?? TimeSpan.Zero,
        };
    }

    private TimeSpan? Timeout => Sharing switch
    {
        SharingMode.Exclusive => s_day,
        SharingMode.SharedReadOnly => s_year,
        SharingMode.Shared => TimeSpan.Zero,
        _ => null,
    };
}
