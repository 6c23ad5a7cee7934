using System.Text.Json.Nodes;
using VhostFs.VhostUser;

namespace VhostFs.Block;

/// <summary>A bdev as a controller: vhost-user-blk. Lives on the reactor of its bdev.</summary>
internal sealed class BlkController(string name, RegisteredBdev bdev, string socketPath, bool isReadOnly, Log log) : VhostController(name, bdev.Reactor, socketPath, log)
{
    public const string Transport = "vhost_user_blk";

    public override (string Kind, object Details) Backend =>
        ("block", new Dictionary<string, object> { ["readonly"] = isReadOnly, ["bdev"] = bdev.Name, ["transport"] = Transport });

    public override async Task StopAsync()
    {
        await base.StopAsync();
        bdev.User = null;
    }

    public override IEnumerable<SavedCall> SavedCalls(string mask) =>
        [new SavedCall("vhost_create_blk_controller", new JsonObject { ["ctrlr"] = Name, ["dev_name"] = bdev.Name, ["cpumask"] = mask, ["readonly"] = isReadOnly })];

    protected override VhostUserDevice NewDevice() => new VhostUserBlkDevice(bdev.Bdev, Write, isReadOnly);
}
