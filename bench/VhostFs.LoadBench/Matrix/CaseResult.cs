using System.Text.Json.Serialization;

namespace VhostFs.LoadBench.Matrix;

/// <summary>A line of the table: one job at one depth, of both servers.</summary>
/// <param name="Variant">How the server was set up, where that is not as usual; else empty.</param>
/// <param name="Peer">Null: nobody was compared with.</param>
internal sealed record CaseResult(string Job, int Depth, int BlockBytes, Side Ours, Side? Peer, string Variant = "")
{
    /// <summary>Measured at many depths.</summary>
    public bool IsCurve => Variant.Length == 0 && (Job is "randread" or "randwrite");

    /// <summary>How many times as fast as the peer.</summary>
    [JsonIgnore] // without a peer it is no number
    public double Ratio => Peer is { Rate: > 0 } ? Ours.Rate / Peer.Rate : double.NaN;
}
