using System.Text.Json.Nodes;
using VhostFs.Linux;
using VhostFs.Rpc;
using VhostFs.VhostUser;

namespace VhostFs.Block;

/// <summary>The vhost_* methods of SPDK's vhost target: those for every controller, and for block devices. All their errors have one code, and the errno is in the message.</summary>
internal sealed class VhostMethods(BdevRegistry bdevs, VhostControllers controllers, ControlTurn turn, Log log)
{
    /// <summary>A second; SPDK's bound depends on the processor's clock and is about as much.</summary>
    private const uint MaxDelayBaseUs = 1_000_000;

    /// <summary>SPDK's: one in the 10 ms over which it counts.</summary>
    private const uint MinIopsThreshold = 100;

    /// <summary>A VM that has just ended may not have been noticed yet.</summary>
    private static readonly TimeSpan s_patience = TimeSpan.FromSeconds(2);

    private static readonly TimeSpan s_look = TimeSpan.FromMilliseconds(10);
    private static readonly RpcRefusal s_wrong = new(RpcErrorCode.InvalidParams, RpcException.Text(Errno.EINVAL));
    private static readonly RpcRefusal s_wrongForGet = new(RpcErrorCode.InternalError, RpcException.Text(Errno.EINVAL));

    public Dictionary<string, RpcMethod> Methods => new(StringComparer.Ordinal)
    {
        ["vhost_create_blk_controller"] = turn.Whole(CreateAsync),
        ["vhost_get_controllers"] = turn.Whole(GetAsync),
        ["vhost_controller_set_coalescing"] = turn.Whole(SetCoalescingAsync),
        ["vhost_delete_controller"] = DeleteAsync,
    };

    /// <summary>What makes all block devices again.</summary>
    public IEnumerable<JsonObject> SavedCalls() => controllers.All.OfType<BlkController>().SelectMany(c => c.SavedCalls(controllers.MaskOf(c)));

    private async Task<object?> CreateAsync(RpcCall call)
    {
        var parameters = new RpcParameters(call, s_wrong); // others than these are ignored, as SPDK does here
        string name = parameters.Text("ctrlr"), bdevName = parameters.Text("dev_name");
        bool isReadOnly = parameters.Flag("readonly");
        controllers.ReactorsOf(parameters.OptionalText("cpumask")); // a controller runs where its bdev does; the mask must name reactors that there are
        string transport = parameters.OptionalText("transport") ?? BlkController.Transport;
        if (!transport.Equals(BlkController.Transport, StringComparison.OrdinalIgnoreCase)) { throw RpcException.InvalidParams(Errno.EINVAL, $"no transport '{transport}'; there is {BlkController.Transport}"); }
        parameters.Flag("packed_ring"); // offered to every front-end
        string path = controllers.SocketPathOf(name);
        if (bdevs.Find(bdevName) is not { } bdev) { throw RpcException.InvalidParams(Errno.ENODEV, $"there is no bdev '{bdevName}'"); }
        controllers.CheckNew(name);
        BdevRegistry.CheckUnused(bdev, RpcException.InvalidParams);
        var controller = new BlkController(name, bdev, path, isReadOnly, log);
        await controllers.AddAsync(controller);
        bdev.User = controller.User;
        return true;
    }

    private async Task<object?> GetAsync(RpcCall call)
    {
        var parameters = new RpcParameters(call, s_wrongForGet);
        string? name = parameters.OptionalText("name");
        parameters.End();
        if (name is null) { return await Task.WhenAll(controllers.All.Select(DescribeAsync)); }
        VhostController controller = controllers.Find(name) ?? throw new RpcException(RpcErrorCode.InternalError, RpcException.Text(Errno.ENODEV), $"there is no controller '{name}'");
        return new[] { await DescribeAsync(controller) };
    }

    private async Task<object?> SetCoalescingAsync(RpcCall call)
    {
        var parameters = new RpcParameters(call, s_wrong);
        VhostController controller = Find(parameters.Text("ctrlr"));
        uint delayBaseUs = (uint)parameters.Number("delay_base_us", uint.MaxValue), iopsThreshold = (uint)parameters.Number("iops_threshold", uint.MaxValue);
        parameters.End();
        if (delayBaseUs > MaxDelayBaseUs) { throw RpcException.InvalidParams(Errno.EINVAL, $"a call is held back by {MaxDelayBaseUs} us at most"); }
        if (iopsThreshold < MinIopsThreshold) { throw RpcException.InvalidParams(Errno.EINVAL, $"the threshold is {MinIopsThreshold} requests per second at least"); }
        await controller.SetCoalescingAsync(delayBaseUs, iopsThreshold);
        return true;
    }

    private async Task<object?> DeleteAsync(RpcCall call)
    {
        var parameters = new RpcParameters(call, s_wrong);
        string name = parameters.Text("ctrlr");
        parameters.End();
        for (TimeSpan waited = TimeSpan.Zero; !await turn.RunAsync(() => TryDeleteAsync(name)); waited += s_look)
        {
            if (waited >= s_patience) { throw RpcException.InvalidParams(Errno.EBUSY, $"a VM is connected to controller '{name}'; end it, or unplug the disk"); }
            await Task.Delay(s_look);
        }
        return true;
    }

    private async Task<bool> TryDeleteAsync(string name)
    {
        VhostController controller = Find(name);
        if (controller.KeptBy is { } reason) { throw RpcException.InvalidParams(Errno.EBUSY, $"controller '{name}': {reason}"); }
        if ((await controller.SessionsAsync()).Count > 0) { return false; }
        await controllers.RemoveAsync(controller);
        return true;
    }

    private VhostController Find(string name) => controllers.Find(name) ?? throw RpcException.InvalidParams(Errno.ENODEV, $"there is no controller '{name}'");

    private async Task<Dictionary<string, object>> DescribeAsync(VhostController controller)
    {
        IReadOnlyList<VhostUserSessionState> sessions = await controller.SessionsAsync();
        (string kind, object details) = controller.Backend;
        return new Dictionary<string, object>
        {
            ["ctrlr"] = controller.Name,
            ["cpumask"] = controllers.MaskOf(controller),
            ["delay_base_us"] = controller.Coalescing.DelayBaseUs,
            ["iops_threshold"] = controller.Coalescing.IopsThreshold,
            ["socket"] = controller.SocketPath,
            ["sessions"] = sessions.Select(s => DescribeSession(controller, s)).ToArray(),
            ["backend_specific"] = new Dictionary<string, object> { [kind] = details },
        };
    }

    private static Dictionary<string, object> DescribeSession(VhostController controller, VhostUserSessionState session) => new()
    {
        ["vid"] = session.Slot,
        ["id"] = session.Number,
        ["name"] = controller.SessionName(session.Slot),
        ["started"] = session.Queues > 0,
        ["max_queues"] = session.Queues,
        ["inflight_task_cnt"] = session.InFlight,
    };
}
