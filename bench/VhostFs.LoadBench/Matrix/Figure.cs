namespace VhostFs.LoadBench.Matrix;

/// <summary>Something that is measured and is no rate: a time, memory, how busy an idle server is.</summary>
/// <param name="Unit">With a blank in front where it is a word.</param>
/// <param name="Ours">The median of several runs; of the peer likewise.</param>
/// <param name="Peer">Null: nobody was compared with.</param>
internal sealed record Figure(string What, string Unit, double Ours, double? Peer);
