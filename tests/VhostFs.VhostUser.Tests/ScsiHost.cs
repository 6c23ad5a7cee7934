using System.Collections.Concurrent;
using VhostFs.Bdev;
using VhostFs.Linux;
using VhostFs.Reactor;

namespace VhostFs.VhostUser.Tests;

/// <summary>A reactor thread with one set of targets behind a vhost-user-scsi socket, each session an initiator of its own.</summary>
internal sealed class ScsiHost : IDisposable
{
    public const int DiskBytes = 4 << 20;
    public static readonly Guid Uuid = new("01234567-89ab-4cde-8f01-23456789abcd");

    private readonly Reactor.Reactor _reactor = new(Ring.Create(128), "test");
    private readonly string _directory = Directory.CreateTempSubdirectory("vhostfs").FullName;
    private readonly VhostUserServer _server;
    private readonly List<IBdev> _bdevs = [];

    /// <param name="make">Makes the bdev of target 0, on the reactor; a malloc bdev with blocks of 512 bytes when absent.</param>
    public ScsiHost(Func<Reactor.Reactor, IBdev>? make = null, int maxInFlight = 1024, int sessions = 1)
    {
        _reactor.UnhandledException += Unhandled.Add;
        _reactor.Start();
        Add(0, make ?? (_ => NewMemory()));
        SocketPath = Path.Combine(_directory, "scsi.sock");
        _server = new VhostUserServer(new VhostUserServerOptions { Name = "scsi", SocketPath = SocketPath, MaxSessions = sessions }, slot => new VhostUserScsiDevice(Targets, $"initiator {slot}", Write, maxInFlight), Write);
        Assert.Equal(Errno.None, OnReactor(_server.Start));
    }

    public ScsiTargets Targets { get; } = new();

    /// <summary>Of target 0.</summary>
    public IBdev Bdev => _bdevs[0];

    public string SocketPath { get; }

    public IReadOnlyList<VhostUserSessionState> Sessions => OnReactor(() => _server.SessionStates);

    /// <summary>Event buffers that were left are known here: the device hears of them by a kick, and whatever happens before is missed.</summary>
    public void WaitForEventQueues(int sessions = 1) => FrontEnd.Poll(() => Sessions.Count(static s => s.Queues == 2) == sessions, "request and event queue of each are served");

    public ConcurrentBag<string> Log { get; } = [];

    public ConcurrentBag<Exception> Unhandled { get; } = [];

    public static MallocBdev NewMemory(int blockSize = 512) => new("memory", DiskBytes, blockSize);

    public void Add(int target, Func<Reactor.Reactor, IBdev> make) => OnReactor(() =>
    {
        IBdev bdev = make(_reactor);
        _bdevs.Add(bdev);
        Targets.Add(target, bdev, Uuid);
        return true;
    });

    public bool Remove(int target) => OnReactorAsync(() => Targets.RemoveAsync(target));

    public T OnReactor<T>(Func<T> work) => _reactor.InvokeAsync(() => new IoTask<T>(work())).GetAwaiter().GetResult();

    public T OnReactorAsync<T>(Func<IoTask<T>> work) => _reactor.InvokeAsync(work).GetAwaiter().GetResult();

    public Task<T> StartOnReactor<T>(Func<IoTask<T>> work) => _reactor.InvokeAsync(work);

    public byte[] Read(long offset, int length) => OnReactorAsync(() => TransferAsync(offset, new byte[length], write: false));

    public void Fill(long offset, int length, byte value) => OnReactorAsync(() => TransferAsync(offset, Enumerable.Repeat(value, length).ToArray(), write: true));

    public void Dispose()
    {
        OnReactorAsync(_server.StopAsync);
        for (int i = 0; i < ScsiTargets.Count; i++) { Remove(i); }
        OnReactor(() => { _bdevs.ForEach(b => b.Dispose()); return true; });
        _reactor.Dispose();
        Directory.Delete(_directory, recursive: true);
        Assert.Empty(Unhandled);
    }

    private async IoTask<byte[]> TransferAsync(long offset, byte[] bytes, bool write)
    {
        using var buffer = new NativeBuffer(bytes.Length);
        using var list = new IoVecList(1);
        bytes.CopyTo(buffer.Span);
        list.Add(buffer.Vec);
        Assert.Equal(bytes.Length, (write ? await Bdev.WriteAsync(offset, list.View()) : await Bdev.ReadAsync(offset, list.View())).Value);
        buffer.Span.CopyTo(bytes);
        return bytes;
    }

    private void Write(VhostLogLevel level, string message) => Log.Add(message);
}
