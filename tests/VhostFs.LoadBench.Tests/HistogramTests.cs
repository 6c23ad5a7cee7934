using VhostFs.LoadBench.Measure;

namespace VhostFs.LoadBench.Tests;

public sealed class HistogramTests
{
    [Fact]
    public void Percentiles_are_those_of_the_sorted_values()
    {
        var random = new Random(7);
        long[] values = [.. Enumerable.Range(0, 20_000).Select(_ => (long)Math.Exp(random.NextDouble() * 25))];
        var histogram = new Histogram();
        foreach (long value in values) { histogram.Add(value); }
        Array.Sort(values);
        foreach (double percent in new[] { 0.1, 1, 10, 50, 90, 99, 99.9, 100 })
        {
            long exact = values[(int)Math.Ceiling(values.Length * percent / 100) - 1];
            Assert.InRange(histogram.PercentileNs(percent), exact * 0.984, (exact * 1.016) + 1);
        }
        Assert.Equal((values.Length, values[^1]), (histogram.Count, histogram.MaxNs));
        Assert.Equal(values.Average(), histogram.MeanNs, 1.0);
    }

    [Theory]
    [InlineData(0L)]
    [InlineData(1L)]
    [InlineData(63L)]
    [InlineData(64L)]
    [InlineData(127L)]
    [InlineData(128L)]
    [InlineData(long.MaxValue)]
    public void A_single_value_is_every_percentile(long value)
    {
        var histogram = new Histogram();
        histogram.Add(value);
        Assert.InRange(histogram.PercentileNs(50), value * 0.984, value);
        Assert.Equal(histogram.PercentileNs(50), histogram.PercentileNs(99.9));
    }

    [Fact]
    public void Of_nothing_everything_is_zero()
    {
        var histogram = new Histogram();
        histogram.Add(5);
        histogram.Clear();
        Assert.Equal((0.0, 0.0, 0L, 0L), (histogram.PercentileNs(50), histogram.MeanNs, histogram.MaxNs, histogram.Count));
    }

    [Fact]
    public void Two_histograms_make_one()
    {
        Histogram one = new(), other = new();
        one.Add(10);
        other.Add(30);
        other.Add(50);
        one.Add(other);
        Assert.Equal((3L, 50L, 30.0), (one.Count, one.MaxNs, one.MeanNs));
        Assert.Equal(30, one.PercentileNs(50));
    }
}
