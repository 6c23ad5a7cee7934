using VhostFs.Bdev;
using VhostFs.Blobstore;
using VhostFs.Blobstore.Check;
using VhostFs.Campaigns;
using VhostFs.Crash.Tests.Explorer;
using VhostFs.Linux;
using VhostFs.Reactor;
using IoReactor = VhostFs.Reactor.Reactor;

namespace VhostFs.Failure.Tests;

/// <summary>Runs one scenario again and again, each time with another operation of the bdev failing, and judges what comes of it.</summary>
/// <remarks>
/// An operation that failed says so (EIO), and has not happened as long as its volume takes changes; one that says it succeeded has happened. Afterwards the disk
/// checks clean, opens, and holds all that succeeded, and of the rest whole operations only. A volume ends for its own log, header and tree, or for a flush,
/// and for nothing else (docs/blobstore-design.md). Nothing is leaked: blocks, pages, nodes, requests.
/// </remarks>
internal sealed class NthFailureRun(Scenario scenario)
{
    private const long MaxOperations = 5000;
    private readonly ScenarioReference _reference = ScenarioReference.Of(scenario);
    private readonly DiskImage _image = new(scenario.Disk.Bytes);

    public static long ClockOf(int step) => 2000 + step;

    /// <summary>All N, until the scenario ends before its Nth operation; the number of cases.</summary>
    public long RunAll(Func<long, FaultPlan> plan, Func<long, Func<BdevOperations, long>?> delays)
    {
        long cases = 0;
        for (long nth = 1; nth <= MaxOperations; nth++)
        {
            FaultPlan next = plan(nth);
            string? problem = Run(next, delays(nth), out bool failed);
            if (problem is not null) { throw new FindingException($"{scenario.Name}: {next}: {problem}"); }
            cases++;
            if (!failed) { return cases; }
        }
        throw new FindingException($"{scenario.Name}: still not at its end after {MaxOperations} operations of the bdev");
    }

    private string? Run(FaultPlan plan, Func<BdevOperations, long>? delay, out bool failed)
    {
        _image.Reset();
        using var bdev = new FaultBdev(new ImageBdev(_image)) { DelayNs = delay, RemembersUnflushed = plan.Effect == FaultEffect.LosesUnflushed };
        using var reactor = new IoReactor(new SimulatedDriver(), "failure");
        using var world = new FailureWorld(bdev, [FailureWorld.Main, FailureWorld.Other]) { Client = { Forgets = scenario.Forgets } };
        var life = new Case(this, plan, bdev, world);
        string? problem;
        try { problem = reactor.RunUntilComplete(life.RunAsync); }
#pragma warning disable CA1031 // an exception of the product's is what is looked for
        catch (Exception e) when (e is not OutOfMemoryException) { problem = e.ToString(); }
#pragma warning restore CA1031
        failed = life.Failed.Count > 0;
        return problem is null ? null : $"{problem}\nfailed operations: {string.Join(", ", life.Failed.Take(5).Select(life.Describe))}\nthe engine said: {string.Join("; ", world.Reports.Take(5))}";
    }

    private sealed class Case(NthFailureRun run, FaultPlan plan, FaultBdev bdev, FailureWorld world)
    {
        private readonly Scenario _scenario = run.Scenario;
        private int _done;
        private int _uncertain;
        private ClusterAreas? _areas;

        public IReadOnlyList<InjectedFault> Failed { get; private set; } = [];

        private bool Loses => plan.Effect == FaultEffect.LosesUnflushed;

        public string Describe(InjectedFault fault) => $"{fault.Number}: {fault.Operation} of {fault.LengthBytes} at {fault.OffsetBytes}{(_areas is { } areas ? $" ({areas.NameOf(fault)})" : "")}";

        public async IoTask<string?> RunAsync()
        {
            string? problem = await LiveAsync();
            Failed = [.. bdev.Injected];
            return problem ?? await JudgeDiskAsync();
        }

        private async IoTask<string?> LiveAsync()
        {
            if (_scenario.FailsWhileOpening) { bdev.Arm(plan); }
            string? unopened = await world.OpenAsync();
            if (unopened is not null)
            {
                if (bdev.Injected.Count == 0) { return $"opening: {unopened}"; }
                if (Loses) { bdev.LoseUnflushed(); }
                return CheckNothingHeld();
            }
            _areas = new ClusterAreas(world);
            if (_scenario.Prelude is { } prelude && await prelude(world) is var first && first != "None") { return $"prelude: {first}"; }
            // What came before the scenario is not to be lost with it.
            if (Loses && _scenario.Prelude is not null && await world.Client.Sync() is var synced && synced != "None") { return $"prelude: {synced}"; }
            if (!_scenario.FailsWhileOpening) { bdev.Arm(plan); }
            string? problem = _scenario.IsConcurrent ? await RunTogetherAsync() : await RunInOrderAsync();
            if (problem is not null) { return problem; }
            long free = await SettleAsync();
            problem = JudgeFailures();
            if (problem is not null) { return problem; }
            Errno closed = await world.CloseAsync();
            if (closed == Errno.None && bdev.Injected.Any(static f => f.Operation == BdevOperations.Flush)) { return "closing said that all is durable, although a flush had failed"; }
            if (closed != Errno.None && bdev.Injected.Count == 0) { return $"closing: {closed}"; }
            if (Loses && closed != Errno.None) { bdev.LoseUnflushed(); }
            // What a truncation that an error stopped has not dropped yet goes at the next mount.
            bool isStopped = _scenario.Partial is not null && _uncertain != 0;
            _freeBlocks = closed == Errno.None && !isStopped && !_scenario.ChangesVolumes ? free : -1;
            return CheckNothingHeld();
        }

        private long _freeBlocks = -1;

        private async IoTask<string?> RunInOrderAsync()
        {
            for (int i = 0; i < _scenario.Steps.Count; i++)
            {
                world.Clock = ClockOf(i);
                bool flushFailed = bdev.Injected.Any(static f => f.Operation == BdevOperations.Flush);
                string answer = await _scenario.Steps[i].Run(world);
                string? problem = Take(i, answer) ?? await JudgeLiveAsync(i);
                if (problem is not null) { return problem; }
                bool succeeded = (_done & (1 << i)) != 0;
                if (succeeded && flushFailed && _scenario.Steps[i] == Scenarios.Probe) { return "a sync succeeded after a flush had failed"; }
                // What failed for a moment works the next time.
                if (!succeeded && !world.IsFailed && plan.Afterwards == BdevOperations.None && !IsCatalogueEnded && _scenario.Partial is null && !_scenario.ChangesVolumes)
                {
                    answer = await _scenario.Steps[i].Run(world);
                    problem = Take(i, answer) ?? await JudgeLiveAsync(i);
                    if (problem is not null) { return $"the second attempt: {problem}"; }
                    if ((_done & (1 << i)) == 0 && !world.IsFailed) { return $"{_scenario.Steps[i].Name} fails again ({answer}), although nothing failed any more"; }
                }
            }
            return null;
        }

        private async IoTask<string?> RunTogetherAsync()
        {
            int together = _scenario.Steps.Count - 1;
            var running = new IoTask<string>[together];
            for (int i = 0; i < together; i++)
            {
                world.Clock = ClockOf(i);
                running[i] = _scenario.Steps[i].Run(world);
            }
            for (int i = 0; i < together; i++)
            {
                if (Take(i, await running[i]) is { } problem) { return problem; }
            }
            world.Clock = ClockOf(together);
            return Take(together, await _scenario.Steps[together].Run(world));
        }

        private string? Take(int step, string answer)
        {
            int bit = 1 << step;
            if (run.Reference.IsAnswer(step, answer))
            {
                _done |= bit;
                _uncertain &= ~bit;
                return null;
            }
            bool isShort = _scenario.Partial is not null && answer.EndsWith(" bytes", StringComparison.Ordinal);
            bool isSensible = isShort || answer == nameof(Errno.EIO) || (answer == nameof(Errno.ENOSPC) && (plan.Errno == Errno.ENOSPC || _scenario.Disk.IsFull));
            if (!isSensible || bdev.Injected.Count == 0) { return $"{_scenario.Steps[step].Name} answered '{answer}'"; }
            _uncertain |= bit;
            return null;
        }

        /// <summary>The volume as it is now: all that succeeded, and of what failed nothing while the volume takes changes.</summary>
        private async IoTask<string?> JudgeLiveAsync(int step)
        {
            // What the last step left is looked at on the disk.
            if (world.IsFailed || Loses || step == _scenario.Steps.Count - 1) { return null; }
            string content = await world.LookAsync(0);
            if (IsSame(content, run.Reference.Content(_done))) { return null; }
            return $"after {_scenario.Steps[step].Name} the volume is not what was promised: {Difference(content, run.Reference.Content(_done))}";
        }

        private async IoTask<long> SettleAsync()
        {
            await FailureWorld.SettleAsync();
            world.EndSessions();
            await FailureWorld.SettleAsync();
            return world.IsFailed || world.OrphanCount > 0 ? -1 : world.VolumeAt(0).Space.FreeBlocks;
        }

        private bool IsCatalogueEnded => _areas is not null && bdev.Injected.Any(f => f.Operation == BdevOperations.Flush || (f.Operation != BdevOperations.Read && _areas.IsCatalogue(f)));

        /// <summary>A volume has ended if and only if it had to.</summary>
        private string? JudgeFailures()
        {
            bool flush = bdev.Injected.Any(static f => f.Operation == BdevOperations.Flush);
            for (int i = 0; i < (_scenario.ChangesVolumes ? 1 : 2); i++)
            {
                Volume volume = world.VolumeAt(i);
                bool may = flush || bdev.Injected.Any(f => f.Operation != BdevOperations.Read && f.Operation != BdevOperations.Unmap && _areas!.MayBeOf(volume, f));
                if (volume.Failed && !may) { return $"volume '{volume.Name}' takes no more changes ({volume.FailReason}), but nothing of its own failed"; }
                if (!volume.Failed && bdev.Injected.Any(f => f.Operation != BdevOperations.Read && _areas!.IsAnchor(volume, f)))
                {
                    return $"volume '{volume.Name}' goes on, although a write of its log or header failed";
                }
            }
            return null;
        }

        private string? CheckNothingHeld()
        {
            if (bdev.InFlight > 0) { return $"{bdev.InFlight} operations of the bdev are still under way after closing"; }
            if (world.Nodes.UsedBytes != 0) { return $"{world.Nodes.UsedBytes} bytes of nodes are still held after closing"; }
            return world.Pool is { } pool && pool.Pages.PagesInUse + pool.DataPages.PagesInUse is not 0 and var held ? $"{held} pages are still held after closing" : null;
        }

        /// <summary>What is on the disk, without any failure: checked from the outside, and opened.</summary>
        private async IoTask<string?> JudgeDiskAsync()
        {
            bdev.Arm(FaultPlan.Never);
            CheckReport report = await PoolChecker.CheckAsync(bdev, CheckOptions.Default);
            if (!report.IsClean) { return $"the checker: {string.Join("; ", report.Findings.Where(static f => f.Severity == CheckSeverity.Error).Take(3))}"; }
            using var again = new FailureWorld(bdev, [FailureWorld.Main, FailureWorld.Other]);
            if (await again.OpenAsync() is { } unopened) { return $"it does not open any more: {unopened}"; }
            string content = await again.LookAsync(0);
            bool isOtherThere = again.MountedCount > 1;
            string other = isOtherThere ? await again.LookAsync(1) : "";
            await FailureWorld.SettleAsync();
            long free = again.VolumeAt(0).Space.FreeBlocks;
            Errno closed = await again.CloseAsync();
            if (closed != Errno.None) { return $"closing what was opened again: {closed}"; }
            if (!IsAllowed(content)) { return $"opened again, it is not what was promised: {Difference(content, run.Reference.Content(_done))}"; }
            if (!isOtherThere && !_scenario.ChangesVolumes) { return "the other volume is gone"; }
            if (isOtherThere && other != OtherContent(_scenario)) { return $"the other volume changed: {Difference(other, OtherContent(_scenario))}"; }
            if (_freeBlocks >= 0 && free != _freeBlocks) { return $"{free - _freeBlocks} free blocks came back when it was opened again: they had leaked"; }
            return null;
        }

        /// <summary>One of the contents that it may have: steps that succeeded are in it, steps that failed are or are not.</summary>
        private bool IsAllowed(string content)
        {
            // What no sync covered may be lost when the device loses it.
            bool promised = !Loses || (_done & (1 << (_scenario.Steps.Count - 1))) != 0;
            int must = promised ? _done : 0, may = _done | _uncertain;
            for (int set = 0; set < 1 << _scenario.Steps.Count; set++)
            {
                if ((set & must) == must && (set & ~may) == 0 && IsSame(content, run.Reference.Content(set))) { return true; }
            }
            return false;
        }

        private bool IsSame(string content, string expected)
        {
            if (content == expected) { return true; }
            return _scenario.Partial is { } partial && _uncertain != 0 && Without(content, partial) == Without(expected, partial);
        }

        private static string Without(string dump, string path) => string.Join('\n', dump.Split('\n').Where(line => !line.StartsWith(path, StringComparison.Ordinal) && !line.StartsWith("/ ", StringComparison.Ordinal)));
    }

    private Scenario Scenario => scenario;

    private ScenarioReference Reference => _reference;

    private static readonly System.Runtime.CompilerServices.ConditionalWeakTable<Disk, string> s_other = [];

    private static string OtherContent(Scenario scenario) => s_other.GetValue(scenario.Disk, static disk =>
    {
        using var bdev = new FaultBdev(new ImageBdev(new DiskImage(disk.Bytes)));
        using var reactor = new IoReactor(new SimulatedDriver(), "other");
        using var world = new FailureWorld(bdev, [FailureWorld.Main, FailureWorld.Other]);
        return reactor.RunUntilComplete(async IoTask<string> () =>
        {
            string? unopened = await world.OpenAsync();
            return unopened ?? await world.LookAsync(1);
        });
    });

    private static string Difference(string found, string expected)
    {
        string[] a = found.Split('\n'), b = expected.Split('\n');
        for (int i = 0; i < Math.Max(a.Length, b.Length); i++)
        {
            string one = i < a.Length ? a[i] : "(nothing)", two = i < b.Length ? b[i] : "(nothing)";
            if (one != two) { return $"\n  there is  {one}\n  should be {two}"; }
        }
        return "nothing differs";
    }
}
