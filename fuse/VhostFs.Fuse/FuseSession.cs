using VhostFs.Linux;

namespace VhostFs.Fuse;

/// <summary>What INIT settled; enough to go on with a guest's session after a restart, without a new INIT.</summary>
public readonly record struct FuseNegotiated(uint Minor, FuseInitFlags Flags);

/// <summary>The state of one session, shared by the handlers: what was negotiated, how long the guest may cache, and its epoch.</summary>
internal sealed class FuseSession
{
    private readonly (ulong Seconds, uint Nanoseconds) _entryTimeout;
    private readonly (ulong Seconds, uint Nanoseconds) _attributeTimeout;
    private readonly (ulong Seconds, uint Nanoseconds) _negativeTimeout;

    public FuseSession(IFileSystem fileSystem, FuseServerOptions options)
    {
        FileSystem = fileSystem;
        Options = options;
        _entryTimeout = Split(options.EffectiveEntryTimeout);
        _attributeTimeout = Split(options.EffectiveAttributeTimeout);
        _negativeTimeout = Split(options.NegativeTimeout);
    }

    public IFileSystem FileSystem { get; }

    public FuseServerOptions Options { get; }

    /// <summary>Null before INIT and after DESTROY or a reset.</summary>
    public FuseNegotiated? Negotiated { get; private set; }

    /// <summary>Counts sessions: a reference made by a request of an earlier epoch belongs to nobody and is taken back.</summary>
    public uint Epoch { get; private set; }

    /// <summary>Raised when a session begins.</summary>
    public event Action<FuseNegotiated>? Started;

    /// <summary>Raised before the reply to a request that has changed an inode's attributes and that the kernel does not take for a change: an ioctl.</summary>
    public event Action<ulong>? ChangedUnseen;

    /// <summary>The last SETATTR, if it dropped a file's privileges. The kernel keeps the file locked until the change that it is for.</summary>
    public (ulong Node, uint Pid) LastDrop { get; set; }

    public FuseInitFlags Flags => Negotiated.GetValueOrDefault().Flags;

    public bool IsCurrent(uint epoch) => epoch == Epoch && Negotiated is not null;

    public bool HasLocks => Has(FuseInitFlags.POSIX_LOCKS | FuseInitFlags.FLOCK_LOCKS);

    public bool Has(FuseInitFlags flag) => (Flags & flag) != 0;

    public void Start(FuseNegotiated negotiated)
    {
        Invariant.That(Negotiated is null);
        Negotiated = negotiated;
        Started?.Invoke(negotiated);
    }

    public void RaiseChangedUnseen(ulong node) => ChangedUnseen?.Invoke(node);

    public void End()
    {
        if (Negotiated is null) { return; }
        Negotiated = null;
        Epoch++;
        FileSystem.EndSession();
    }

    public bool CachesNegativeEntries => Options.NegativeTimeout > TimeSpan.Zero;

    public FuseEntryOut NegativeEntry => new(0, 0, _negativeTimeout.Seconds, 0, _negativeTimeout.Nanoseconds, 0, default);

    public FuseEntryOut ToEntry(in InodeAttributes attributes)
    {
        (ulong seconds, uint nanoseconds) = AttributeTimeoutOf(attributes);
        return new FuseEntryOut(attributes.Inode, attributes.Generation, _entryTimeout.Seconds, seconds, _entryTimeout.Nanoseconds, nanoseconds, ToAttr(attributes));
    }

    public FuseAttrOut ToAttrOut(in InodeAttributes attributes)
    {
        (ulong seconds, uint nanoseconds) = AttributeTimeoutOf(attributes);
        return new FuseAttrOut(seconds, nanoseconds, 0, ToAttr(attributes));
    }

    public FuseStatxOut ToStatxOut(in InodeAttributes attributes)
    {
        const uint basicStats = 0x7ff, birthTime = 0x800; // STATX_BASIC_STATS, STATX_BTIME
        const uint attributeMask = (uint)(FsFlags.IMMUTABLE | FsFlags.APPEND | FsFlags.NODUMP); // STATX_ATTR_* of the same names have the same bits
        uint device = attributes.DeviceNumber;
        (ulong seconds, uint nanoseconds) = AttributeTimeoutOf(attributes);
        return new FuseStatxOut(seconds, nanoseconds, 0, 0, 0, new FuseStatx(
            basicStats | birthTime, BlockSize, (uint)attributes.Flags & attributeMask, attributes.LinkCount, attributes.Uid, attributes.Gid, (ushort)attributes.Mode, 0,
            attributes.Inode, (ulong)attributes.SizeBytes, (ulong)attributes.Blocks512, attributeMask,
            ToStatxTime(attributes.AccessTime), ToStatxTime(attributes.BirthTime), ToStatxTime(attributes.ChangeTime), ToStatxTime(attributes.ModifyTime),
            (device & 0xfff00) >> 8, (device & 0xff) | ((device >> 12) & 0xfff00))); // the kernel's new_decode_dev
    }

    public OpenReplyFlags OpenFlags => Options.Cache switch
    {
        FuseCacheMode.Never or FuseCacheMode.Metadata => OpenReplyFlags.DIRECT_IO | OpenReplyFlags.PARALLEL_DIRECT_WRITES,
        FuseCacheMode.Always => OpenReplyFlags.KEEP_CACHE,
        _ => OpenReplyFlags.None,
    };

    public OpenReplyFlags OpenDirectoryFlags => Options.Cache switch
    {
        FuseCacheMode.Always or FuseCacheMode.Metadata => OpenReplyFlags.KEEP_CACHE | OpenReplyFlags.CACHE_DIR,
        _ => OpenReplyFlags.None,
    };

    private const uint BlockSize = 4096;

    // Writes take set-id bits away here (HANDLE_KILLPRIV_V2), and the kernel does not look at the mode again after them: it must not keep one with such bits.
    private (ulong Seconds, uint Nanoseconds) AttributeTimeoutOf(in InodeAttributes attributes)
    {
        const uint setUserId = 0x800, setGroupId = 0x400;
        bool mayLoseBits = (attributes.Mode & FuseFlags.S_IFMT) == FuseFlags.S_IFREG && (attributes.Mode & (setUserId | setGroupId)) != 0 && Has(FuseInitFlags.HANDLE_KILLPRIV_V2);
        return mayLoseBits ? default : _attributeTimeout;
    }

    private static FuseAttr ToAttr(in InodeAttributes a) => new(a.Inode, (ulong)a.SizeBytes, (ulong)a.Blocks512,
        (ulong)a.AccessTime.Seconds, (ulong)a.ModifyTime.Seconds, (ulong)a.ChangeTime.Seconds,
        a.AccessTime.Nanoseconds, a.ModifyTime.Nanoseconds, a.ChangeTime.Nanoseconds,
        a.Mode, a.LinkCount, a.Uid, a.Gid, a.DeviceNumber, BlockSize, 0);

    private static FuseStatxTime ToStatxTime(FsTime time) => new(time.Seconds, time.Nanoseconds);

    private static (ulong Seconds, uint Nanoseconds) Split(TimeSpan timeout)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(timeout, TimeSpan.Zero);
        return ((ulong)(timeout.Ticks / TimeSpan.TicksPerSecond), (uint)(timeout.Ticks % TimeSpan.TicksPerSecond * 100));
    }
}
