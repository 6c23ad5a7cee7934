using VhostFs.Linux;
using VhostFs.Rpc;

namespace VhostFs.Block;

/// <summary>All controllers by name, of whatever kind. Used by one call at a time (<see cref="ControlTurn"/>).</summary>
internal sealed class VhostControllers(IReadOnlyList<Reactor.Reactor> reactors, Notifications notifications, string socketDirectory)
{
    private readonly List<VhostController> _controllers = [];

    /// <summary>In the order in which they were made.</summary>
    public IReadOnlyList<VhostController> All => _controllers;

    public VhostController? Find(string name) => _controllers.Find(c => c.Name == name);

    /// <summary>Where a controller of this name listens.</summary>
    /// <exception cref="RpcException">There can be none.</exception>
    public string SocketPathOf(string name)
    {
        if (name.Length == 0 || name is "." or ".." || name.Contains('/', StringComparison.Ordinal)) { throw RpcException.InvalidParams(Errno.EINVAL, $"'{name}' cannot be the name of a socket"); }
        return Path.Combine(socketDirectory, name);
    }

    /// <exception cref="RpcException">There is one.</exception>
    public void CheckNew(string name)
    {
        if (Find(name) is not null) { throw RpcException.InvalidParams(Errno.EEXIST, $"there is a controller '{name}' already"); }
    }

    /// <summary>The reactors that a client names; all of them where it names none.</summary>
    /// <exception cref="RpcException">There are no such reactors.</exception>
    public IReadOnlyList<Reactor.Reactor> ReactorsOf(string? cpumask)
    {
        if (cpumask is null) { return reactors; }
        ulong all = reactors.Count >= 64 ? ulong.MaxValue : (1UL << reactors.Count) - 1;
        if (!CpuMask.TryParse(cpumask, out ulong mask)) { throw RpcException.InvalidParams(Errno.EINVAL, $"'{cpumask}' is no cpumask; write for example 0x1 or [0]"); }
        if ((mask & ~all) != 0) { throw RpcException.InvalidParams(Errno.EINVAL, $"cpumask '{cpumask}' names reactors that there are not; the mask of all is 0x{all:x}"); }
        return [.. reactors.Where((_, i) => i < 64 && (mask & (1UL << i)) != 0)];
    }

    public string MaskOf(VhostController controller) => CpuMask.Format(reactors.Index().First(r => r.Item == controller.Reactor).Index);

    /// <param name="listens">False: it will be started later.</param>
    /// <exception cref="RpcException">It cannot listen.</exception>
    public async Task AddAsync(VhostController controller, bool listens = true)
    {
        if (listens) { await ListenAsync(controller); }
        _controllers.Add(controller);
        notifications.Add("vhost_controller_register", controller.Name);
    }

    /// <exception cref="RpcException">It cannot.</exception>
    public static async Task ListenAsync(VhostController controller)
    {
        Errno started = await controller.StartAsync();
        if (started != Errno.None) { throw RpcException.InvalidParams(started, $"cannot listen on {controller.SocketPath}: {started}"); }
    }

    public async Task RemoveAsync(VhostController controller)
    {
        await controller.StopAsync();
        _controllers.Remove(controller);
        notifications.Add("vhost_controller_unregister", controller.Name);
    }

    /// <summary>The end: all of them at the same time.</summary>
    public async Task StopAsync()
    {
        await Task.WhenAll(_controllers.Select(c => c.StopAsync()));
        _controllers.Clear();
    }
}
