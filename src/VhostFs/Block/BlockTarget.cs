using System.Text.Json;
using VhostFs.Bdev;
using VhostFs.Rpc;

namespace VhostFs.Block;

/// <summary>Bdevs and the controllers that show them to VMs, made and deleted over the control socket: what SPDK's vhost target does.</summary>
internal sealed class BlockTarget
{
    private readonly ControlTurn _turn = new();
    private readonly BdevRegistry _bdevs;
    private readonly BdevMethods _bdevMethods;
    private readonly SplitMethods _splitMethods;
    private readonly RaidMethods _raidMethods;
    private readonly LvolMethods _lvolMethods;
    private readonly VhostMethods _vhostMethods;

    /// <param name="reactors">Bdevs are dealt to them in turn.</param>
    /// <param name="socketDirectory">Where controllers' sockets appear under their names.</param>
    public BlockTarget(IReadOnlyList<Reactor.Reactor> reactors, string socketDirectory, Log log)
    {
        _bdevs = new BdevRegistry(reactors);
        _bdevMethods = new BdevMethods(_bdevs, _turn);
        _splitMethods = new SplitMethods(_bdevs, _turn);
        _raidMethods = new RaidMethods(_bdevs, _turn, log);
        _lvolMethods = new LvolMethods(_bdevs, _turn, log);
        _vhostMethods = new VhostMethods(_bdevs, _turn, reactors, socketDirectory, log);
    }

    public IEnumerable<KeyValuePair<string, RpcMethod>> Methods =>
        _bdevMethods.Methods.Concat(_splitMethods.Methods).Concat(_raidMethods.Methods).Concat(_lvolMethods.Methods).Concat(_vhostMethods.Methods).Append(new KeyValuePair<string, RpcMethod>("spdk_get_version", GetVersionAsync));

    /// <summary>A pool's bdevs are seen by clients, as used by the pool. Before the first call.</summary>
    public void AddPool(string name, IBdev top, Reactor.Reactor reactor) => _bdevs.AddBorrowed(top, reactor, $"pool {name}");

    /// <summary>Requests finish, sockets and bdevs go away; calls that come later are refused.</summary>
    public async Task StopAsync()
    {
        await _turn.EndAsync();
        await _vhostMethods.StopAsync();
        await _bdevs.DisposeAsync();
    }

    /// <summary>The release of SPDK whose methods these are; clients decide by it what they may ask for.</summary>
    private static Task<object?> GetVersionAsync(RpcCall call)
    {
        if (call.Parameters.ValueKind is not (JsonValueKind.Undefined or JsonValueKind.Null)) { throw new RpcException(RpcErrorCode.InvalidParams, "spdk_get_version method requires no parameters"); }
        return Task.FromResult<object?>(new Dictionary<string, object>
        {
            ["version"] = "SPDK v25.05.1-vhostfs",
            ["fields"] = new Dictionary<string, object> { ["major"] = 25, ["minor"] = 5, ["patch"] = 1, ["suffix"] = "-vhostfs" },
        });
    }
}
