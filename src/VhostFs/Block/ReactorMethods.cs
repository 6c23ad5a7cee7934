using VhostFs.Config;
using VhostFs.Reactor;
using VhostFs.Rpc;

namespace VhostFs.Block;

/// <summary>The threads that serve: what they do, and how they wait.</summary>
internal sealed class ReactorMethods(IReadOnlyList<Reactor.Reactor> reactors)
{
    private static readonly RpcRefusal s_wrong = new(RpcErrorCode.InvalidParams, "Invalid parameters");

    public Dictionary<string, RpcMethod> Methods => new(StringComparer.Ordinal)
    {
        ["framework_get_reactors"] = GetAsync,
        ["reactor_set_mode"] = SetModeAsync,
    };

    // Of SPDK's fields those that mean something here; ticks are nanoseconds.
    private Task<object?> GetAsync(RpcCall call)
    {
        new RpcParameters(call, s_wrong).End();
        return Task.FromResult<object?>(new Dictionary<string, object>
        {
            ["tick_rate"] = 1_000_000_000,
            ["pid"] = Environment.ProcessId,
            ["reactors"] = reactors.Select((reactor, i) => new Dictionary<string, object>
            {
                ["lcore"] = i,
                ["busy"] = reactor.BusyNs,
                ["idle"] = reactor.IdleNs,
                ["in_interrupt"] = reactor.Mode == ReactorMode.Interrupt,
                ["mode"] = ConfigNames.ReactorModes.Single(m => m.Value == reactor.Mode).Key,
            }).ToArray(),
        });
    }

    private async Task<object?> SetModeAsync(RpcCall call)
    {
        var parameters = new RpcParameters(call, s_wrong);
        ReactorMode mode = parameters.Choice("mode", ConfigNames.ReactorModes);
        ulong? index = parameters.OptionalNumber("reactor");
        parameters.End();
        if (index >= (ulong)reactors.Count) { throw RpcException.Of(Linux.Errno.ENODEV, $"there is no reactor {index}; there are {reactors.Count}, from 0 on"); }
        foreach (Reactor.Reactor reactor in index is { } one ? [reactors[(int)one]] : reactors)
        {
            // On the reactor itself: one that looks notices it as work.
            await reactor.InvokeAsync(() =>
            {
                reactor.Mode = mode;
                return new IoTask<bool>(true);
            });
        }
        return true;
    }
}
