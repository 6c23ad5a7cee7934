using System.Runtime.InteropServices;
using VhostFs.FuseDev;
using VhostFs.Linux;
using VhostFs.Reactor;
using Xunit;
using static VhostFs.Fuse.Tests.FuseClient;
using IoReactor = VhostFs.Reactor.Reactor;

namespace VhostFs.Fuse.Tests;

/// <summary>The transport of /dev/fuse, with a packet socket for the device: a read is one request, a write one reply.</summary>
public sealed partial class DeviceChannelTests : IDisposable
{
    private readonly IoReactor _reactor = new(Ring.Create(64), "test");
    private readonly FakeFileSystem _fileSystem = new();
    private readonly FuseServer _server;
    private readonly DeviceChannel _channel;
    private readonly SafeFd _kernel;
    private readonly List<string> _warnings = [];
    private readonly byte[] _packet = new byte[160_000];
    private bool _hasEnded;

    public DeviceChannelTests()
    {
        Span<int> pair = stackalloc int[2];
        Assert.Equal(0, SocketPair(1, 5 | 0x80000, 0, pair)); // AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC
        _kernel = new SafeFd(pair[0]);
        Assert.Equal(Errno.None, FileCalls.SetFlags(_kernel, FileCalls.O_NONBLOCK));
        _fileSystem.Locks = _fileSystem;
        _server = new FuseServer(_fileSystem, new FuseServerOptions { PosixLocks = true });
        _channel = new DeviceChannel(_reactor, new SafeFd(pair[1]), _server, _warnings.Add);
        _channel.Ended += () => _hasEnded = true;
        Assert.Equal(Errno.None, _reactor.RunUntilComplete(() => new IoTask<Errno>(_channel.Start())));
        Send(FuseOpcode.INIT, [.. Bytes(new FuseInitIn(7, 41, 0x20000, Flags61)), .. Bytes(new FuseInitExtIn(Flags2Of612))]);
        Assert.Equal(Errno.None, Receive().Errno);
        _fileSystem.Calls.Clear();
    }

    public void Dispose()
    {
        _reactor.Dispose();
        _channel.Dispose();
        _kernel.Dispose();
    }

    [Fact]
    public void Small_and_large_requests_arrive_whole()
    {
        foreach (int length in (int[])[1, 4096, 4097, 65536, 120_001])
        {
            byte[] data = new byte[length];
            new Random(length).NextBytes(data);
            Send(FuseOpcode.WRITE, [.. Bytes(new FuseWriteIn(7, 8192, (uint)length)), .. data]);
            Assert.Equal((uint)length, Receive().As<FuseWriteOut>().SizeBytes);
            Assert.Equal(data, _fileSystem.Written);
        }
        Assert.Empty(_warnings);
    }

    [Fact]
    public void A_read_gets_as_much_room_as_it_asks_for()
    {
        foreach (int length in (int[])[1, 4096, 4097, 65536, 120_001])
        {
            Send(FuseOpcode.READ, Bytes(new FuseReadIn(7, 3, (uint)length)));
            byte[] body = Receive().Body;
            Assert.Equal(length, body.Length);
            for (int i = 0; i < length; i++) { Assert.Equal((byte)(3 + i), body[i]); }
        }
    }

    [Fact]
    public void Many_requests_at_once_are_all_answered()
    {
        for (int i = 0; i < 40; i++) { Send(FuseOpcode.GETATTR, Bytes(default(FuseGetattrIn)), unique: 100 + (ulong)i); }
        var answered = new HashSet<ulong>();
        for (int i = 0; i < 40; i++)
        {
            Receive();
            answered.Add(MemoryMarshal.Read<FuseOutHeader>(_packet).Unique);
        }
        Assert.Equal(40, answered.Count);
    }

    [Fact]
    public void Forget_and_interrupt_get_no_reply()
    {
        Send(FuseOpcode.FORGET, Bytes(new FuseForgetIn(1)));
        Send(FuseOpcode.INTERRUPT, Bytes(100UL));
        Send(FuseOpcode.STATFS, [], unique: 77);
        Receive();
        Assert.Equal(77UL, MemoryMarshal.Read<FuseOutHeader>(_packet).Unique);
        Assert.Equal(0, _server.InFlight);
    }

    [Fact]
    public void The_end_of_the_connection_ends_the_session()
    {
        _kernel.Dispose();
        for (int turns = 0; turns < 1000 && !_hasEnded; turns++) { _reactor.RunOnce(wait: false); }
        Assert.True(_hasEnded);
        Assert.Equal(1, _fileSystem.EndedSessions);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void Who_waits_for_a_lock_holds_up_no_end(bool byKernel)
    {
        _fileSystem.HoldsLocks = true;
        for (ulong i = 0; i < 100; i++) { Send(FuseOpcode.SETLKW, Bytes(new FuseLkIn(7, i, new FuseFileLock(0, 9, 1, Pid), 0)), unique: 1000 + (2 * i)); }
        while (_fileSystem.HeldLocks.Count < 100) { _reactor.RunOnce(wait: false); }
        Send(FuseOpcode.INTERRUPT, Bytes(new FuseInterruptIn(1010)));
        Assert.Equal(Errno.EINTR, Receive().Errno);
        Assert.Equal(1010UL, MemoryMarshal.Read<FuseOutHeader>(_packet).Unique);
        if (byKernel) { _kernel.Dispose(); }
        else
        {
            _reactor.RunUntilComplete(_channel.StopAsync);
            Assert.Equal(0, FileCalls.Read(_kernel, _packet).Value); // closed, and nobody was told anything: the kernel does that
        }
        for (int turns = 0; byKernel && turns < 1000 && !_hasEnded; turns++) { _reactor.RunOnce(wait: false); }
        Assert.Equal((byKernel, 0, 0), (_hasEnded, _server.InFlight, _fileSystem.HeldLocks.Count));
    }

    [Fact]
    public void Stopping_waits_for_what_is_under_way_and_answers_it()
    {
        _fileSystem.HeldLookup = new IoCompletion<FsResult<InodeAttributes>>();
        Send(FuseOpcode.LOOKUP, Name("slow"));
        while (_server.InFlight == 0) { _reactor.RunOnce(wait: false); }
        bool isStopped = false;
        _reactor.RunUntilComplete(() =>
        {
            StopAsync().Detach();
            return new IoTask<bool>(true);
        });
        for (int turns = 0; turns < 100; turns++) { _reactor.RunOnce(wait: false); }
        Assert.False(isStopped);
        _fileSystem.HeldLookup.Complete(FakeFileSystem.Attributes);
        for (int turns = 0; turns < 1000 && !isStopped; turns++) { _reactor.RunOnce(wait: false); }
        Assert.True(isStopped);
        Assert.False(_hasEnded);
        Assert.Equal(Errno.None, Receive().Errno);

        async IoTask<bool> StopAsync()
        {
            await _channel.StopAsync();
            return isStopped = true;
        }
    }

    [Theory]
    [InlineData(FuseOpcode.GETATTR, 0)]
    [InlineData(FuseOpcode.READ, 4096)]
    [InlineData(FuseOpcode.READ, 100_000)]
    [InlineData(FuseOpcode.WRITE, 100_000)]
    public void A_steady_request_allocates_nothing(FuseOpcode opcode, int length)
    {
        _fileSystem.Records = false;
        byte[] body = opcode switch
        {
            FuseOpcode.GETATTR => Bytes(default(FuseGetattrIn)),
            FuseOpcode.READ => Bytes(new FuseReadIn(7, 0, (uint)length)),
            _ => [.. Bytes(new FuseWriteIn(7, 0, (uint)length)), .. new byte[length]],
        };
        byte[] request = [.. Bytes(new FuseInHeader((uint)(40 + body.Length), (uint)opcode, Unique, 9, 0, 0, 0)), .. body];
        for (int i = 0; i < 300; i++) { RoundTrip(request); }
        long before = GC.GetAllocatedBytesForCurrentThread();
        for (int i = 0; i < 300; i++) { RoundTrip(request); }
        Assert.Equal(0, GC.GetAllocatedBytesForCurrentThread() - before);
    }

    private void RoundTrip(byte[] request)
    {
        Invariant.That(FileCalls.Write(_kernel, request).Value == request.Length); // Assert allocates
        while (FileCalls.Read(_kernel, _packet).IsError) { _reactor.RunOnce(wait: false); }
    }

    private void Send(FuseOpcode opcode, byte[] body, ulong unique = Unique)
    {
        byte[] request = [.. Bytes(new FuseInHeader((uint)(40 + body.Length), (uint)opcode, unique, 9, Uid, Gid, Pid)), .. body];
        Assert.Equal(request.Length, FileCalls.Write(_kernel, request).Value);
    }

    private Reply Receive()
    {
        IoResult received = Errno.EAGAIN;
        for (int turns = 0; turns < 100_000 && received.Errno == Errno.EAGAIN; turns++)
        {
            _reactor.RunOnce(wait: false);
            received = FileCalls.Read(_kernel, _packet);
        }
        Assert.False(received.IsError, received.ToString());
        FuseOutHeader header = MemoryMarshal.Read<FuseOutHeader>(_packet);
        Assert.Equal((uint)received.Bytes, header.Length);
        return new Reply(false, (Errno)(-header.Error), _packet[FuseOutHeader.Size..received.Bytes]);
    }

    [LibraryImport("libc", EntryPoint = "socketpair")]
    private static partial int SocketPair(int domain, int type, int protocol, Span<int> pair);
}
