using VhostFs.Config;
using VhostFs.Fuse;

namespace VhostFs.Hosting;

/// <summary>What one session needs of everybody else on its volume.</summary>
/// <param name="Holder">As messages name it: "export vm1".</param>
internal sealed record VolumeClaim(string Holder, SharingMode Sharing, FuseServerOptions Fuse)
{
    // Collected writes are changes that nobody else may know of yet.
    public bool IsExclusive => Sharing == SharingMode.Exclusive || Fuse.Writeback;

    public bool IsFrozen => Sharing == SharingMode.SharedReadOnly;

    public bool Writes => !Fuse.ReadOnly;
}

/// <summary>Who uses one volume, and the one place that says whether somebody else may. Lives on the volume's reactor.</summary>
internal sealed class VolumeClaims(string volume)
{
    private readonly List<VolumeClaim> _held = [];

    /// <summary>As messages name them.</summary>
    public IReadOnlyList<string> Holders => [.. _held.Select(h => h.Holder)];

    /// <summary>Null: it is held now, until <see cref="Release"/>. Otherwise why not, and who is in the way.</summary>
    public string? TryTake(VolumeClaim claim)
    {
        foreach (VolumeClaim other in _held)
        {
            if (other.IsExclusive) { return $"volume '{volume}' is in use by {other.Holder}, which has it to itself; end that first, or give both the sharing 'shared'"; }
            if (claim.IsExclusive) { return $"volume '{volume}' is in use by {other.Holder}, and this session wants it to itself; end that first, or say sharing 'shared'"; }
            if (other.IsFrozen && claim.Writes) { return $"{other.Holder} reads volume '{volume}' as 'shared-ro', which never looks again; only reading is possible beside it"; }
            if (claim.IsFrozen && other.Writes) { return $"{other.Holder} may write to volume '{volume}', and this session, 'shared-ro', would never look again; say sharing 'shared'"; }
        }
        _held.Add(claim);
        IdleMemory.Began();
        return null;
    }

    public void Release(VolumeClaim claim)
    {
        if (_held.RemoveAll(held => ReferenceEquals(held, claim)) > 0) { IdleMemory.Ended(); }
    }
}
