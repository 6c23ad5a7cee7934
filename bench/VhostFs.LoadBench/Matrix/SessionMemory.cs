namespace VhostFs.LoadBench.Matrix;

/// <summary>Memory with so many idle sessions, without that of the guests.</summary>
internal readonly record struct SessionMemory(int Sessions, double Mib);
