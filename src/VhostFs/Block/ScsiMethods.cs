using System.Text.Json.Nodes;
using VhostFs.Linux;
using VhostFs.Rpc;
using VhostFs.VhostUser;

namespace VhostFs.Block;

/// <summary>The vhost_* methods of SPDK's vhost target for SCSI controllers and their targets.</summary>
internal sealed class ScsiMethods(BdevRegistry bdevs, VhostControllers controllers, ControlTurn turn, Log log)
{
    private static readonly RpcRefusal s_wrong = new(RpcErrorCode.InvalidParams, RpcException.Text(Errno.EINVAL));

    private int _dealt;

    public Dictionary<string, RpcMethod> Methods => new(StringComparer.Ordinal)
    {
        ["vhost_create_scsi_controller"] = turn.Whole(CreateAsync),
        ["vhost_start_scsi_controller"] = turn.Whole(StartAsync),
        ["vhost_scsi_controller_add_target"] = turn.Whole(AddTargetAsync),
        ["vhost_scsi_controller_remove_target"] = RemoveTargetAsync,
    };

    /// <summary>What makes all of them again, with their targets.</summary>
    public IEnumerable<JsonObject> SavedCalls() => controllers.All.OfType<ScsiController>().SelectMany(c => c.SavedCalls(controllers.MaskOf(c)));

    private async Task<object?> CreateAsync(RpcCall call)
    {
        var parameters = new RpcParameters(call, s_wrong);
        string name = parameters.Text("ctrlr");
        IReadOnlyList<Reactor.Reactor> reactors = controllers.ReactorsOf(parameters.OptionalText("cpumask"));
        bool isDelayed = parameters.Flag("delay");
        parameters.End();
        string path = controllers.SocketPathOf(name);
        controllers.CheckNew(name);
        // Dealt in turn, as bdevs are: the first of each are on one reactor.
        var controller = new ScsiController(name, reactors[_dealt++ % reactors.Count], path, log) { IsDelayed = isDelayed };
        await controllers.AddAsync(controller, listens: !isDelayed);
        return true;
    }

    private async Task<object?> StartAsync(RpcCall call)
    {
        var parameters = new RpcParameters(call, s_wrong);
        ScsiController controller = Find(parameters.Text("ctrlr"));
        parameters.End();
        if (!controller.IsDelayed) { throw RpcException.InvalidParams(Errno.EALREADY, $"controller '{controller.Name}' is started already"); }
        await VhostControllers.ListenAsync(controller);
        controller.IsDelayed = false;
        return true;
    }

    private async Task<object?> AddTargetAsync(RpcCall call)
    {
        var parameters = new RpcParameters(call, s_wrong);
        ScsiController controller = Find(parameters.Text("ctrlr"));
        int wanted = parameters.Integer("scsi_target_num");
        string bdevName = parameters.Text("bdev_name");
        parameters.End();
        int number = wanted >= 0 ? wanted : controller.FirstFree ?? throw RpcException.InvalidParams(Errno.ENOSPC, $"controller '{controller.Name}' has {ScsiTargets.Count} targets, which is all it can have");
        CheckNumber(number);
        if (controller.HasTarget(number)) { throw RpcException.InvalidParams(Errno.EEXIST, $"controller '{controller.Name}' has a target {number} already"); }
        if (bdevs.Find(bdevName) is not { } bdev) { throw RpcException.InvalidParams(Errno.ENODEV, $"there is no bdev '{bdevName}'"); }
        BdevRegistry.CheckUnused(bdev, RpcException.InvalidParams);
        await controller.AddAsync(number, bdev);
        return number;
    }

    private async Task<object?> RemoveTargetAsync(RpcCall call)
    {
        var parameters = new RpcParameters(call, s_wrong);
        string name = parameters.Text("ctrlr");
        int number = parameters.Integer("scsi_target_num");
        parameters.End();
        return await turn.RunAroundAsync<object?>(
            () =>
            {
                ScsiController controller = Find(name);
                CheckNumber(number);
                if (!controller.HasTarget(number)) { throw RpcException.InvalidParams(Errno.ENODEV, $"controller '{controller.Name}' has no target {number}"); }
                return Task.FromResult(controller.QuiesceAsync(number));
            },
            async () =>
            {
                // It may have gone meanwhile, with its bdev or by another such call, and there may be a new one.
                ScsiController controller = Find(name);
                if (controller.IsLeaving(number)) { await controller.RemoveAsync(number); }
                return true;
            },
            RpcException.InvalidParams);
    }

    private static void CheckNumber(int number)
    {
        if (number is < 0 or >= ScsiTargets.Count) { throw RpcException.InvalidParams(Errno.EINVAL, $"there is no target {number}; a controller has targets 0 to {ScsiTargets.Count - 1}"); }
    }

    private ScsiController Find(string name) => controllers.Find(name) switch
    {
        ScsiController scsi => scsi,
        null => throw RpcException.InvalidParams(Errno.ENODEV, $"there is no controller '{name}'"),
        _ => throw RpcException.InvalidParams(Errno.EINVAL, $"controller '{name}' is a block device and has no targets"),
    };
}
