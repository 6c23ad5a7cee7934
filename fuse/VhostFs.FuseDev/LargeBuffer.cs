using VhostFs.Linux;

namespace VhostFs.FuseDev;

/// <summary>Memory for the payload of one large request or reply: as much as INIT allows (max_write).</summary>
internal sealed class LargeBuffer : IDisposable
{
    private const int LengthBytes = 1 << 20;

    private readonly NativeBuffer _buffer = new(LengthBytes);

    public LargeBuffer? Next { get; set; }

    public IoVec Memory => _buffer.Vec;

    public void Dispose() => _buffer.Dispose();
}
