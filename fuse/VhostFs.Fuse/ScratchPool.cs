using VhostFs.Linux;

namespace VhostFs.Fuse;

/// <summary>Memory for one large argument or reply: a directory listing, an xattr value, a link target.</summary>
internal sealed class Scratch : IDisposable
{
    /// <summary>The largest xattr value with its name and fixed arguments.</summary>
    public const int LengthBytes = FuseFlags.XattrSizeMax + 4096;

    private readonly NativeBuffer _buffer = new(LengthBytes);

    public Scratch() => Directory = new DirectoryReply(Memory);

    public IoVec Memory => _buffer.Vec;

    /// <summary>Packs directory entries into <see cref="Memory"/>.</summary>
    public DirectoryReply Directory { get; }

    public void Dispose() => _buffer.Dispose();
}

/// <summary>Scratches shared by the sessions of one reactor, made when asked for; at most <see cref="MaxIdle"/> are kept while idle.</summary>
/// <remarks>Per thread and not per session, so that an idle device holds none. In use: at most two per request in flight, and the transports bound those.</remarks>
internal sealed class ScratchPool
{
    private const int MaxIdle = 16;

    [ThreadStatic] private static ScratchPool? t_pool;
    private readonly Scratch?[] _idle = new Scratch?[MaxIdle];
    private int _idleCount;

    private ScratchPool()
    {
    }

    public static ScratchPool OfThisThread => t_pool ??= new ScratchPool();

    public Scratch Rent()
    {
        if (_idleCount == 0) { return new Scratch(); }
        Scratch scratch = _idle[--_idleCount]!;
        _idle[_idleCount] = null;
        return scratch;
    }

    public void Return(Scratch scratch)
    {
        if (_idleCount == MaxIdle) { scratch.Dispose(); }
        else { _idle[_idleCount++] = scratch; }
    }
}
