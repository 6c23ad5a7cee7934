using System.Text;
using VhostFs.LoadBench.Load;

namespace VhostFs.LoadBench.Tests;

public sealed class WorkloadTests
{
    [Fact]
    public void Sequential_offsets_go_round()
    {
        var offsets = new Offsets(3 * 4096 + 100, 4096, isRandom: false);
        Assert.Equal([0, 4096, 8192, 0, 4096], Enumerable.Range(0, 5).Select(_ => offsets.Next()).ToArray());
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void Streams_of_one_run_begin_at_different_places(bool isRandom)
    {
        long[] first = [.. Enumerable.Range(0, 16).Select(stream => new Offsets(1L << 30, 4096, isRandom, stream).Next())];
        Assert.Equal(16, first.Distinct().Count());
        Assert.All(first, offset => Assert.InRange(offset, 0, (1L << 30) - 4096));
    }

    [Fact]
    public void Random_offsets_are_blocks_of_the_file_and_reach_all_of_it()
    {
        const int blocks = 64;
        var offsets = new Offsets(blocks * 4096L, 4096, isRandom: true);
        int[] hits = new int[blocks];
        for (int i = 0; i < 100 * blocks; i++)
        {
            long offset = offsets.Next();
            Assert.Equal(0, offset % 4096);
            hits[offset / 4096]++;
        }
        Assert.InRange(hits.Min(), 50, 150);
        Assert.InRange(hits.Max(), 50, 150);
    }

    [Theory]
    [InlineData(0, false, "file--00000000\0")]
    [InlineData(1234, false, "file--00001234\0")]
    [InlineData(99_999_999, true, "moved-99999999\0")]
    public void The_number_of_a_file_is_in_its_name(int file, bool isMoved, string name)
    {
        ReadOnlySpan<byte> made = MetaFiles.Name(file, isMoved, new byte[16]);
        Assert.Equal(name, Encoding.UTF8.GetString(made));
        Assert.Equal(file, MetaFiles.NumberOf(made[..^1]));
    }

    [Theory]
    [InlineData(".")]
    [InlineData("..")]
    [InlineData("another-name-x")]
    [InlineData("file--0000123x")]
    public void Other_names_have_no_number(string name) => Assert.Equal(-1, MetaFiles.NumberOf(Encoding.UTF8.GetBytes(name)));

    [Theory]
    [InlineData("4096", 4096)]
    [InlineData("4k", 4096)]
    [InlineData("1M", 1 << 20)]
    [InlineData("8G", 8L << 30)]
    public void Sizes_have_units(string text, long bytes)
    {
        Assert.True(Size.TryParse(text, out long parsed));
        Assert.Equal(bytes, parsed);
    }

    [Theory]
    [InlineData("")]
    [InlineData("k")]
    [InlineData("0")]
    [InlineData("-1")]
    [InlineData("4T")]
    [InlineData("99999999999G")]
    public void What_is_no_size_is_refused(string text) => Assert.False(Size.TryParse(text, out _));
}
