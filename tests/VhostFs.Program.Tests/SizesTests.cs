namespace VhostFs.ProgramTests;

public class SizesTests
{
    [Theory]
    [InlineData("4096", 4096)]
    [InlineData("512M", 512L << 20)]
    [InlineData("10G", 10L << 30)]
    [InlineData("10g", 10L << 30)]
    [InlineData(" 2T ", 2L << 40)]
    [InlineData("1P", 1L << 50)]
    [InlineData("64KiB", 64L << 10)]
    [InlineData("1.5G", 3L << 29)]
    [InlineData("0", 0)]
    public void Reads_what_QEMU_writes(string text, long bytes)
    {
        Assert.True(Sizes.TryParse(text, out long parsed, out string error), error);
        Assert.Equal(bytes, parsed);
    }

    [Theory]
    [InlineData("")]
    [InlineData("G")]
    [InlineData("iB")]
    [InlineData("10GB")]
    [InlineData("10 apples")]
    [InlineData("-1G")]
    [InlineData("1e3")]
    [InlineData("1,5G")]
    public void Says_what_to_write_instead(string text)
    {
        Assert.False(Sizes.TryParse(text, out _, out string error));
        Assert.Contains("for example 10G", error, StringComparison.Ordinal);
        Assert.Contains($"'{text}'", error, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("9000P")]
    [InlineData("99999999999999999999")]
    public void Refuses_more_than_a_file_can_hold(string text)
    {
        Assert.False(Sizes.TryParse(text, out _, out string error));
        Assert.Contains("8 EiB", error, StringComparison.Ordinal);
    }

    [Fact]
    public void Refuses_a_fraction_of_a_byte()
    {
        Assert.False(Sizes.TryParse("0.0001K", out _, out string error));
        Assert.Contains("whole number of bytes", error, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(10L << 30, "10G")]
    [InlineData(1536L << 20, "1536M")]
    [InlineData(1000, "1000")]
    [InlineData(0, "0")]
    public void Exact_text_reads_back_as_the_same_number(long bytes, string text)
    {
        Assert.Equal(text, Sizes.Exact(bytes));
        Assert.True(Sizes.TryParse(text, out long parsed, out _));
        Assert.Equal(bytes, parsed);
    }

    [Theory]
    [InlineData(0, "0 B")]
    [InlineData(1023, "1023 B")]
    [InlineData(3L << 29, "1.5 GiB")]
    [InlineData(200L << 30, "200 GiB")]
    public void Human_text_has_three_digits(long bytes, string text) => Assert.Equal(text, Sizes.Human(bytes));
}
