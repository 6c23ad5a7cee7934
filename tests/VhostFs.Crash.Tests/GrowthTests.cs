using VhostFs.Bdev;
using VhostFs.Blobstore;
using VhostFs.Blobstore.Check;
using VhostFs.Crash.Tests.Explorer;
using VhostFs.Linux;
using VhostFs.Reactor;
using Xunit;
using Xunit.Abstractions;
using IoReactor = VhostFs.Reactor.Reactor;

namespace VhostFs.Crash.Tests;

/// <summary>Every power cut while a pool grows, and while the opening after it finishes that.</summary>
public sealed class GrowthTests(ITestOutputHelper output)
{
    private static readonly PoolProfile s_profile = PoolProfile.Named("growth") with { PrefilledItems = 20 };
    private static readonly DiskImage s_disk = PoolWorkload.Format(s_profile);
    private int _states;
    private int _finished;

    /// <param name="lostCopy">0 to 3: this copy of the superblock is damaged when it begins. -1: none.</param>
    [Theory]
    [InlineData(-1)]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    public void A_pool_that_grows_has_the_old_size_or_the_new_one_after_any_power_cut(int lostCopy)
    {
        // The parity of the generation decides which pair of copies is first.
        for (int openings = 0; openings < 2; openings++)
        {
            DiskImage disk = s_disk.Fork();
            for (int i = 0; i < openings; i++) { Assert.Equal(s_profile.FormattedBytes, Inspect(disk, isWhole: true)); }
            CrashTrace trace = Record(disk, opened =>
            {
                if (lostCopy < 0) { return; }
                long end = s_profile.FormattedBytes / DiskImage.BlockBytes;
                opened.Clear((lostCopy < 2 ? lostCopy : end - 4 + lostCopy) * DiskImage.BlockBytes, DiskImage.BlockBytes);
            });
            foreach ((CrashState state, DiskImage image) in PowerCuts(trace))
            {
                bool isOver = state.Moment == trace.Now;
                DiskImage again = image.Fork();
                bool isHalf = Findings(again).Any(static finding => finding.Sentence.Contains("growing the pool was interrupted", StringComparison.Ordinal));
                long size = Inspect(image, isWhole: lostCopy < 0);
                Assert.True(size == s_profile.DiskBytes || (size == s_profile.FormattedBytes && !isOver && !isHalf), $"{state}: {size} bytes");
                if (isHalf && lostCopy < 0) { CrashWhileItFinishes(again); }
            }
        }
        output.WriteLine($"{_states} states, {_finished} of them in openings that finish a growth");
        Assert.True(_states > 100);
        Assert.True(lostCopy >= 0 || _finished > 1000);
    }

    private void CrashWhileItFinishes(DiskImage disk)
    {
        var trace = Record(disk, null);
        foreach ((CrashState state, DiskImage image) in PowerCuts(trace))
        {
            _finished++;
            long size = Inspect(image, isWhole: true);
            Assert.True(size == s_profile.DiskBytes, $"{state}: {size} bytes");
        }
    }

    private IEnumerable<(CrashState State, DiskImage Image)> PowerCuts(CrashTrace trace)
    {
        DiskImage image = trace.Image.Fork();
        foreach (CrashState state in new CrashStates(trace, seed: 1, randomSubsets: 4).PowerCuts(image))
        {
            _states++;
            state.ApplyTo(image);
            var copy = new DiskImage(image.ToArray());
            image.Reset();
            yield return (state, copy);
        }
    }

    /// <summary>What is written to grow the pool on a disk, or, without <paramref name="opened"/>, to open it.</summary>
    private static CrashTrace Record(DiskImage disk, Action<DiskImage>? opened)
    {
        using var reactor = new IoReactor(new SimulatedDriver(), "growth");
        using var bdev = new ImageBdev(disk);
        using var recording = new RecordingBdev(bdev) { IsRecording = opened is null };
        CrashTrace? trace = opened is null ? new CrashTrace(recording, disk.Fork()) : null;
        string? problem = reactor.RunUntilComplete(async () =>
        {
            OpenResult<Pool> pool = await Pool.OpenAsync(recording, new PoolOptions { LogMemory = null });
            if (pool.Value is null) { return pool.Error; }
            if (opened is not null)
            {
                opened(disk);
                trace = new CrashTrace(recording, disk.Fork());
                recording.IsRecording = true;
                Errno grown = await pool.Value.GrowAsync();
                if (grown != Errno.None) { return $"growing: {grown}"; }
            }
            recording.IsRecording = false;
            return null;
        });
        Assert.Null(problem);
        trace!.End();
        return trace;
    }

    /// <summary>Opens, compares and closes what is on a disk; returns the pool's size.</summary>
    /// <param name="isWhole">Nothing was damaged: nothing may be left of what was interrupted.</param>
    private static long Inspect(DiskImage disk, bool isWhole)
    {
        Assert.DoesNotContain(Findings(disk), static finding => finding.Severity == CheckSeverity.Error);
        using var reactor = new IoReactor(new SimulatedDriver(), "recovery");
        using var bdev = new ImageBdev(disk);
        long size = 0;
        string? problem = reactor.RunUntilComplete(async () =>
        {
            OpenResult<Pool> pool = await Pool.OpenAsync(bdev, new PoolOptions { LogMemory = null });
            if (pool.Value is null) { return pool.Error; }
            size = pool.Value.SizeBytes;
            var found = new Dictionary<string, ulong>();
            string? unreadable = await VolumeContent.ReadPoolAsync(pool.Value, found);
            if (unreadable is null && found.Single().Value != s_content.Value) { unreadable = "another content"; }
            Errno closed = await pool.Value.CloseAsync();
            return unreadable ?? (closed == Errno.None ? null : $"closing: {closed}");
        });
        Assert.Null(problem);
        Assert.DoesNotContain(Findings(disk, freeSpace: isWhole), finding => isWhole || finding.Severity == CheckSeverity.Error);
        return size;
    }

    private static readonly Lazy<ulong> s_content = new(static () =>
    {
        using var reactor = new IoReactor(new SimulatedDriver(), "content");
        using var bdev = new ImageBdev(s_disk.Fork());
        var found = new Dictionary<string, ulong>();
        string? problem = reactor.RunUntilComplete(async () =>
        {
            OpenResult<Pool> pool = await Pool.OpenAsync(bdev, new PoolOptions { LogMemory = null });
            return pool.Value is null ? pool.Error : await VolumeContent.ReadPoolAsync(pool.Value, found);
        });
        Assert.Null(problem);
        return found.Single().Value;
    });

    private static IReadOnlyList<CheckFinding> Findings(DiskImage disk, bool freeSpace = false)
    {
        using var reactor = new IoReactor(new SimulatedDriver(), "check");
        using var bdev = new ImageBdev(disk);
        IReadOnlyList<CheckFinding> findings = [];
        reactor.RunUntilComplete(async () =>
        {
            findings = (await PoolChecker.CheckAsync(bdev, new CheckOptions { VerifyBlobfs = false, VerifyFreeClusters = freeSpace })).Findings;
            return 0;
        });
        return findings;
    }
}
