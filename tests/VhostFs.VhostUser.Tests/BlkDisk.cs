using System.Collections.Concurrent;
using VhostFs.Bdev;
using VhostFs.Linux;
using VhostFs.Reactor;

namespace VhostFs.VhostUser.Tests;

/// <summary>A reactor thread with one bdev behind one or more vhost-user-blk sockets.</summary>
internal sealed class BlkDisk : IDisposable
{
    public const int DiskBytes = 4 << 20;

    private readonly Reactor.Reactor _reactor = new(Ring.Create(128), "test");
    private readonly string _directory = Directory.CreateTempSubdirectory("vhostfs").FullName;
    private readonly List<VhostUserServer> _servers = [];

    /// <param name="make">Makes the bdev, on the reactor; a malloc bdev with blocks of 512 bytes when absent.</param>
    public BlkDisk(Func<Reactor.Reactor, IBdev>? make = null, bool isReadOnly = false, int maxInFlight = 1024, int sockets = 1, int sessions = 1, CallCoalescing? coalescing = null)
    {
        _reactor.UnhandledException += Unhandled.Add;
        _reactor.Start();
        Bdev = OnReactor(() => make is null ? NewMemory() : make(_reactor));
        for (int i = 0; i < sockets; i++)
        {
            string path = Path.Combine(_directory, $"{i}.sock");
            Paths.Add(path);
            var server = new VhostUserServer(new VhostUserServerOptions { Name = $"blk{i}", SocketPath = path, MaxSessions = sessions, Coalescing = coalescing }, _ => new VhostUserBlkDevice(Bdev, Write, isReadOnly, maxInFlight), Write);
            _servers.Add(server);
            Assert.Equal(Errno.None, OnReactor(server.Start));
        }
    }

    public IBdev Bdev { get; }

    public List<string> Paths { get; } = [];

    public IReadOnlyList<VhostUserSessionState> Sessions => OnReactor(() => _servers[0].SessionStates);

    public ConcurrentBag<string> Log { get; } = [];

    public ConcurrentBag<Exception> Unhandled { get; } = [];

    public string FilePath => Path.Combine(_directory, "disk.img");

    public static MallocBdev NewMemory(int blockSize = 512) => new("memory", DiskBytes, blockSize);

    public T OnReactor<T>(Func<T> work) => _reactor.InvokeAsync(() => new IoTask<T>(work())).GetAwaiter().GetResult();

    public T OnReactorAsync<T>(Func<IoTask<T>> work) => _reactor.InvokeAsync(work).GetAwaiter().GetResult();

    /// <summary>Bytes as the bdev has them, past the device.</summary>
    public byte[] Read(long offset, int length) => OnReactorAsync(() => TransferAsync(offset, new byte[length], write: false));

    public void Fill(long offset, int length, byte value) => OnReactorAsync(() => TransferAsync(offset, Enumerable.Repeat(value, length).ToArray(), write: true));

    public void Dispose()
    {
        foreach (VhostUserServer server in _servers) { OnReactorAsync(server.StopAsync); }
        OnReactor(() => { Bdev.Dispose(); return true; });
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
