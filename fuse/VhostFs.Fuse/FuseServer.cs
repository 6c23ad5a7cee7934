using VhostFs.Linux;
using VhostFs.Reactor;

namespace VhostFs.Fuse;

/// <summary>One session of the FUSE protocol over one file system, on one reactor; knows no transport.</summary>
/// <remarks>
/// <para>Invariants: every request handed to <see cref="Handle"/> is completed exactly once; a reply's length is the bytes written and never exceeds the
/// writable room; nothing of a request is decoded twice from guest memory; an operation runs only when its whole reply has room.</para>
/// <para>Input never throws. An exception here is a bug of ours: the request gets EIO and the session latches (<see cref="Fault"/>): all later requests get EIO,
/// other sessions go on.</para>
/// </remarks>
public sealed class FuseServer
{
    /// <summary>Room for a WRITE's header and arguments beside max_write, as in other servers.</summary>
    private const uint MaxRequestBytes = FuseInit.MaxWriteBytes + 4096;

    private readonly FuseSession _session;
    private readonly NodeHandlers _nodes;
    private readonly FileHandlers _files;
    private readonly DirectoryHandlers _directories;
    private readonly XattrHandlers _xattrs;
    private readonly LockHandlers _locks;
    private readonly IoctlHandlers _ioctls;

    public FuseServer(IFileSystem fileSystem, FuseServerOptions options)
    {
        _session = new FuseSession(fileSystem, options);
        _nodes = new NodeHandlers(_session);
        _files = new FileHandlers(_session);
        _directories = new DirectoryHandlers(_session);
        _xattrs = new XattrHandlers(_session);
        _locks = new LockHandlers(_session);
        _ioctls = new IoctlHandlers(_session);
    }

    public FuseServerOptions Options => _session.Options;

    /// <summary>Requests handed in and not yet completed: a transport drains to 0 before it lets go of guest memory.</summary>
    public int InFlight { get; private set; }

    /// <summary>What INIT settled; null before INIT, after DESTROY and after <see cref="Reset"/>.</summary>
    public FuseNegotiated? Negotiated => _session.Negotiated;

    public FuseCounters Counters { get; } = new();

    /// <summary>The bug that ended this session, if one did.</summary>
    public Exception? Fault { get; private set; }

    /// <summary>Raised when a session begins: INIT was answered, or one was resumed.</summary>
    public event Action<FuseNegotiated>? Started
    {
        add => _session.Started += value;
        remove => _session.Started -= value;
    }

    /// <summary>Raised before the reply to a request that has changed the attributes of an inode, and after which the kernel would go on with the old ones (an ioctl).
    /// A transport that can tell the kernel does so; the kernel holds the inode, so that need not wait for anything.</summary>
    public event Action<ulong>? ChangedUnseen
    {
        add => _session.ChangedUnseen += value;
        remove => _session.ChangedUnseen -= value;
    }

    /// <summary>Serves one request; it completes before this returns or later on this reactor.</summary>
    public void Handle(FuseRequest request)
    {
        InFlight++;
        request.Begin();
        IoTask<int> running;
#pragma warning disable CA1031 // a bug in one session must not end the process; see the class remarks
        try
        {
            running = Start(request);
            if (!running.IsCompleted)
            {
                request.FinishLater(this, running);
                return;
            }
        }
        catch (Exception bug)
        {
            Fault ??= bug;
            running = new IoTask<int>(request.ReplyError(Errno.EIO));
        }
#pragma warning restore CA1031
        Finish(request, running);
    }

    /// <summary>The device was reset or the connection ended: the session is over. Requests in flight finish and complete as usual; what they open is given back.</summary>
    public void Reset() => _session.End();

    /// <summary>The transport drops a request that it was told to park: its wait ends, it asks <see cref="FuseRequest.UnparkAsync"/>, and completes.</summary>
    public void CancelWait(FuseRequest request) => _locks.Cancel(request);

    /// <summary>The same for all requests that wait for a lock.</summary>
    public void CancelWaits() => _locks.CancelAll();

    /// <summary>Goes on with a session that was negotiated before a restart of this process or on another host.</summary>
    public void Resume(FuseNegotiated negotiated) => _session.Start(negotiated);

    internal void Finish(FuseRequest request, IoTask<int> running)
    {
        int replyBytes;
#pragma warning disable CA1031
        try
        {
            replyBytes = running.GetAwaiter().GetResult();
        }
        catch (Exception bug)
        {
            Fault ??= bug;
            replyBytes = request.ReplyError(Errno.EIO);
        }
#pragma warning restore CA1031
        if (request.RepliedError != Errno.None) { Counters.CountError(request.Opcode); }
        request.End();
        InFlight--;
        request.Complete(replyBytes);
    }

    /// <summary>What holds for every opcode: lengths, session state, room for the reply; then the opcode's own method.</summary>
    private IoTask<int> Start(FuseRequest request)
    {
        // A runt has no unique to answer to: the buffers go back empty.
        if (!request.TryReadHeader()) { return new IoTask<int>(0); }
        FuseOpcode opcode = request.Opcode;
        request.Epoch = _session.Epoch;
        Counters.CountRequest(opcode);

        if (NeverReplies(opcode))
        {
            if (_session.Negotiated is not null && Fault is null && CheckLength(request) == Errno.None) { TakeSilently(request); }
            return new IoTask<int>(0);
        }
        if (!request.CanReply) { return new IoTask<int>(0); }
        Errno refused = Check(request, opcode);
        if (refused != Errno.None) { return Error(request, refused); }
        request.CopyArguments(opcode == FuseOpcode.WRITE ? FileHandlers.WriteArgumentBytes : Scratch.LengthBytes);
        return Dispatch(request, opcode);
    }

    private Errno Check(FuseRequest request, FuseOpcode opcode)
    {
        Errno length = CheckLength(request);
        if (length != Errno.None) { return length; }
        if (Fault is not null) { return Errno.EIO; }
        if (_session.Negotiated is null && opcode != FuseOpcode.INIT) { return Errno.EIO; }
        // Checked first, so that nothing is created, opened or counted that the guest would not hear of.
        if (request.BodyRoom < MinimumReplyBody(opcode)) { return Errno.EINVAL; }
        if (_session.Options.ReadOnly && IsMutation(opcode)) { return Errno.EROFS; }
        return Errno.None;
    }

    private static Errno CheckLength(FuseRequest request)
    {
        uint length = request.Header.Length;
        if (length > MaxRequestBytes) { return Errno.ENOMEM; }
        return length < FuseInHeader.Size || length > request.Readable.LengthBytes ? Errno.EINVAL : Errno.None;
    }

    private IoTask<int> Dispatch(FuseRequest request, FuseOpcode opcode) => opcode switch
    {
        FuseOpcode.LOOKUP => _nodes.LookupAsync(request),
        FuseOpcode.GETATTR => _nodes.GetattrAsync(request),
        FuseOpcode.SETATTR => _nodes.SetattrAsync(request),
        FuseOpcode.READLINK => _nodes.ReadlinkAsync(request),
        FuseOpcode.SYMLINK => _nodes.SymlinkAsync(request),
        FuseOpcode.MKNOD => _nodes.MknodAsync(request),
        FuseOpcode.MKDIR => _nodes.MkdirAsync(request),
        FuseOpcode.UNLINK => _nodes.UnlinkAsync(request),
        FuseOpcode.RMDIR => _nodes.RmdirAsync(request),
        FuseOpcode.RENAME => _nodes.RenameAsync(request),
        FuseOpcode.RENAME2 => _nodes.Rename2Async(request),
        FuseOpcode.LINK => _nodes.LinkAsync(request),
        FuseOpcode.STATX => _nodes.StatxAsync(request),
        FuseOpcode.STATFS => _nodes.StatfsAsync(request),
        FuseOpcode.SYNCFS => _nodes.SyncfsAsync(request),
        FuseOpcode.OPEN => _files.OpenAsync(request),
        FuseOpcode.CREATE => _files.CreateAsync(request),
        FuseOpcode.TMPFILE => _files.TmpfileAsync(request),
        FuseOpcode.READ => _files.ReadAsync(request),
        FuseOpcode.WRITE => _files.WriteAsync(request),
        FuseOpcode.FLUSH => _files.FlushAsync(request),
        FuseOpcode.RELEASE => _files.ReleaseAsync(request),
        FuseOpcode.FSYNC => _files.FsyncAsync(request),
        FuseOpcode.FALLOCATE => _files.FallocateAsync(request),
        FuseOpcode.LSEEK => _files.LseekAsync(request),
        FuseOpcode.COPY_FILE_RANGE => _files.CopyFileRangeAsync(request, wide: false),
        FuseOpcode.COPY_FILE_RANGE_64 => _files.CopyFileRangeAsync(request, wide: true),
        FuseOpcode.OPENDIR => _directories.OpendirAsync(request),
        FuseOpcode.READDIR => _directories.ReaddirAsync(request, plus: false),
        FuseOpcode.READDIRPLUS => _directories.ReaddirAsync(request, plus: true),
        FuseOpcode.RELEASEDIR => _directories.ReleasedirAsync(request),
        FuseOpcode.FSYNCDIR => _directories.FsyncdirAsync(request),
        FuseOpcode.SETXATTR => _xattrs.SetxattrAsync(request),
        FuseOpcode.GETXATTR => _xattrs.GetxattrAsync(request),
        FuseOpcode.LISTXATTR => _xattrs.ListxattrAsync(request),
        FuseOpcode.REMOVEXATTR => _xattrs.RemovexattrAsync(request),
        FuseOpcode.GETLK => _locks.Getlk(request),
        FuseOpcode.SETLK => _locks.SetlkAsync(request, wait: false),
        FuseOpcode.SETLKW => _locks.SetlkAsync(request, wait: true),
        FuseOpcode.INIT => new IoTask<int>(FuseInit.Handle(_session, request)),
        FuseOpcode.DESTROY => Destroy(request),
        FuseOpcode.IOCTL => _ioctls.IoctlAsync(request),
        // Remembered by the kernel per mount, which then does without: every access is checked there (default_permissions),
        // poll is always ready, no DAX.
        _ => new IoTask<int>(request.ReplyNotServed()),
    };

    /// <summary>The fixed part of a successful reply, without the out-header.</summary>
    private static int MinimumReplyBody(FuseOpcode opcode) => opcode switch
    {
        FuseOpcode.LOOKUP or FuseOpcode.SYMLINK or FuseOpcode.MKNOD or FuseOpcode.MKDIR or FuseOpcode.LINK => 128,
        FuseOpcode.GETATTR or FuseOpcode.SETATTR => 104,
        FuseOpcode.STATX => 288,
        FuseOpcode.STATFS => 80,
        FuseOpcode.GETLK => 24,
        FuseOpcode.INIT => 64,
        FuseOpcode.CREATE or FuseOpcode.TMPFILE => 144,
        FuseOpcode.OPEN or FuseOpcode.OPENDIR or FuseOpcode.IOCTL => 16,
        FuseOpcode.WRITE or FuseOpcode.LSEEK or FuseOpcode.COPY_FILE_RANGE or FuseOpcode.COPY_FILE_RANGE_64 => 8,
        _ => 0,
    };

    /// <summary>Changes the file system whatever its arguments; OPEN for writing and IOCTL are refused by their own methods.</summary>
    private static bool IsMutation(FuseOpcode opcode) => opcode is FuseOpcode.SETATTR or FuseOpcode.SYMLINK or FuseOpcode.MKNOD or FuseOpcode.MKDIR
        or FuseOpcode.UNLINK or FuseOpcode.RMDIR or FuseOpcode.RENAME or FuseOpcode.RENAME2 or FuseOpcode.LINK or FuseOpcode.WRITE
        or FuseOpcode.SETXATTR or FuseOpcode.REMOVEXATTR or FuseOpcode.CREATE or FuseOpcode.TMPFILE or FuseOpcode.FALLOCATE
        or FuseOpcode.COPY_FILE_RANGE or FuseOpcode.COPY_FILE_RANGE_64;

    private static bool NeverReplies(FuseOpcode opcode) =>
        opcode is FuseOpcode.FORGET or FuseOpcode.BATCH_FORGET or FuseOpcode.INTERRUPT or FuseOpcode.NOTIFY_REPLY;

    /// <summary>FORGETs, and INTERRUPT, which may end the wait for a lock: nothing else waits for what a signal should end. NOTIFY_REPLY is ignored: we ask for none.</summary>
    private void TakeSilently(FuseRequest request)
    {
        if (request.Opcode == FuseOpcode.FORGET) { _nodes.Forget(request); }
        else if (request.Opcode == FuseOpcode.BATCH_FORGET) { _nodes.BatchForget(request); }
        else if (request.Opcode == FuseOpcode.INTERRUPT)
        {
            request.CopyArguments(Scratch.LengthBytes);
            _locks.Interrupt(request);
        }
    }

    private IoTask<int> Destroy(FuseRequest request)
    {
        _session.End();
        return new IoTask<int>(request.ReplyError(Errno.None));
    }

    private static IoTask<int> Error(FuseRequest request, Errno errno) => new(request.ReplyError(errno));
}
