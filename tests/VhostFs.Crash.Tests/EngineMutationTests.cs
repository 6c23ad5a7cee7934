using VhostFs.Crash.Tests.Mutation;
using Xunit;
using Xunit.Abstractions;

namespace VhostFs.Crash.Tests;

/// <summary>Does the explorer see anything? Each mistake that is put into a copy of the engine must be noticed.</summary>
public sealed class EngineMutationTests(ITestOutputHelper output)
{
    private const int MaxStates = 100_000;
    private const int MaxSeconds = 150;

    public static TheoryData<string> Names => [.. EngineMutations.All.Select(mutation => mutation.Name)];

    [Fact]
    public void There_are_enough_mistakes_to_find() => Assert.True(EngineMutations.All.Count >= 20);

    [Fact]
    public void The_engine_as_it_is_passes_the_same_way()
    {
        using MutatedEngine engine = MutatedEngine.Compile(null);
        Assert.Null(engine.Explore(maxStates: 5_000, MaxSeconds));
    }

    [Theory, MemberData(nameof(Names))]
    public void A_mistake_in_the_engine_is_noticed(string name)
    {
        using MutatedEngine engine = MutatedEngine.Compile(EngineMutations.All.Single(mutation => mutation.Name == name));
        string? noticed = engine.Explore(MaxStates, MaxSeconds);
        output.WriteLine(noticed ?? "not noticed");
        Assert.True(noticed is not null, $"the explorer did not notice: {name}");
    }
}
