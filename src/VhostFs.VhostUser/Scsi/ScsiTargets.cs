using VhostFs.Bdev;
using VhostFs.Linux;
using VhostFs.Reactor;

namespace VhostFs.VhostUser;

/// <summary>The targets behind one controller, which come and go while initiators are connected.</summary>
/// <remarks>Everything happens on the controller's reactor, and that is where the bdevs must be.</remarks>
public sealed class ScsiTargets
{
    /// <summary>SPDK's number.</summary>
    public const int Count = 8;

    private readonly ScsiTarget?[] _targets = new ScsiTarget?[Count];
    private readonly List<VhostUserScsiDevice> _devices = [];

    internal ScsiTarget? this[int number] => (uint)number < Count ? _targets[number] : null;

    /// <summary>Adds a target with the bdev as its LUN 0; initiators are told to look.</summary>
    /// <param name="number">0 to 7, of a target that is not there.</param>
    /// <param name="bdev">Not owned; it is there until the target has been removed.</param>
    /// <param name="uuid">Tells the disk from all others (VPD page 83h).</param>
    public void Add(int number, IBdev bdev, Guid uuid)
    {
        Invariant.That(_targets[number] is null);
        var added = new ScsiTarget(number, bdev, uuid, OnResized);
        _targets[number] = added;
        foreach (VhostUserScsiDevice device in _devices) { device.Added(added); }
    }

    /// <summary>Takes a target away; initiators are told. Completes when nothing is under way on its bdev.</summary>
    public async IoTask<bool> RemoveAsync(int number)
    {
        if (_targets[number] is not { } target) { return false; }
        _targets[number] = null;
        foreach (VhostUserScsiDevice device in _devices) { device.Removed(target); }
        target.Close();
        return await target.Tasks.WaitAsync(default);
    }

    /// <summary>For a bdev that does not say itself that its size has changed.</summary>
    /// <param name="bdev">As it was added; the target may be another one by now.</param>
    public void Resized(int number, IBdev bdev)
    {
        if (_targets[number] is { } target && target.Bdev == bdev) { target.Resize(); }
    }

    internal void Attach(VhostUserScsiDevice device) => _devices.Add(device);

    internal void Detach(VhostUserScsiDevice device) => _devices.Remove(device);

    private void OnResized(ScsiTarget target)
    {
        foreach (VhostUserScsiDevice device in _devices) { device.Resized(target); }
    }
}
