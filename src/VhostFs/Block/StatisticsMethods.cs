using System.Text.Json.Nodes;
using VhostFs.Bdev;
using VhostFs.Linux;
using VhostFs.Reactor;
using VhostFs.Rpc;

namespace VhostFs.Block;

/// <summary>What is counted of a bdev, and what VMs may do to it: bdev_get_iostat, bdev_get_histogram, bdev_set_qos_limit and their kin. Ticks are nanoseconds.</summary>
internal sealed class StatisticsMethods(BdevRegistry bdevs, ControlTurn turn)
{
    private const long TicksPerSecond = 1_000_000_000;
    private const ulong MaxMiB = long.MaxValue >> 20;

    private static readonly RpcRefusal s_wrong = new(RpcErrorCode.InternalError, "spdk_json_decode_object failed");
    private static readonly Dictionary<string, bool> s_resetModes = new(StringComparer.Ordinal) { ["none"] = false, ["maxmin"] = true, ["all"] = true };

    public Dictionary<string, RpcMethod> Methods => new(StringComparer.Ordinal)
    {
        ["bdev_get_iostat"] = turn.Whole(GetAsync),
        ["bdev_reset_iostat"] = turn.Whole(ResetAsync),
        ["bdev_set_qos_limit"] = turn.Whole(SetLimitAsync),
        ["bdev_enable_histogram"] = turn.Whole(EnableHistogramAsync),
        ["bdev_get_histogram"] = turn.Whole(GetHistogramAsync),
    };

    /// <summary>The call that limits a bdev as it is limited now.</summary>
    public static JsonObject SavedLimits(RegisteredBdev bdev)
    {
        var parameters = new JsonObject { ["name"] = bdev.Name };
        foreach ((string name, long value) in BdevDescription.Limits(bdev.Served.Limits)) { parameters[name] = value; }
        return SavedCall.Of("bdev_set_qos_limit", parameters);
    }

    private async Task<object?> GetAsync(RpcCall call)
    {
        var parameters = new RpcParameters(call, s_wrong);
        string? name = parameters.OptionalText("name");
        bool perChannel = parameters.Flag("per_channel");
        bool resets = parameters.OptionalText("reset_mode") is not null && parameters.Choice("reset_mode", s_resetModes);
        parameters.End();
        if (perChannel && name is null) { throw RpcException.Of(Errno.EINVAL, "per_channel is of one bdev: say which"); }
        RegisteredBdev[] wanted = name is null ? [.. bdevs.All] : [Find(name)];
        Dictionary<string, object>[] shown = await Task.WhenAll(wanted.Select(bdev => OnReactorAsync(bdev, () => Show(bdev, resets))));
        var answer = new Dictionary<string, object> { ["tick_rate"] = TicksPerSecond, ["ticks"] = ProcessCalls.MonotonicNs };
        // A bdev lives on one reactor: that is its only channel.
        if (perChannel)
        {
            answer["name"] = wanted[0].Name;
            answer["channels"] = shown;
        }
        else { answer["bdevs"] = shown; }
        return answer;
    }

    private async Task<object?> ResetAsync(RpcCall call)
    {
        var parameters = new RpcParameters(call, s_wrong);
        string? name = parameters.OptionalText("name");
        if (parameters.OptionalText("mode") is not null) { parameters.Choice("mode", s_resetModes); }
        parameters.End();
        await Task.WhenAll((name is null ? [.. bdevs.All] : new[] { Find(name) }).Select(bdev => OnReactorAsync(bdev, () => Show(bdev, resets: true))));
        return true;
    }

    private async Task<object?> SetLimitAsync(RpcCall call)
    {
        var parameters = new RpcParameters(call, s_wrong);
        RegisteredBdev bdev = Find(parameters.Text("name"));
        ulong? operations = parameters.OptionalNumber("rw_ios_per_sec", long.MaxValue), both = parameters.OptionalNumber("rw_mbytes_per_sec", MaxMiB);
        ulong? read = parameters.OptionalNumber("r_mbytes_per_sec", MaxMiB), write = parameters.OptionalNumber("w_mbytes_per_sec", MaxMiB);
        parameters.End();
        if ((operations ?? both ?? read ?? write) is null) { throw new RpcException(-(int)Errno.EINVAL, "no rate limits specified"); }
        return await OnReactorAsync(bdev, () =>
        {
            RateLimits now = bdev.Served.Limits; // what is not named stays
            bdev.Served.Limit(new RateLimits((long?)operations ?? now.OperationsPerSecond, Bytes(both) ?? now.BytesPerSecond, Bytes(read) ?? now.ReadBytesPerSecond, Bytes(write) ?? now.WriteBytesPerSecond));
            return true;
        });

        static long? Bytes(ulong? mib) => (long?)mib << 20;
    }

    private async Task<object?> EnableHistogramAsync(RpcCall call)
    {
        var parameters = new RpcParameters(call, s_wrong);
        RegisteredBdev bdev = Find(parameters.Text("name"));
        bool enable = parameters.Has("enable") && parameters.Flag("enable");
        parameters.Ignore("opc", "granularity", "min_nsec", "max_nsec");
        parameters.End();
        return await OnReactorAsync(bdev, () =>
        {
            bdev.Served.Histogram = enable ? new LatencyHistogram() : null;
            return true;
        });
    }

    private async Task<object?> GetHistogramAsync(RpcCall call)
    {
        var parameters = new RpcParameters(call, s_wrong);
        RegisteredBdev bdev = Find(parameters.Text("name"));
        parameters.End();
        string? counts = await OnReactorAsync(bdev, () => bdev.Served.Histogram is { } histogram ? Convert.ToBase64String(histogram.Bytes) : null);
        return new Dictionary<string, object>
        {
            ["histogram"] = counts ?? throw RpcException.Of(Errno.EFAULT, $"there is no histogram of '{bdev.Name}'; bdev_enable_histogram begins one"),
            ["granularity"] = LatencyHistogram.Granularity,
            ["min_range"] = 0,
            ["max_range"] = LatencyHistogram.Ranges,
            ["tsc_rate"] = TicksPerSecond,
        };
    }

    private static Dictionary<string, object> Show(RegisteredBdev bdev, bool resets)
    {
        BdevStatistics counts = bdev.Bdev.Statistics;
        var shown = new Dictionary<string, object>
        {
            ["name"] = bdev.Name,
            ["bytes_read"] = counts.BytesRead,
            ["num_read_ops"] = counts.ReadOperations,
            ["bytes_written"] = counts.BytesWritten,
            ["num_write_ops"] = counts.WriteOperations,
            ["bytes_unmapped"] = counts.BytesUnmapped,
            ["num_unmap_ops"] = counts.UnmapOperations,
            ["bytes_copied"] = 0,
            ["num_copy_ops"] = 0,
        };
        Show(shown, "read", bdev.Served.Reads);
        Show(shown, "write", bdev.Served.Writes);
        Show(shown, "unmap", bdev.Served.Unmaps);
        Show(shown, "copy", default);
        shown["io_error"] = counts.IoErrors > 0 ? new Dictionary<string, long> { ["failed"] = counts.IoErrors } : [];
        if (resets)
        {
            counts.Reset();
            bdev.Served.ResetLatencies();
        }
        return shown;
    }

    private static void Show(Dictionary<string, object> shown, string kind, LatencySum latency)
    {
        shown[$"{kind}_latency_ticks"] = latency.TotalNs;
        shown[$"max_{kind}_latency_ticks"] = latency.MaxNs;
        shown[$"min_{kind}_latency_ticks"] = latency.MinNs;
    }

    private RegisteredBdev Find(string name) => bdevs.Find(name) ?? throw RpcException.Of(Errno.ENODEV, $"there is no bdev '{name}'");

    private static Task<T> OnReactorAsync<T>(RegisteredBdev bdev, Func<T> work) => bdev.Reactor.InvokeAsync(() => new IoTask<T>(work()));
}
