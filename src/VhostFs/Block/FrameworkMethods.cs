using System.Text.Json.Nodes;
using VhostFs.Rpc;

namespace VhostFs.Block;

/// <summary>What clients ask of the process as a whole: its configuration (save_config), what has happened, and its end.</summary>
internal sealed class FrameworkMethods(ControlTurn turn, Notifications notifications, IReadOnlyList<Subsystem> subsystems, Action<string> stop)
{
    private const int MaxWaitMs = 3_600_000;

    private static readonly RpcRefusal s_wrong = new(RpcErrorCode.InvalidParams, "Invalid parameters");
    private static readonly RpcRefusal s_wrongForConfig = new(RpcErrorCode.InvalidParams, "Invalid arguments");

    private static readonly Dictionary<string, bool> s_signals = new(StringComparer.Ordinal)
    {
        ["SIGINT"] = true,
        ["SIGTERM"] = true,
        ["SIGQUIT"] = true,
        ["SIGHUP"] = true,
        ["SIGKILL"] = false,
    };

    public Dictionary<string, RpcMethod> Methods => new(StringComparer.Ordinal)
    {
        ["framework_wait_init"] = WaitInitAsync,
        ["framework_get_subsystems"] = GetSubsystemsAsync,
        ["framework_get_config"] = turn.Whole(GetConfigAsync),
        ["framework_get_memory"] = GetMemoryAsync,
        ["notify_get_types"] = GetTypesAsync,
        ["notify_get_notifications"] = GetNotificationsAsync,
        ["spdk_get_version"] = GetVersionAsync,
        ["spdk_kill_instance"] = KillAsync,
    };

    // Whoever can ask finds everything there.
    private static Task<object?> WaitInitAsync(RpcCall call)
    {
        new RpcParameters(call, s_wrong).End();
        return Task.FromResult<object?>(true);
    }

    private Task<object?> GetSubsystemsAsync(RpcCall call)
    {
        new RpcParameters(call, s_wrong).End();
        return Task.FromResult<object?>(subsystems.Select(s => new Dictionary<string, object> { ["subsystem"] = s.Name, ["depends_on"] = s.DependsOn }).ToArray());
    }

    private Task<object?> GetConfigAsync(RpcCall call)
    {
        var parameters = new RpcParameters(call, s_wrongForConfig);
        string name = parameters.Text("name");
        parameters.End();
        return subsystems.FirstOrDefault(s => s.Name == name) is { } subsystem
            ? Task.FromResult<object?>(subsystem.SavedCalls().ToArray())
            : throw new RpcException(RpcErrorCode.InvalidParams, $"Subsystem '{name}' not found");
    }

    /// <summary>Of the collected heap: all threads stand still while it is collected. Two answers tell what happened in between.</summary>
    private static Task<object?> GetMemoryAsync(RpcCall call)
    {
        new RpcParameters(call, s_wrong).End();
        GCMemoryInfo last = GC.GetGCMemoryInfo();
        return Task.FromResult<object?>(new Dictionary<string, object>
        {
            ["heap_bytes"] = GC.GetTotalMemory(forceFullCollection: false),
            ["committed_bytes"] = last.TotalCommittedBytes,
            ["allocated_bytes"] = GC.GetTotalAllocatedBytes(),
            ["collections"] = GC.CollectionCount(0),
            ["pauses_ns"] = (long)GC.GetTotalPauseDuration().TotalNanoseconds,
        });
    }

    private static Task<object?> GetTypesAsync(RpcCall call)
    {
        new RpcParameters(call, s_wrong).End();
        return Task.FromResult<object?>(Notifications.Types);
    }

    // The time-out is not SPDK's: with one, a client hears of what happens when it happens.
    private async Task<object?> GetNotificationsAsync(RpcCall call)
    {
        var parameters = new RpcParameters(call, s_wrong);
        ulong first = parameters.OptionalNumber("id") ?? 0;
        int most = (int)Math.Min(parameters.OptionalNumber("max") ?? Notifications.Kept, Notifications.Kept);
        ulong timeoutMs = parameters.OptionalNumber("timeout", MaxWaitMs) ?? 0;
        parameters.End();
        Notification[] found = await notifications.FromAsync(first, most, TimeSpan.FromMilliseconds(timeoutMs));
        return found.Select(n => new Dictionary<string, object> { ["type"] = n.Type, ["ctx"] = n.Context, ["id"] = n.Id }).ToArray();
    }

    /// <summary>The release of SPDK whose methods these are; clients decide by it what they may ask for.</summary>
    private static Task<object?> GetVersionAsync(RpcCall call)
    {
        if (call.Parameters.ValueKind is not (System.Text.Json.JsonValueKind.Undefined or System.Text.Json.JsonValueKind.Null)) { throw new RpcException(RpcErrorCode.InvalidParams, "spdk_get_version method requires no parameters"); }
        return Task.FromResult<object?>(new Dictionary<string, object>
        {
            ["version"] = "SPDK v25.05.1-vhostfs",
            ["fields"] = new Dictionary<string, object> { ["major"] = 25, ["minor"] = 5, ["patch"] = 1, ["suffix"] = "-vhostfs" },
        });
    }

    private Task<object?> KillAsync(RpcCall call)
    {
        var parameters = new RpcParameters(call, s_wrong);
        bool isOrderly = parameters.Choice("sig_name", s_signals);
        string name = parameters.Text("sig_name");
        parameters.End();
        if (isOrderly) { stop(name); }
        else { System.Diagnostics.Process.GetCurrentProcess().Kill(); }
        return Task.FromResult<object?>(true);
    }
}

/// <summary>A part of the configuration that a client saves by its name, with those that must be made before it.</summary>
/// <param name="SavedCalls">What makes it again as it is now.</param>
internal sealed record Subsystem(string Name, string[] DependsOn, Func<IEnumerable<JsonObject>> SavedCalls);
