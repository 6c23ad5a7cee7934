using VhostFs.Rpc;

namespace VhostFs.Block;

/// <summary>How much this process logs, from now on. SPDK has one level for what it prints and one for what it logs; here it is the same.</summary>
internal sealed class LogMethods(Log log)
{
    private static readonly RpcRefusal s_wrong = new(RpcErrorCode.InternalError, "spdk_json_decode_object failed");

    // The last of a level is how it is shown.
    private static readonly (string Name, LogLevel Level)[] s_levels =
        [("ERROR", LogLevel.Error), ("WARNING", LogLevel.Warn), ("NOTICE", LogLevel.Info), ("INFO", LogLevel.Info), ("DEBUG", LogLevel.Debug)];

    public Dictionary<string, RpcMethod> Methods => new(StringComparer.Ordinal)
    {
        ["log_get_level"] = GetAsync,
        ["log_set_level"] = SetAsync,
        ["log_get_print_level"] = GetAsync,
        ["log_set_print_level"] = SetAsync,
    };

    private Task<object?> GetAsync(RpcCall call)
    {
        new RpcParameters(call, new RpcRefusal(RpcErrorCode.InvalidParams, $"{call.Method} requires no parameters")).End();
        LogLevel shown = log.Level == LogLevel.Trace ? LogLevel.Debug : log.Level;
        if (shown == LogLevel.Off) { throw new RpcException(RpcErrorCode.InternalError, "invalid log level", "nothing is logged, and SPDK has no word for it"); }
        return Task.FromResult<object?>(s_levels.Last(l => l.Level == shown).Name);
    }

    private Task<object?> SetAsync(RpcCall call)
    {
        var parameters = new RpcParameters(call, s_wrong);
        string level = parameters.Text("level");
        parameters.End();
        int known = Array.FindIndex(s_levels, l => l.Name.Equals(level, StringComparison.OrdinalIgnoreCase));
        if (known < 0) { throw new RpcException(RpcErrorCode.InvalidParams, "invalid log level", $"there are {string.Join(", ", s_levels.Select(l => l.Name))}"); }
        log.Level = s_levels[known].Level;
        return Task.FromResult<object?>(true);
    }
}
