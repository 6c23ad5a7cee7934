using System.Text.Json.Nodes;
using VhostFs.Linux;
using VhostFs.Rpc;
using VhostFs.VhostUser;

namespace VhostFs.Block;

/// <summary>The vhost_* methods of SPDK's vhost target, for block devices. All their errors have one code, and the errno is in the message.</summary>
internal sealed class VhostMethods(BdevRegistry bdevs, ControlTurn turn, Notifications notifications, IReadOnlyList<Reactor.Reactor> reactors, string socketDirectory, Log log)
{
    private const string Transport = "vhost_user_blk";

    /// <summary>A VM that has just ended may not have been noticed yet.</summary>
    private static readonly TimeSpan s_patience = TimeSpan.FromSeconds(2);

    private static readonly TimeSpan s_look = TimeSpan.FromMilliseconds(10);
    private static readonly RpcRefusal s_wrong = new(RpcErrorCode.InvalidParams, RpcException.Text(Errno.EINVAL));
    private static readonly RpcRefusal s_wrongForGet = new(RpcErrorCode.InternalError, RpcException.Text(Errno.EINVAL));

    private readonly List<BlkController> _controllers = [];

    public Dictionary<string, RpcMethod> Methods => new(StringComparer.Ordinal)
    {
        ["vhost_create_blk_controller"] = turn.Whole(CreateAsync),
        ["vhost_get_controllers"] = turn.Whole(GetAsync),
        ["vhost_delete_controller"] = DeleteAsync,
    };

    /// <summary>What makes all of them again.</summary>
    public IEnumerable<JsonObject> SavedCalls() => _controllers.Select(c => new SavedCall("vhost_create_blk_controller",
        new JsonObject { ["ctrlr"] = c.Name, ["dev_name"] = c.Bdev.Name, ["cpumask"] = MaskOf(c), ["readonly"] = c.IsReadOnly }).ToJson());

    /// <summary>The end: all of them at the same time.</summary>
    public async Task StopAsync()
    {
        await Task.WhenAll(_controllers.Select(c => c.StopAsync()));
        foreach (BlkController controller in _controllers) { controller.Bdev.User = null; }
        _controllers.Clear();
    }

    private async Task<object?> CreateAsync(RpcCall call)
    {
        var parameters = new RpcParameters(call, s_wrong); // others than these are ignored, as SPDK does here
        string name = parameters.Text("ctrlr"), bdevName = parameters.Text("dev_name");
        bool isReadOnly = parameters.Flag("readonly");
        CheckMask(parameters.OptionalText("cpumask"));
        string transport = parameters.OptionalText("transport") ?? Transport;
        if (!transport.Equals(Transport, StringComparison.OrdinalIgnoreCase)) { throw Failure(Errno.EINVAL, $"no transport '{transport}'; there is {Transport}"); }
        if (parameters.Flag("packed_ring")) { throw Failure(Errno.EOPNOTSUPP, "packed rings are not supported; leave packed_ring out"); }
        if (name.Length == 0 || name is "." or ".." || name.Contains('/', StringComparison.Ordinal)) { throw Failure(Errno.EINVAL, $"'{name}' cannot be the name of a socket"); }
        if (bdevs.Find(bdevName) is not { } bdev) { throw Failure(Errno.ENODEV, $"there is no bdev '{bdevName}'"); }
        if (Find(name) is not null) { throw Failure(Errno.EEXIST, $"there is a controller '{name}' already"); }
        if (bdev.User is { } user) { throw Failure(Errno.EPERM, $"bdev '{bdevName}' is used by {user}"); }
        var controller = new BlkController(name, bdev, Path.Combine(socketDirectory, name), isReadOnly, log);
        Errno started = await controller.StartAsync();
        if (started != Errno.None) { throw Failure(started, $"cannot listen on {controller.SocketPath}: {started}"); }
        bdev.User = $"controller {name}";
        _controllers.Add(controller);
        notifications.Add("vhost_controller_register", name);
        return true;
    }

    private async Task<object?> GetAsync(RpcCall call)
    {
        var parameters = new RpcParameters(call, s_wrongForGet);
        string? name = parameters.OptionalText("name");
        parameters.End();
        if (name is null) { return await Task.WhenAll(_controllers.Select(DescribeAsync)); }
        BlkController controller = Find(name) ?? throw new RpcException(RpcErrorCode.InternalError, RpcException.Text(Errno.ENODEV), $"there is no controller '{name}'");
        return new[] { await DescribeAsync(controller) };
    }

    private async Task<object?> DeleteAsync(RpcCall call)
    {
        var parameters = new RpcParameters(call, s_wrong);
        string name = parameters.Text("ctrlr");
        parameters.End();
        for (TimeSpan waited = TimeSpan.Zero; !await turn.RunAsync(() => TryDeleteAsync(name)); waited += s_look)
        {
            if (waited >= s_patience) { throw Failure(Errno.EBUSY, $"a VM is connected to controller '{name}'; end it, or unplug the disk"); }
            await Task.Delay(s_look);
        }
        return true;
    }

    private async Task<bool> TryDeleteAsync(string name)
    {
        BlkController controller = Find(name) ?? throw Failure(Errno.ENODEV, $"there is no controller '{name}'");
        if (await controller.SessionAsync() is not null) { return false; }
        await controller.StopAsync();
        controller.Bdev.User = null;
        _controllers.Remove(controller);
        notifications.Add("vhost_controller_unregister", name);
        return true;
    }

    private async Task<Dictionary<string, object>> DescribeAsync(BlkController controller)
    {
        object[] sessions = await controller.SessionAsync() is { } session ? [DescribeSession(controller, session)] : [];
        return new Dictionary<string, object>
        {
            ["ctrlr"] = controller.Name,
            ["cpumask"] = MaskOf(controller),
            ["delay_base_us"] = 0,
            ["iops_threshold"] = 60000,
            ["socket"] = controller.SocketPath,
            ["sessions"] = sessions,
            ["backend_specific"] = new Dictionary<string, object>
            {
                ["block"] = new Dictionary<string, object> { ["readonly"] = controller.IsReadOnly, ["bdev"] = controller.Bdev.Name, ["transport"] = Transport },
            },
        };
    }

    // A controller has one session: it is always the first.
    private static Dictionary<string, object> DescribeSession(BlkController controller, VhostUserSessionState session) => new()
    {
        ["vid"] = 0,
        ["id"] = 0,
        ["name"] = $"{controller.Name}s0",
        ["started"] = session.Queues > 0,
        ["max_queues"] = session.Queues,
        ["inflight_task_cnt"] = session.InFlight,
    };

    private string MaskOf(BlkController controller) => CpuMask.Format(reactors.Index().First(r => r.Item == controller.Bdev.Reactor).Index);

    // A controller runs where its bdev does; the mask must name reactors that there are.
    private void CheckMask(string? text)
    {
        if (text is null) { return; }
        ulong all = reactors.Count >= 64 ? ulong.MaxValue : (1UL << reactors.Count) - 1;
        if (!CpuMask.TryParse(text, out ulong mask)) { throw Failure(Errno.EINVAL, $"'{text}' is no cpumask; write for example 0x1 or [0]"); }
        if ((mask & ~all) != 0) { throw Failure(Errno.EINVAL, $"cpumask '{text}' names reactors that there are not; the mask of all is 0x{all:x}"); }
    }

    private BlkController? Find(string name) => _controllers.Find(c => c.Name == name);

    private static RpcException Failure(Errno errno, string reason) => new(RpcErrorCode.InvalidParams, RpcException.Text(errno), reason);
}
