using VhostFs.Linux;

namespace VhostFs.Bdev;

/// <summary>Memory that requests to legs of a raid1 have to themselves: their own content, which nobody changes, and which stays when a leg is left behind that does not answer.</summary>
/// <remarks>It goes back to its pool when nobody uses it any more: neither who has taken it, nor a request under way.</remarks>
internal sealed class Raid1Memory(Raid1MemoryPool pool, int sizeClass) : IDisposable
{
    private readonly NativeBuffer _buffer = new(Raid1MemoryPool.BytesOf(sizeClass));
    private readonly IoVecList _vectors = new(1);
    private bool _isCounted;
    private int _users;

    public int SizeClass => sizeClass;

    /// <summary>As much of it as was asked for.</summary>
    public Span<byte> Span => _buffer.Span[..(int)_vectors.LengthBytes];

    public IoVecs Vectors => _vectors.View();

    /// <param name="isCounted">It counts against the bound of the pool until <see cref="Release"/>.</param>
    public void Begin(int lengthBytes, bool isCounted)
    {
        (_users, _isCounted) = (1, isCounted);
        _vectors.Clear();
        _vectors.Add(_buffer.Slice(0, lengthBytes));
    }

    public void AddUser() => _users++;

    public void RemoveUser()
    {
        if (--_users == 0) { pool.Return(this); }
    }

    /// <summary>By who has taken it: what is under way with it is left behind, and does not hold up others.</summary>
    public void Release()
    {
        bool wasCounted = _isCounted;
        _isCounted = false;
        RemoveUser();
        if (wasCounted) { pool.Uncount(sizeClass); }
    }

    public void Dispose()
    {
        _buffer.Dispose();
        _vectors.Dispose();
    }
}
