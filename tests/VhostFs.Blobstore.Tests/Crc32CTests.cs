using System.Text;
using VhostFs.Linux;
using Xunit;

namespace VhostFs.Blobstore.Tests;

public sealed class Crc32CTests
{
    [Theory]
    [InlineData("", 0x00000000u)]
    [InlineData("a", 0xC1D04330u)]
    [InlineData("123456789", 0xE3069283u)]
    [InlineData("The quick brown fox jumps over the lazy dog", 0x22620404u)]
    public void Golden_values(string text, uint expected) => Assert.Equal(expected, Crc32C.Compute(Encoding.ASCII.GetBytes(text)));

    /// <summary>RFC 3720, B.4.</summary>
    [Fact]
    public void Golden_values_of_iscsi()
    {
        Assert.Equal(0x8A9136AAu, Crc32C.Compute(new byte[32]));
        Assert.Equal(0x62A8AB43u, Crc32C.Compute(Enumerable.Repeat((byte)0xFF, 32).ToArray()));
        Assert.Equal(0x46DD794Eu, Crc32C.Compute(Enumerable.Range(0, 32).Select(static i => (byte)i).ToArray()));
    }

    [Fact]
    public void Every_way_equals_one_byte_after_the_other_at_every_length()
    {
        var data = new byte[9000];
        new Random(7).NextBytes(data);
        uint state = uint.MaxValue;
        for (int length = 0; length <= data.Length; length++)
        {
            Assert.True(~state == Crc32C.Compute(data.AsSpan(0, length)), $"length {length}");
            Assert.True(state == Crc32C.AppendByInstruction(uint.MaxValue, data.AsSpan(0, length)), $"length {length}, without folding");
            if (length < data.Length) { state = Slow(state, data[length]); }
        }
    }

    [Fact]
    public void Pieces_equal_the_whole()
    {
        var random = new Random(8);
        var data = new byte[20000];
        random.NextBytes(data);
        uint whole = Crc32C.Compute(data);
        for (int i = 0; i < 100; i++)
        {
            int cut = random.Next(data.Length + 1);
            Assert.Equal(whole, Crc32C.Compute(data.AsSpan(0, cut), data.AsSpan(cut)));
        }
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void A_copy_has_the_checksum_of_its_source(bool isStreaming)
    {
        var random = new Random(9);
        using var memory = new NativeBuffer(3 * 8192);
        foreach (int length in new[] { 0, 1, 63, 64, 255, 256, 257, 320, 512, 1000, 4032, 4095, 4096, 4160, 8128 })
        {
            foreach ((int from, int to) in new[] { (0, 0), (1, 0), (0, 1), (7, 64), (64, 8) })
            {
                random.NextBytes(memory.Span);
                byte[] expected = memory.Span.ToArray();
                expected.AsSpan(from, length).CopyTo(expected.AsSpan(8192 + to));
                uint state = Crc32C.AppendCopy(0x12345678, memory.Span.Slice(from, length), memory.Span[(8192 + to)..], isStreaming);
                StreamingCopy.Order();
                Assert.True(memory.Span.SequenceEqual(expected), $"{length} bytes from {from} to {to}");
                Assert.Equal(Crc32C.Append(0x12345678, expected.AsSpan(from, length)), state);
            }
        }
        Assert.Throws<ArgumentOutOfRangeException>(() => Crc32C.AppendCopy(0, memory.Span[..4096], memory.Span.Slice(8192, 4032), isStreaming));
    }

    private static uint Slow(uint state, byte next)
    {
        state ^= next;
        for (int bit = 0; bit < 8; bit++) { state = (state & 1) != 0 ? (state >> 1) ^ 0x82F63B78 : state >> 1; }
        return state;
    }
}
