using VhostFs.Fuse;
using VhostFs.Linux;
using VhostFs.Reactor;

namespace VhostFs.Fuzz.Tests.Fuse;

/// <summary>A request in memory of its own, cut into segments as the fuzzer asks, with marked memory around the room for the reply.</summary>
internal sealed class FuzzFuseRequest(bool mayWait) : FuseRequest
{
    public const int MaxBytes = (1 << 20) + 8192;
    private const int CanaryBytes = 64;
    private const byte Canary = 0xC5;
    private readonly NativeBuffer _input = new(MaxBytes);
    private readonly NativeBuffer _output = new(MaxBytes + (2 * CanaryBytes));
    private byte[] _sent = [];
    private int _sentBytes;

    public int Completions { get; private set; }

    public int ReplyBytes { get; private set; }

    public int Room { get; private set; }

    public ReadOnlySpan<byte> Sent => _sent.AsSpan(0, _sentBytes);

    public ReadOnlySpan<byte> Reply => _output.Span.Slice(CanaryBytes, ReplyBytes);

    public bool IsFree { get; set; } = true;

    public FuzzInput Shape { get; private set; }

    public void Fill(ReadOnlySpan<byte> bytes, FuzzInput shape)
    {
        Shape = shape;
        if (_sent.Length < bytes.Length) { _sent = new byte[bytes.Length * 2]; }
        bytes.CopyTo(_sent);
        _sentBytes = bytes.Length;
        bytes.CopyTo(_input.Span);
        Completions = 0;
        ReplyBytes = 0;
        Room = shape.Room;
        Margins(out Span<byte> before, out Span<byte> after);
        before.Fill(Canary);
        after.Fill(Canary);
        Cut(Readable, _input.Slice(0, bytes.Length), shape.FirstIn, shape.RestIn);
        Cut(Writable, _output.Slice(CanaryBytes, Room), shape.FirstOut, shape.RestOut);
    }

    /// <summary>It waits for a lock.</summary>
    public bool IsParked { get; private set; }

    protected override bool CanPark => mayWait;

    protected override void Park() => IsParked = true;

    protected override IoTask<bool> UnparkAsync()
    {
        IsParked = false;
        return base.UnparkAsync();
    }

    protected override void Complete(int replyBytes)
    {
        Completions++;
        ReplyBytes = replyBytes;
    }

    /// <summary>What the device may not have done to memory; null: nothing.</summary>
    public string? Damage()
    {
        Margins(out Span<byte> before, out Span<byte> after);
        if (before.ContainsAnyExcept(Canary) || after.ContainsAnyExcept(Canary)) { return "bytes around the room for the reply were written"; }
        return _input.Span[.._sentBytes].SequenceEqual(Sent) ? null : "bytes of the request were written";
    }

    public override void Dispose()
    {
        base.Dispose();
        _input.Dispose();
        _output.Dispose();
    }

    private void Margins(out Span<byte> before, out Span<byte> after)
    {
        before = _output.Span[..CanaryBytes];
        after = _output.Span.Slice(CanaryBytes + Room, CanaryBytes);
    }

    private static void Cut(IoVecList list, IoVec memory, int first, int rest)
    {
        list.Clear();
        int at = 0;
        for (int piece = first; at < memory.Length; piece = rest)
        {
            int length = piece <= 0 ? memory.Length - at : Math.Min(piece, memory.Length - at);
            list.Add(memory.Slice(at, length));
            at += length;
            if (rest is > 0 and < 7) { list.Add(memory.Slice(at, 0)); } // empty segments are legal
        }
    }
}

/// <summary>How a request lies in memory: room for the reply, and the sizes of the first and of all other segments (0: all the rest).</summary>
internal readonly record struct FuzzInput(int Room, int FirstIn = 0, int RestIn = 0, int FirstOut = 0, int RestOut = 0);
