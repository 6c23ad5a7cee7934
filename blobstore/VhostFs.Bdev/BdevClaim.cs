namespace VhostFs.Bdev;

/// <summary>The exclusive right to write to one bdev, inside this process.</summary>
public sealed class BdevClaim
{
    private string? _owner;

    /// <summary>False: <paramref name="owner"/> has it.</summary>
    public bool TryTake(string claimant, out string owner)
    {
        ArgumentException.ThrowIfNullOrEmpty(claimant);
        owner = _owner ?? claimant;
        if (_owner is not null) { return false; }
        _owner = claimant;
        return true;
    }

    public void Release() => _owner = null;
}
