using VhostFs.Fuse;
using VhostFs.Linux;
using Xunit;

namespace VhostFs.Blobfs.Tests;

/// <summary>Random operations against a plain in-memory tree: same results, same errnos, same contents, over several sessions and remounts.</summary>
public sealed class ModelTests
{
    public static TheoryData<int, long, int> Seeds => new()
    {
        { 1, 256L << 20, 12_000 },
        { 2, 256L << 20, 12_000 },
        { 3, 1 << 20, 8_000 }, // a node cache much smaller than the tree: operations start over all the time
        { 4, 1 << 20, 8_000 },
        { 5, 256L << 20, 12_000 },
        { 6, 1 << 20, 8_000 },
    };

    private static readonly string[] Kinds =
    [
        "create", "mkdir", "symlink", "link", "unlink", "rmdir", "rename 0", "rename 1", "rename 2", "rename 4", "append", "write", "truncate",
        "fallocate 0", "fallocate 1", "fallocate 3", "fallocate 16", "fallocate 17", "setxattr", "setxattr large", "tmpfile", "delete", "remount",
    ];

    [Theory, MemberData(nameof(Seeds))]
    public void Random_operations_equal_a_plain_tree(int seed, long cacheBytes, int operations) => Run(seed, cacheBytes, operations, null);

    [Fact]
    public void Random_operations_equal_a_plain_tree_when_all_names_collide() =>
        Run(77, 256L << 20, 10_000, static name => (ulong)(name[^1] % 13) << 32);

    private static void Run(int seed, long cacheBytes, int operations, NameHash? hash)
    {
        using var fs = new BlobfsHarness(256L << 20, cacheBytes, new BlobfsOptions { NameHash = hash });
        var run = new ModelRun(fs, seed);
        int step = 0;
        try
        {
            for (; step < operations; step++) { run.Step(); }
            run.CompareAll();
            run.EmptyAllFiles();
            foreach (string kind in Kinds) { Assert.True(run.Succeeded.GetValueOrDefault(kind) >= 5, $"only {run.Succeeded.GetValueOrDefault(kind)} times {kind}"); }
        }
        catch (Exception e) when (e is not OutOfMemoryException)
        {
            throw new InvalidOperationException($"seed {seed}, step {step}, {run.Last}: {e.Message}", e);
        }
    }
}
