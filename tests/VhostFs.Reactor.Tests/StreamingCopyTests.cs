using VhostFs.Linux;
using Xunit;

namespace VhostFs.Reactor.Tests;

public sealed class StreamingCopyTests
{
    [Theory]
    [InlineData(0, 0, 4096)]
    [InlineData(1, 0, 4096)] // a source that lies anywhere
    [InlineData(0, 64, 64)]
    [InlineData(0, 8, 4096)] // targets and lengths that are copied as usual
    [InlineData(3, 0, 100)]
    [InlineData(0, 0, 0)]
    public void What_is_copied_is_there_and_its_neighbours_stay(int from, int to, int length)
    {
        using var memory = new NativeBuffer(16384);
        Random.Shared.NextBytes(memory.Span);
        byte[] expected = memory.Span.ToArray();
        expected.AsSpan(from, length).CopyTo(expected.AsSpan(8192 + to));
        StreamingCopy.Copy(memory.Span.Slice(from, length), memory.Span.Slice(8192 + to, length));
        StreamingCopy.Order();
        Assert.True(memory.Span.SequenceEqual(expected));
        Assert.Throws<ArgumentOutOfRangeException>(() => StreamingCopy.Copy(memory.Span[..128], memory.Span.Slice(8192, 64)));
    }
}
