namespace VhostFs.LoadBench.Matrix;

/// <summary>All that a comparison found.</summary>
/// <param name="Machine">Kernel, processors, and how busy others kept them.</param>
/// <param name="Method">How it was measured, in a sentence.</param>
internal sealed record Comparison(string Name, string Ours, string Peer, string Machine, string Method, IReadOnlyList<CaseResult> Cases, IReadOnlyList<Figure> Figures,
    IReadOnlyList<SessionMemory> OurMemory, IReadOnlyList<SessionMemory> PeerMemory);
