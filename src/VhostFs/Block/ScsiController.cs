using System.Text.Json.Nodes;
using VhostFs.Bdev;
using VhostFs.Hosting;
using VhostFs.Reactor;
using VhostFs.VhostUser;

namespace VhostFs.Block;

/// <summary>Up to eight bdevs as targets of a controller: vhost-user-scsi. They come and go while a VM is connected.</summary>
/// <remarks>A target goes with its bdev. Each VM that is connected is an initiator, named for its session: who connects in the place of one that has gone has its registrations, as a VM that is started anew expects.
/// Bdevs of other reactors are used from there by messages (<see cref="RemoteBdev"/>).</remarks>
internal sealed class ScsiController(string name, Reactor.Reactor reactor, string socketPath, Log log) : VhostController(name, reactor, socketPath, log, MaxDiskSessions)
{
    private readonly ScsiTargets _targets = new();
    private readonly Target?[] _added = new Target?[ScsiTargets.Count];

    /// <summary>It was made to be started later, and has not been yet.</summary>
    public bool IsDelayed { get; set; }

    public override (string Kind, object Details) Backend => ("scsi", _added.Index().Where(t => t.Item is not null).Select(t => new Dictionary<string, object>
    {
        ["scsi_dev_num"] = t.Index,
        ["id"] = t.Index,
        ["target_name"] = $"Target {t.Index}",
        ["luns"] = new[] { new Dictionary<string, object> { ["id"] = 0, ["bdev_name"] = t.Item!.Bdev.Name } },
    }).ToArray());

    public override string? KeptBy => _added.Any(t => t is not null) ? "it has targets; remove them first" : null;

    /// <summary>The first target number that is not in use; null: all are.</summary>
    public int? FirstFree => Array.IndexOf(_added, null) is >= 0 and int free ? free : null;

    public bool HasTarget(int number) => _added[number] is not null;

    /// <summary>The number and the bdev are free.</summary>
    public async Task AddAsync(int number, RegisteredBdev bdev)
    {
        bool isHere = bdev.Reactor == Reactor;
        IBdev used = isHere ? bdev.Served : new RemoteBdev(bdev.Served, Reactor, bdev.Reactor);
        var target = new Target(this, number, bdev, isHere ? null : _ => Reactor.Send(new Resized(_targets, number, used)));
        _added[number] = target;
        bdev.User = target;
        await OnReactorAsync(() =>
        {
            _targets.Add(number, used, Guid.Parse(bdev.Uuid));
            return true;
        });
        if (target.OnResized is { } onResized) { await ListenAsync(bdev, () => bdev.Bdev.Resized += onResized); }
    }

    /// <summary>The target is on its way out: the guest has lost the disk.</summary>
    public bool IsLeaving(int number) => _added[number]?.Quiet is not null;

    /// <summary>The guest loses the disk; completes when nothing is under way on the bdev. Once, however often it is asked for.</summary>
    public Task QuiesceAsync(int number) => _added[number]!.Quiet ??= Reactor.InvokeAsync(() => _targets.RemoveAsync(number));

    /// <summary>Completes when the bdev is not used any more.</summary>
    public async Task RemoveAsync(int number)
    {
        Target target = _added[number]!;
        await QuiesceAsync(number);
        if (target.OnResized is { } onResized) { await ListenAsync(target.Bdev, () => target.Bdev.Bdev.Resized -= onResized); }
        _added[number] = null;
        target.Bdev.User = null;
    }

    public override async Task StopAsync()
    {
        await base.StopAsync();
        for (int i = 0; i < _added.Length; i++)
        {
            if (_added[i] is not null) { await RemoveAsync(i); }
        }
    }

    protected override IEnumerable<JsonObject> SavedCreation(string mask)
    {
        // Its targets are there before a VM can look.
        yield return SavedCall.Of("vhost_create_scsi_controller", new JsonObject { ["ctrlr"] = Name, ["cpumask"] = mask, ["delay"] = true });
        foreach ((int number, Target? target) in _added.Index())
        {
            if (target is not null) { yield return SavedCall.Of("vhost_scsi_controller_add_target", new JsonObject { ["ctrlr"] = Name, ["scsi_target_num"] = number, ["bdev_name"] = target.Bdev.Name }); }
        }
        if (!IsDelayed) { yield return SavedCall.Of("vhost_start_scsi_controller", new JsonObject { ["ctrlr"] = Name }); }
    }

    protected override VhostUserDevice NewDevice(int slot)
    {
        IdleMemory.Began();
        return new VhostUserScsiDevice(_targets, SessionName(slot), Write);
    }

    protected override void OnSessionEnded(VhostUserDevice device) => IdleMemory.Ended();

    private static Task<bool> ListenAsync(RegisteredBdev bdev, Action change) => bdev.Reactor.InvokeAsync(() =>
    {
        change();
        return new IoTask<bool>(true);
    });

    /// <param name="onResized">On the bdev's reactor; null: that is the controller's, and the target listens itself.</param>
    private sealed class Target(ScsiController controller, int number, RegisteredBdev bdev, Action<long>? onResized) : BdevUser($"controller {controller.Name}, target {number}")
    {
        public RegisteredBdev Bdev => bdev;

        public Action<long>? OnResized => onResized;

        public Task? Quiet { get; set; }

        public override Task<BdevUser?> FindRefusalAsync(RegisteredBdev bdev) => Task.FromResult<BdevUser?>(null);

        public override Task QuiesceAsync(RegisteredBdev bdev) => controller.QuiesceAsync(number);

        /// <summary>The bdev is deleted: the guest loses the disk.</summary>
        public override Task LetGoAsync(RegisteredBdev bdev) => controller.RemoveAsync(number);
    }

    private sealed class Resized(ScsiTargets targets, int number, IBdev bdev) : ReactorMessage
    {
        protected override void Receive() => targets.Resized(number, bdev);
    }
}
