namespace VhostFs.LoadBench.Measure;

/// <summary>The calling thread on one processor, until this is disposed on it.</summary>
internal sealed class Pinned : IDisposable
{
    private readonly ulong[]? _before;

    /// <param name="cpu">Negative: nothing happens.</param>
    public Pinned(int cpu)
    {
        if (cpu < 0) { return; }
        _before = Libc.Affinity(0);
        if (!Libc.SetAffinity(0, Libc.MaskOf(cpu))) { throw new ArgumentException($"there is no processor {cpu}"); }
    }

    public void Dispose()
    {
        if (_before is not null) { Libc.SetAffinity(0, _before); }
    }
}
