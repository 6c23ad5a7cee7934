using VhostFs.Hosting;
using VhostFs.Linux;
using VhostFs.Reactor;
using VhostFs.VhostUser;

namespace VhostFs.Block;

/// <summary>A bdev behind a socket of its own name: vhost-user-blk. Lives on the reactor of its bdev.</summary>
internal sealed class BlkController
{
    private readonly VhostUserServer _server;

    public BlkController(string name, RegisteredBdev bdev, string socketPath, bool isReadOnly, Log log)
    {
        Name = name;
        Bdev = bdev;
        SocketPath = socketPath;
        IsReadOnly = isReadOnly;
        void Write(VhostLogLevel level, string message) => VhostLogLines.Write(log, $"controller {name}", name, level, message);
        _server = new VhostUserServer(new VhostUserServerOptions { Name = name, SocketPath = socketPath }, () => new VhostUserBlkDevice(bdev.Bdev, Write, isReadOnly), Write);
    }

    public string Name { get; }

    public RegisteredBdev Bdev { get; }

    public string SocketPath { get; }

    public bool IsReadOnly { get; }

    public Task<Errno> StartAsync() => OnReactorAsync(_server.Start);

    /// <summary>Requests under way finish; then the connection ends and the socket goes away.</summary>
    public Task StopAsync() => Bdev.Reactor.InvokeAsync(_server.StopAsync);

    /// <summary>Null: nobody is connected.</summary>
    public Task<VhostUserSessionState?> SessionAsync() => OnReactorAsync(() => _server.SessionState);

    private Task<T> OnReactorAsync<T>(Func<T> work) => Bdev.Reactor.InvokeAsync(() => new IoTask<T>(work()));
}
