using System.Collections.Concurrent;
using VhostFs.Fuse;
using VhostFs.Linux;
using VhostFs.Reactor;

namespace VhostFs.VhostUser.Tests;

/// <summary>A reactor thread with exports of fake file systems.</summary>
internal sealed class Export : IDisposable
{
    private readonly Reactor.Reactor _reactor = new(Ring.Create(128), "test");
    private readonly string _directory = Directory.CreateTempSubdirectory("vhostfs").FullName;
    private readonly List<VhostUserServer> _servers = [];

    /// <param name="mode">Interrupt for tests that count what a wake-up costs.</param>
    public Export(int count = 1, int maxInFlight = 1024, ReactorMode mode = ReactorMode.Adaptive)
    {
        _reactor.Mode = mode;
        _reactor.UnhandledException += Unhandled.Add;
        _reactor.Start();
        for (int i = 0; i < count; i++)
        {
            string path = Path.Combine(_directory, $"{i}.sock");
            var fs = new FakeFs();
            FileSystems.Add(fs);
            Paths.Add(path);
            var options = new VhostUserServerOptions { Name = $"fs{i}", SocketPath = path };
            var server = new VhostUserServer(options, _ => new VhostUserFsDevice(new FuseServer(fs, new FuseServerOptions { PosixLocks = true }), maxInFlight), (_, line) => Log.Add(line));
            _servers.Add(server);
            Assert.Equal(Errno.None, OnReactor(server.Start));
        }
    }

    public List<string> Paths { get; } = [];

    public List<FakeFs> FileSystems { get; } = [];

    public ConcurrentBag<string> Log { get; } = [];

    public ConcurrentBag<Exception> Unhandled { get; } = [];

    public string Path0 => Paths[0];

    public FakeFs Fs => FileSystems[0];

    public VhostUserServer Server => _servers[0];

    public Reactor.Reactor Reactor => _reactor;

    public T OnReactor<T>(Func<T> work) => _reactor.InvokeAsync(() => new IoTask<T>(work())).GetAwaiter().GetResult();

    public T OnReactorAsync<T>(Func<IoTask<T>> work) => _reactor.InvokeAsync(work).GetAwaiter().GetResult();

    public void LetGo() => OnReactor(() => { Fs.LetGo(); return true; });

    public void Dispose()
    {
        foreach (FakeFs fs in FileSystems) { OnReactor(() => { fs.LetGo(); return true; }); }
        foreach (VhostUserServer server in _servers) { OnReactorAsync(server.StopAsync); }
        _reactor.Dispose();
        Directory.Delete(_directory, recursive: true);
        Assert.Empty(Unhandled);
    }
}
