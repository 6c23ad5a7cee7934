namespace VhostFs.Simulation.Tests.World;

/// <summary>SplitMix64: small, the same everywhere, and forkable, so that each part of a simulation draws from a stream of its own.</summary>
internal sealed class SimRandom(ulong seed)
{
    private ulong _state = seed;

    public ulong Next()
    {
        ulong z = _state += 0x9E3779B97F4A7C15;
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
        return z ^ (z >> 31);
    }

    public SimRandom Fork(ulong salt) => new(Next() ^ (salt * 0xD1B54A32D192ED03));

    /// <summary>0 .. limit - 1.</summary>
    public int Below(int limit) => (int)(Next() % (ulong)limit);

    public long Below(long limit) => (long)(Next() % (ulong)limit);

    /// <summary>first .. last, both possible.</summary>
    public int Between(int first, int last) => first + Below(last - first + 1);

    public bool OneIn(int count) => count > 0 && Below(count) == 0;

    public bool Chance(double probability) => (Next() >> 11) * (1.0 / (1UL << 53)) < probability;

    public T Pick<T>(IReadOnlyList<T> choices) => choices[Below(choices.Count)];

    public void Fill(Span<byte> bytes)
    {
        for (; bytes.Length >= 8; bytes = bytes[8..]) { BitConverter.TryWriteBytes(bytes, Next()); }
        for (ulong last = Next(); bytes.Length > 0; bytes = bytes[1..], last >>= 8) { bytes[0] = (byte)last; }
    }
}
