namespace VhostFs.VhostUser;

/// <summary>One initiator at one logical unit: what it still has to be told.</summary>
/// <param name="initiator">Who it is beyond a connection: registrations are his.</param>
internal sealed class ScsiNexus(string initiator, ScsiTarget target)
{
    private ScsiUnitAttention _pending = ScsiUnitAttention.PowerOn;

    public string Initiator => initiator;

    public ScsiTarget Target => target;

    public bool HasAttention => _pending != ScsiUnitAttention.None;

    public void Raise(ScsiUnitAttention attention) => _pending |= attention;

    /// <summary>There is one.</summary>
    public ScsiSense TakeAttention() => ScsiUnitAttentions.TakeFirst(ref _pending);
}
