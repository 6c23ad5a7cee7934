using VhostFs.Linux;

namespace VhostFs.Fuse;

/// <summary>INIT: the protocol version and which of the offered features this export uses.</summary>
internal static class FuseInit
{
    public const uint Major = 7;
    public const uint Minor = 45;
    public const uint OldestMinor = 27;
    public const int MaxWriteBytes = 1 << 20;
    private const ushort MaxPages = MaxWriteBytes / 4096;
    private const ushort MaxBackground = ushort.MaxValue;
    private const ushort CongestionThreshold = MaxBackground / 4 * 3;

    /// <summary>Answers INIT. A new INIT ends the session before it: a guest that reboots sends no DESTROY.</summary>
    public static int Handle(FuseSession session, FuseRequest request)
    {
        session.End();
        if (!request.TryTake(out FuseInitIn init)) { return request.ReplyError(Errno.EINVAL); }
        if (init.Major < Major) { return request.ReplyError(Errno.EPROTO); }
        // A newer major: our version alone; the kernel sends a second INIT with it.
        if (init.Major > Major) { return request.Reply(new FuseInitOut(Major, Minor, 0, 0, 0, 0, 0, 0, 0, 0, 0)); }
        if (init.Minor < OldestMinor) { return request.ReplyError(Errno.EPROTO); }

        ulong offered = init.Flags;
        if ((offered & (ulong)FuseInitFlags.INIT_EXT) != 0)
        {
            if (!request.TryTake(out FuseInitExtIn extension)) { return request.ReplyError(Errno.EINVAL); }
            offered |= (ulong)extension.Flags2 << 32;
        }
        FuseInitFlags flags = Choose((FuseInitFlags)offered, session.Options, session.FileSystem.Locks is not null);
        uint minor = Math.Min(init.Minor, Minor);
        session.Start(new FuseNegotiated(minor, flags));
        return request.Reply(new FuseInitOut(Major, minor, init.MaxReadahead, (uint)flags, MaxBackground, CongestionThreshold, MaxWriteBytes, TimeGranularity: 1,
            (flags & FuseInitFlags.MAX_PAGES) != 0 ? MaxPages : (ushort)0, 0, (uint)((ulong)flags >> 32)));
    }

    private static FuseInitFlags Choose(FuseInitFlags offered, FuseServerOptions options, bool hasLocks)
    {
        FuseInitFlags wanted = FuseInitFlags.ASYNC_READ | FuseInitFlags.EXPORT_SUPPORT | FuseInitFlags.BIG_WRITES
            | FuseInitFlags.HAS_IOCTL_DIR | FuseInitFlags.ASYNC_DIO | FuseInitFlags.PARALLEL_DIROPS | FuseInitFlags.MAX_PAGES
            | FuseInitFlags.CACHE_SYMLINKS | FuseInitFlags.INIT_EXT | FuseInitFlags.CREATE_SUPP_GROUP | FuseInitFlags.SETXATTR_EXT;

        wanted |= options.ExplicitInvalidation ? FuseInitFlags.EXPLICIT_INVAL_DATA : FuseInitFlags.AUTO_INVAL_DATA;
        if (options.ReadDirectoryPlus && options.Cache != FuseCacheMode.Never) { wanted |= FuseInitFlags.DO_READDIRPLUS | FuseInitFlags.READDIRPLUS_AUTO; }
        if (options.Writeback && !options.ReadOnly) { wanted |= FuseInitFlags.WRITEBACK_CACHE; }
        if (options.NoOpen) { wanted |= FuseInitFlags.NO_OPEN_SUPPORT; }
        if (options.NoOpenDirectory) { wanted |= FuseInitFlags.NO_OPENDIR_SUPPORT; }
        if (options.KillPrivilegesV2) { wanted |= FuseInitFlags.HANDLE_KILLPRIV_V2; }
        if (options.AnnounceSubmounts) { wanted |= FuseInitFlags.SUBMOUNTS; }
        if (options.SecurityLabel && options.Xattr) { wanted |= FuseInitFlags.SECURITY_CTX; }
        if (options.AllowMmap) { wanted |= FuseInitFlags.DIRECT_IO_ALLOW_MMAP; }
        if (options.OverUring) { wanted |= FuseInitFlags.OVER_IO_URING; }
        if (options.AllowIdmap) { wanted |= FuseInitFlags.ALLOW_IDMAP; }

        // Over io_uring a request that waits for a lock would hold a place that whoever is to release it may need.
        bool servesLocks = hasLocks && (wanted & offered & FuseInitFlags.OVER_IO_URING) == 0;

        // An open that never reaches us cannot truncate: then the kernel must send SETATTR.
        // And a close that never reaches us cannot release locks: then they stay in the guest.
        if (!options.NoOpen || (offered & FuseInitFlags.NO_OPEN_SUPPORT) == 0)
        {
            wanted |= FuseInitFlags.ATOMIC_O_TRUNC;
            if (options.PosixLocks && servesLocks) { wanted |= FuseInitFlags.POSIX_LOCKS; }
            if (options.FlockLocks && servesLocks) { wanted |= FuseInitFlags.FLOCK_LOCKS; }
        }

        // ACLs need the umask left to us and the longer SETXATTR; a guest without one of the three gets plain modes.
        const FuseInitFlags acl = FuseInitFlags.POSIX_ACL | FuseInitFlags.DONT_MASK | FuseInitFlags.SETXATTR_EXT;
        if (options.PosixAcl && options.Xattr && (offered & acl) == acl) { wanted |= acl; }

        // Words 32..63 exist only with INIT_EXT.
        if ((offered & FuseInitFlags.INIT_EXT) == 0) { wanted &= (FuseInitFlags)uint.MaxValue; }
        return wanted & offered;
    }
}
