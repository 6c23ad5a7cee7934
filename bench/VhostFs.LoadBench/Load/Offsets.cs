namespace VhostFs.LoadBench.Load;

/// <summary>Where the transfers of a run go: all blocks one after the other, over and over, or blocks at random; the same ones in every run.</summary>
/// <param name="stream">Which of several that go on at once: each begins elsewhere.</param>
internal struct Offsets(long totalBytes, int blockBytes, bool isRandom, int stream = 0)
{
    private const ulong Seed = 0x9E3779B97F4A7C15; // odd, with bits all over
    private readonly ulong _blocks = (ulong)(totalBytes / blockBytes);
    private ulong _next = isRandom ? unchecked(Seed * (ulong)((2 * stream) + 1)) : Math.BigMul(unchecked(Seed * (ulong)stream), (ulong)(totalBytes / blockBytes), out _);

    public long Next()
    {
        if (!isRandom)
        {
            ulong block = _next;
            _next = block + 1 == _blocks ? 0 : block + 1;
            return (long)block * blockBytes;
        }
        // xorshift64: a draw costs a nanosecond, and never ends.
        _next ^= _next << 13;
        _next ^= _next >> 7;
        _next ^= _next << 17;
        return (long)Math.BigMul(_next, _blocks, out _) * blockBytes;
    }
}
