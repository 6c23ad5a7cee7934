using System.Text.Json.Nodes;
using VhostFs.Hosting;
using VhostFs.Linux;
using VhostFs.Reactor;
using VhostFs.VhostUser;

namespace VhostFs.Block;

/// <summary>A vhost-user device behind a socket of its own name, on one reactor.</summary>
internal abstract class VhostController
{
    /// <summary>Of a disk that several VMs may share. Each may have 256 queues, as many pairs of descriptors, and 509 pieces of memory: what one socket can cost this process is bounded by it.</summary>
    protected const int MaxDiskSessions = 8;

    private readonly VhostUserServer _server;
    private readonly CallCoalescing _coalescing = new();

    /// <param name="maxSessions">VMs that may be connected at the same time.</param>
    protected VhostController(string name, Reactor.Reactor reactor, string socketPath, Log log, int maxSessions = 1)
    {
        Name = name;
        Reactor = reactor;
        SocketPath = socketPath;
        Write = (level, message) => VhostLogLines.Write(log, $"controller {name}", name, level, message);
        _server = new VhostUserServer(new VhostUserServerOptions { Name = name, SocketPath = socketPath, MaxSessions = maxSessions, Coalescing = _coalescing }, NewDevice, Write);
        _server.SessionEnded += OnSessionEnded;
    }

    public string Name { get; }

    public Reactor.Reactor Reactor { get; }

    public string SocketPath { get; }

    /// <summary>What only its kind has, as vhost_get_controllers shows it.</summary>
    public abstract (string Kind, object Details) Backend { get; }

    /// <summary>Null: it may be deleted when no VM is connected; or why not.</summary>
    public virtual string? KeptBy => null;

    protected VhostLog Write { get; }

    /// <summary>How the VM of this slot is called.</summary>
    public string SessionName(int slot) => $"{Name}s{slot}";

    public Task<Errno> StartAsync() => OnReactorAsync(_server.Start);

    /// <summary>Requests under way finish; then the connections end, the socket goes away, and its bdevs are free.</summary>
    public virtual Task StopAsync() => Reactor.InvokeAsync(_server.StopAsync);

    /// <summary>Of the VMs that are connected.</summary>
    public Task<IReadOnlyList<VhostUserSessionState>> SessionsAsync() => OnReactorAsync(() => _server.SessionStates);

    /// <summary>How long calls are held back at most, and above which rate (<see cref="CallCoalescing"/>). As the last client has set them.</summary>
    public (uint DelayBaseUs, uint IopsThreshold) Coalescing { get; private set; } = (0, 60_000);

    public async Task SetCoalescingAsync(uint delayBaseUs, uint iopsThreshold)
    {
        await OnReactorAsync(() =>
        {
            _coalescing.DelayBaseNs = delayBaseUs * 1000L;
            _coalescing.IopsThreshold = iopsThreshold;
            return true;
        });
        Coalescing = (delayBaseUs, iopsThreshold);
    }

    /// <summary>The calls that make it again as it is now.</summary>
    /// <param name="mask">Of where it runs.</param>
    public IEnumerable<JsonObject> SavedCalls(string mask)
    {
        JsonObject[] made = [.. SavedCreation(mask)];
        return Coalescing.DelayBaseUs == 0 || made.Length == 0 ? made : made.Append(SavedCall.Of("vhost_controller_set_coalescing",
            new JsonObject { ["ctrlr"] = Name, ["delay_base_us"] = Coalescing.DelayBaseUs, ["iops_threshold"] = Coalescing.IopsThreshold }));
    }

    /// <summary>What makes it, and all that belongs to its kind alone. None: it cannot be made again.</summary>
    protected abstract IEnumerable<JsonObject> SavedCreation(string mask);

    /// <summary>The device of a new connection; null: it is refused.</summary>
    /// <param name="slot">The lowest number that no other connection has.</param>
    protected abstract VhostUserDevice? NewDevice(int slot);

    protected virtual void OnSessionEnded(VhostUserDevice device)
    {
    }

    protected Task<T> OnReactorAsync<T>(Func<T> work) => Reactor.InvokeAsync(() => new IoTask<T>(work()));
}
