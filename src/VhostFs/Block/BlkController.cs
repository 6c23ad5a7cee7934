using VhostFs.Bdev;
using VhostFs.Hosting;
using VhostFs.Linux;
using VhostFs.Reactor;
using VhostFs.VhostUser;

namespace VhostFs.Block;

/// <summary>A bdev behind a socket of its own name: vhost-user-blk. Lives on the reactor of its bdev.</summary>
/// <remarks>When the bdev is deleted the controller stays, and the guest's requests fail from then on.</remarks>
internal sealed class BlkController : BdevUser
{
    private readonly VhostUserServer _server;
    private IBdev _served;
    private VhostUserBlkDevice? _device; // of the last connection

    public BlkController(string name, RegisteredBdev bdev, string socketPath, bool isReadOnly, Log log)
        : base($"controller {name}")
    {
        Name = name;
        Bdev = bdev;
        Reactor = bdev.Reactor;
        SocketPath = socketPath;
        IsReadOnly = isReadOnly;
        _served = bdev.Served;
        void Write(VhostLogLevel level, string message) => VhostLogLines.Write(log, $"controller {name}", name, level, message);
        _server = new VhostUserServer(new VhostUserServerOptions { Name = name, SocketPath = socketPath }, () => _device = new VhostUserBlkDevice(_served, Write, isReadOnly), Write);
    }

    public string Name { get; }

    /// <summary>Null: it was deleted under the controller.</summary>
    public RegisteredBdev? Bdev { get; private set; }

    public Reactor.Reactor Reactor { get; }

    public string SocketPath { get; }

    public bool IsReadOnly { get; }

    public Task<Errno> StartAsync() => OnReactorAsync(_server.Start);

    /// <summary>Requests under way finish; then the connection ends, the socket goes away, and the bdev is free.</summary>
    public async Task StopAsync()
    {
        await Reactor.InvokeAsync(_server.StopAsync);
        if (Bdev is { } bdev) { bdev.User = null; }
    }

    /// <summary>Null: nobody is connected.</summary>
    public Task<VhostUserSessionState?> SessionAsync() => OnReactorAsync(() => _server.SessionState);

    public override Task<BdevUser?> FindRefusalAsync(RegisteredBdev bdev) => Task.FromResult<BdevUser?>(null);

    public override async Task LetGoAsync(RegisteredBdev bdev)
    {
        await Reactor.InvokeAsync(async () =>
        {
            _served = new GoneBdev(bdev.Bdev);
            return _device is null || await _device.ReplaceBdevAsync(_served);
        });
        Bdev = null;
    }

    private Task<T> OnReactorAsync<T>(Func<T> work) => Reactor.InvokeAsync(() => new IoTask<T>(work()));
}
