using System.Text.Json.Nodes;
using VhostFs.Bdev;
using VhostFs.Hosting;
using VhostFs.VhostUser;

namespace VhostFs.Block;

/// <summary>A bdev as a controller: vhost-user-blk. Lives on the reactor of its bdev.</summary>
/// <remarks>Several VMs may be connected, each with a device of its own on the same bdev: a shared disk. When the bdev is deleted the controller stays, and the guest's requests fail from then on.</remarks>
internal sealed class BlkController : VhostController
{
    public const string Transport = "vhost_user_blk";

    private readonly bool _isReadOnly;
    private RegisteredBdev? _bdev; // null: it was deleted under the controller
    private IBdev _served;
    private Task? _quiet; // the bdev is to be deleted
    private readonly List<VhostUserDevice> _devices = []; // of those who are connected

    public BlkController(string name, RegisteredBdev bdev, string socketPath, bool isReadOnly, Log log)
        : base(name, bdev.Reactor, socketPath, log, MaxDiskSessions)
    {
        _bdev = bdev;
        _served = bdev.Served;
        _isReadOnly = isReadOnly;
        User = new Holder(this);
    }

    /// <summary>As the bdev knows it.</summary>
    public BdevUser User { get; }

    public override (string Kind, object Details) Backend =>
        ("block", new Dictionary<string, object?> { ["readonly"] = _isReadOnly, ["bdev"] = _bdev?.Name, ["transport"] = Transport });

    public override async Task StopAsync()
    {
        await base.StopAsync();
        if (_bdev is { } bdev) { bdev.User = null; }
    }

    protected override IEnumerable<JsonObject> SavedCreation(string mask) => _bdev is null
        ? []
        : [SavedCall.Of("vhost_create_blk_controller", new JsonObject { ["ctrlr"] = Name, ["dev_name"] = _bdev.Name, ["cpumask"] = mask, ["readonly"] = _isReadOnly })];

    protected override VhostUserDevice NewDevice(int slot)
    {
        var device = new VhostUserBlkDevice(_served, Write, _isReadOnly);
        _devices.Add(device);
        IdleMemory.Began();
        return device;
    }

    protected override void OnSessionEnded(VhostUserDevice device)
    {
        _devices.Remove(device);
        IdleMemory.Ended();
    }

    // Once, however often it is asked for.
    private Task QuiesceAsync(RegisteredBdev bdev) => _quiet ??= Reactor.InvokeAsync(async () =>
    {
        _served = new GoneBdev(bdev.Bdev);
        foreach (VhostUserBlkDevice device in _devices.Cast<VhostUserBlkDevice>().ToArray()) { await device.ReplaceBdevAsync(_served); }
        return true;
    });

    private async Task LetGoAsync(RegisteredBdev bdev)
    {
        await QuiesceAsync(bdev);
        _bdev = null;
    }

    private sealed class Holder(BlkController controller) : BdevUser($"controller {controller.Name}")
    {
        public override Task<BdevUser?> FindRefusalAsync(RegisteredBdev bdev) => Task.FromResult<BdevUser?>(null);

        public override Task QuiesceAsync(RegisteredBdev bdev) => controller.QuiesceAsync(bdev);

        public override Task LetGoAsync(RegisteredBdev bdev) => controller.LetGoAsync(bdev);
    }
}
