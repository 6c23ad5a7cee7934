namespace VhostFs.Fuzz.Tests;

/// <summary>Numbers from a seed, the same on every machine and runtime (splitmix64), with the draws that fuzzers want.</summary>
internal sealed class FuzzRandom(ulong seed)
{
    private ulong _state = seed;

    public ulong Next()
    {
        ulong z = _state += 0x9e3779b97f4a7c15;
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
        z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
        return z ^ (z >> 31);
    }

    /// <summary>0 to limit - 1.</summary>
    public int Next(int limit) => (int)(((Next() >> 32) * (ulong)limit) >> 32);

    /// <summary>True once in so many.</summary>
    public bool OneIn(int count) => Next(count) == 0;

    public T Pick<T>(ReadOnlySpan<T> choices) => choices[Next(choices.Length)];

    /// <summary>Numbers at which code errs: around powers of two and the limits of types.</summary>
    public ulong Edge()
    {
        ulong power = 1UL << Next(64);
        return Next(6) switch
        {
            0 => 0,
            1 => ulong.MaxValue - (ulong)Next(3),
            2 => power - 1,
            3 => power + (ulong)Next(3),
            4 => (ulong)long.MaxValue - (ulong)Next(4097),
            _ => Next(),
        };
    }

    public void Fill(Span<byte> target)
    {
        for (int i = 0; i < target.Length; i++) { target[i] = (byte)(Next() >> 56); }
    }

    /// <summary>Flips, sets, or overwrites a few bytes.</summary>
    public void Damage(Span<byte> bytes)
    {
        if (bytes.IsEmpty) { return; }
        for (int left = 1 + Next(3); left > 0; left--)
        {
            int at = Next(bytes.Length);
            switch (Next(4))
            {
                case 0: bytes[at] ^= (byte)(1 << Next(8)); break;
                case 1: bytes[at] = (byte)(OneIn(2) ? 0 : 0xff); break;
                case 2: bytes[at] = (byte)Next(256); break;
                default: // a whole aligned word
                    at &= ~7;
                    ulong edge = Edge();
                    for (int i = 0; i < 8 && at + i < bytes.Length; i++) { bytes[at + i] = (byte)(edge >> (8 * i)); }
                    break;
            }
        }
    }
}
