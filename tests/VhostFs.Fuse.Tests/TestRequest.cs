using VhostFs.Linux;
using VhostFs.Reactor;

namespace VhostFs.Fuse.Tests;

/// <summary>A request in unmanaged memory, as a transport would hand it over; segments split as the test asks.</summary>
internal sealed class TestRequest : FuseRequest
{
    private readonly NativeBuffer _input;
    private readonly NativeBuffer _output;

    public TestRequest(int inputBytes = 1 << 16, int outputBytes = 1 << 16)
    {
        _input = new NativeBuffer(inputBytes);
        _output = new NativeBuffer(outputBytes);
    }

    public int Completions { get; private set; }

    public int ReplyBytes { get; private set; } = -1;

    public int Room { get; private set; }

    public Span<byte> Output => _output.Span;

    public Span<byte> Input => _input.Span;

    public bool MayPark { get; set; } = true;

    public bool IsParked { get; private set; }

    /// <summary>Told to the server when the wait is over: the transport has nobody to answer to.</summary>
    public bool IsDropped { get; set; }

    protected override bool CanPark => MayPark;

    protected override void Park() => IsParked = true;

    protected override IoTask<bool> UnparkAsync()
    {
        IsParked = false;
        return new IoTask<bool>(!IsDropped);
    }

    protected override void Complete(int replyBytes)
    {
        Completions++;
        ReplyBytes = replyBytes;
    }

    /// <summary>Puts bytes and room into segments of at most the given sizes; 0: one segment.</summary>
    public void Fill(ReadOnlySpan<byte> bytes, int room, int inputSegment = 0, int outputSegment = 0)
    {
        bytes.CopyTo(_input.Span);
        _output.Span.Fill(0xEE); // what a reply does not write must not be mistaken for zeros
        Completions = 0;
        ReplyBytes = -1;
        Room = room;
        Split(Readable, _input.Slice(0, bytes.Length), inputSegment);
        Split(Writable, _output.Slice(0, room), outputSegment);
    }

    /// <summary>Readies the same segments for another turn, without touching memory.</summary>
    public void Again() => Completions = 0;

    public override void Dispose()
    {
        base.Dispose();
        _input.Dispose();
        _output.Dispose();
    }

    private static void Split(IoVecList list, IoVec memory, int segment)
    {
        list.Clear();
        if (segment <= 0) { segment = Math.Max(memory.Length, 1); }
        for (int at = 0; at < memory.Length; at += segment)
        {
            list.Add(memory.Slice(at, Math.Min(segment, memory.Length - at)));
            if (segment < 7) { list.Add(memory.Slice(at, 0)); } // empty segments are legal
        }
    }
}
