using System.Runtime.InteropServices;
using VhostFs.Fuse;
using VhostFs.Linux;
using VhostFs.Reactor;

namespace VhostFs.FuseDev;

/// <summary>Carries requests from a mounted /dev/fuse to a <see cref="FuseServer"/> and replies back, on one reactor.</summary>
/// <remarks>
/// <para>One read waits in the ring. When it returns, what else has come is taken by plain reads that do not block, up to a bound: more reads waiting in
/// the ring would all be woken by each request. Replies go out together, with the ring's next submission.</para>
/// <para>When INIT settles on io_uring, requests come through <see cref="UringQueues"/> from then on, and only FORGET and INTERRUPT still by read.</para>
/// <para>The kernel ends it: ENODEV when the file system is unmounted or its connection was aborted. Until then nothing is lost by being slow.</para>
/// </remarks>
public sealed class DeviceChannel : IDisposable
{
    private const int ReadsPerRound = 64;
    private const short POLLIN = 1;
    private const long StreamOffset = -1; // a device has no position

    private readonly Reactor.Reactor _reactor;
    private readonly SafeFd _device;
    private readonly FuseServer _server;
    private readonly Action<string> _warn;
    private readonly RequestPool _pool;
    private readonly Poller _poller;
    private IoHandle _reading;
    private IoCompletion<bool>? _room;
    private IoCompletion<bool>? _drained;
    private IoCompletion<bool>? _ended;
    private UringQueues? _queues;
    private int _unanswered;
    private bool _isRunning;
    private bool _isStopping;

    /// <param name="device">A mounted /dev/fuse; the channel owns it.</param>
    /// <param name="warn">Told what should not happen; never per request in an orderly run.</param>
    public DeviceChannel(Reactor.Reactor reactor, SafeFd device, FuseServer server, Action<string> warn)
    {
        _reactor = reactor;
        _device = device;
        _server = server;
        _warn = warn;
        _pool = new RequestPool(this);
        _poller = new Poller(reactor.Ring);
        server.ChangedUnseen += ForgetAttributes;
    }

    /// <summary>Raised on the reactor when the kernel has ended the connection and all requests are answered; not after <see cref="StopAsync"/>.</summary>
    public event Action? Ended;

    /// <summary>Raised on the reactor when requests begin to come through io_uring.</summary>
    public event Action? QueuesOpened;

    /// <summary>Requests come through io_uring: only the end of the mount, or of its connection, makes the kernel let go.</summary>
    public bool IsOverUring => _queues is { EntryCount: > 0 };

    /// <summary>Nothing more is taken; who waits for a lock is not answered: the kernel gives the program an error when the device closes, or keeps its request for
    /// whoever serves the device next.</summary>
    internal bool IsEnding { get; private set; }

    /// <summary>Begins to serve.</summary>
    public Errno Start()
    {
        IoResult flags = FileCalls.GetFlags(_device);
        Errno set = flags.IsError ? flags.Errno : FileCalls.SetFlags(_device, flags.Value | FileCalls.O_NONBLOCK);
        if (set != Errno.None) { return set; }
        _isRunning = true;
        OpenQueues(); // a session that is resumed
        RunAsync().Detach();
        return Errno.None;
    }

    /// <summary>Finishes what is under way and refuses what comes later, before the connection of a mount that is in use is aborted.</summary>
    public async IoTask<bool> DrainQueuesAsync() => _queues is null || await _queues.DrainAsync();

    /// <summary>Has the kernel send again what was read from this device and never answered, by a process that is dead. EINVAL: a kernel before 6.9.</summary>
    /// <remarks>Such a request may have been done already; the high bit of its unique number says that it comes again.</remarks>
    public Errno Resend()
    {
        var notification = new FuseOutHeader(FuseOutHeader.Size, (int)FuseNotifyCode.RESEND, 0);
        return FileCalls.Write(_device, MemoryMarshal.AsBytes(new ReadOnlySpan<FuseOutHeader>(in notification))).Errno;
    }

    /// <summary>Takes nothing more, finishes what is under way, and closes the device: whoever still uses the mount gets ENOTCONN.</summary>
    /// <remarks>With io_uring it waits for the end of the connection (<see cref="IsOverUring"/>).</remarks>
    public async IoTask<bool> StopAsync()
    {
        if (!_isRunning) { return true; }
        _isStopping = true;
        _ended = new IoCompletion<bool>();
        _reactor.Ring.CancelAsync(_reading).Detach();
        WakeReader();
        return await _ended.Task;
    }

    public void Dispose()
    {
        _device.Dispose();
        _pool.Dispose();
    }

    /// <summary>The server is done with a request: the reply goes to the kernel, if there is one.</summary>
    internal void Finish(DeviceRequest request)
    {
        if (request.ReplyBytes.Count == 0) { Return(request); }
        else { ReplyAsync(request).Detach(); }
    }

    private async IoTask<bool> RunAsync()
    {
        while (!_isStopping)
        {
            if (!_pool.TryRent(out DeviceRequest request))
            {
                _room = new IoCompletion<bool>();
                await _room.Task;
                continue;
            }
            _ = _reactor.TryPoll(_poller); // while requests come densely, the reactor looks for the next one before it sleeps
            IoResult read = await _reactor.Ring.ReadAsync(_device, request.Target, StreamOffset, out _reading);
            if (read.Value > 0)
            {
                Take(request, read.Bytes);
                if (!TakeMore()) { break; }
                continue;
            }
            _pool.Return(request);
            if (IsEnd(read)) { break; }
            // Kernels that do not wait for a non-blocking descriptor say EAGAIN.
            if (read.Errno == Errno.EAGAIN) { await _reactor.Ring.PollAsync(_device, POLLIN, out _reading); }
        }
        IsEnding = true;
        _server.CancelWaits();
        await DrainAsync();
        if (_queues is { } queues)
        {
            await queues.DrainAsync();
            await queues.EndedAsync();
        }
        _server.Reset();
        _isRunning = false;
        Dispose();
        if (_ended is { } ended) { ended.Complete(true); }
        else { Ended?.Invoke(); }
        return true;
    }

    // Written at once, so that it is there before the reply: without pages to drop, the kernel only marks the inode that the request holds.
    private void ForgetAttributes(ulong node)
    {
        const long attributesOnly = -1;
        var message = new InvalidateInode(new FuseOutHeader((uint)Marshal.SizeOf<InvalidateInode>(), (int)FuseNotifyCode.INVAL_INODE, 0), new FuseNotifyInvalInodeOut(node, attributesOnly, 0));
        Errno told = FileCalls.Write(_device, MemoryMarshal.AsBytes(new ReadOnlySpan<InvalidateInode>(in message))).Errno;
        if (told is not (Errno.None or Errno.ENOENT or Errno.ENODEV)) { _warn($"the kernel does not hear that attributes have changed ({told}): they show when the mount's time-outs are over"); }
    }

    /// <summary>False when the connection is over.</summary>
    private bool TakeMore()
    {
        for (int left = ReadsPerRound; left > 0 && !_isStopping && _pool.TryRent(out DeviceRequest request); left--)
        {
            IoResult read = FileCalls.Read(_device, request.Target);
            if (read.Value <= 0)
            {
                _pool.Return(request);
                return !IsEnd(read);
            }
            Take(request, read.Bytes);
        }
        return true;
    }

    private void Take(DeviceRequest request, int lengthBytes)
    {
        if (!request.Arrange(lengthBytes)) { _pool.ReturnLarge(request); }
        _unanswered++;
        _server.Handle(request);
    }

    private async IoTask<bool> ReplyAsync(DeviceRequest request)
    {
        long length = request.ReplyBytes.LengthBytes;
        IoResult written = await _reactor.Ring.WriteAsync(_device, request.ReplyBytes, StreamOffset);
        // ENOENT: nobody waits for it any more (a signal, or the connection was aborted); ENODEV: unmounted meanwhile.
        if (written.Value != length && written.Errno is not (Errno.ENOENT or Errno.ENODEV or Errno.ECONNABORTED or Errno.ECANCELED))
        {
            _warn($"the kernel refused a reply of {length} bytes: {written}");
        }
        Return(request);
        if (_queues is null && !_isStopping) { OpenQueues(); }
        return true;
    }

    // The kernel takes entries once it has the reply to INIT.
    private void OpenQueues()
    {
        if ((_server.Negotiated.GetValueOrDefault().Flags & FuseInitFlags.OVER_IO_URING) == 0) { return; }
        _queues = new UringQueues(_reactor.Ring, _device, _server, () => _ = _reactor.TryPoll(_poller), _warn);
        _queues.Open();
        QueuesOpened?.Invoke();
    }

    private void Return(DeviceRequest request)
    {
        _pool.Return(request);
        _unanswered--;
        WakeReader();
        if (_unanswered > 0 || _drained is not { } drained) { return; }
        _drained = null;
        drained.Complete(true);
    }

    private void WakeReader()
    {
        if (_room is not { } room) { return; }
        _room = null;
        room.Complete(true);
    }

    private async IoTask<bool> DrainAsync()
    {
        if (_unanswered == 0) { return true; }
        _drained = new IoCompletion<bool>();
        return await _drained.Task;
    }

    // ENOENT, EINTR: the request went away while it was being read. Everything unknown ends the channel: it would come again at once.
    private bool IsEnd(IoResult read)
    {
        switch (read.Errno)
        {
            case Errno.EAGAIN or Errno.EINTR or Errno.ENOENT:
                return false;
            case Errno.ENODEV or Errno.ECONNABORTED or Errno.ECANCELED:
                return true;
            default:
                _warn($"/dev/fuse cannot be read: {read}");
                return true;
        }
    }

    [StructLayout(LayoutKind.Sequential, Pack = 1)]
    private readonly record struct InvalidateInode(FuseOutHeader Header, FuseNotifyInvalInodeOut Body);

    /// <summary>A request for us shows in the ring: the kernel then has work for its thread.</summary>
    private sealed class Poller(Ring ring) : IReactorPoller
    {
        public bool HasWork => ring.IsReady;

        public void Run()
        {
        }

        public void Sleep()
        {
        }
    }
}
