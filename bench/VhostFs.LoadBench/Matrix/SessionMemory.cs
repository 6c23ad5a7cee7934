namespace VhostFs.LoadBench.Matrix;

/// <summary>Memory with so many idle sessions, without that of the guests.</summary>
internal readonly record struct SessionMemory(int Sessions, double Mib)
{
    /// <summary>What each session costs that came since.</summary>
    public double MibEachSince(SessionMemory fewer) => (Mib - fewer.Mib) / (Sessions - fewer.Sessions);
}
