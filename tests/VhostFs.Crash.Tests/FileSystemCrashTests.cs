using VhostFs.Blobstore.Check;
using VhostFs.Crash.Tests.Explorer;
using Xunit;
using Xunit.Abstractions;

namespace VhostFs.Crash.Tests;

/// <summary>One and two file operations, with and without a sync in between, and every crash on the way.</summary>
public sealed class FileSystemCrashTests(ITestOutputHelper output)
{
    private const int PairsPerRun = 60;
    private const int StatesPerPair = 80;
    private const int FloorOfStates = 4_000;

    [Fact]
    public void Every_operation_and_many_pairs_survive_every_crash()
    {
        byte[] disk = FileSystemWorkload.Format(RawWorkload.DiskBytes);
        int count = FileSystemWorkload.OperationCount;
        long states = 0;
        IEnumerable<int[]> singles = Enumerable.Range(0, count).Select(i => new[] { i });
        var random = new Random(1);
        IEnumerable<int[]> pairs = Enumerable.Range(0, PairsPerRun).Select(_ => new[] { random.Next(count), random.Next(count) });
        int seed = 0;
        foreach (int[] operations in singles.Concat(pairs))
        {
            int syncs = operations.Length == 1 ? 1 : random.Next(4);
            seed++;
            var explorer = new CrashExplorer(FileSystemContent.MountAndHashAsync, CheckOptions.Default) { MaxStatesPerTrace = StatesPerPair };
            string? problem = explorer.Explore(FileSystemWorkload.Run(disk, operations, syncs, seed), seed);
            Assert.True(problem is null, $"{FileSystemWorkload.Describe(operations)} (operations [{string.Join(", ", operations)}], syncs {syncs}, seed {seed}): {problem}");
            states += explorer.StateCount;
        }
        output.WriteLine($"{states} crash states of {seed} sequences");
        Assert.True(states >= FloorOfStates, $"only {states} crash states");
    }
}
