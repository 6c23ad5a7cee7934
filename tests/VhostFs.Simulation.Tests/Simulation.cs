using VhostFs.Blobstore;
using VhostFs.Blobstore.Check;
using VhostFs.Campaigns;
using VhostFs.Linux;
using VhostFs.Reactor;
using VhostFs.Simulation.Tests.Disk;
using VhostFs.Simulation.Tests.Guest;
using VhostFs.Simulation.Tests.World;
using VhostFs.VhostUser;
using IoReactor = VhostFs.Reactor.Reactor;

namespace VhostFs.Simulation.Tests;

/// <summary>One seed: a few disks, a few guests, and a daemon that lives several lives between them.</summary>
/// <remarks>A life: the pools are opened on what the last end left, the guests connect, every worker compares what it finds with what it was promised, then all
/// work while things go wrong, and an end comes: orderly, by the death of the process or by a power cut, at any moment. Everything happens on one thread.</remarks>
internal sealed class Simulation : IDisposable
{
    private const long MaxTurns = 3_000_000;
    private const long MaxIdleNs = 3_000_000_000;
    private const int MaxFindingsOfChecker = 3;
    private static int s_directories;

    private readonly SimRandom _random;
    private readonly string _directory;
    private readonly List<Worker> _workers = [];
    private string? _finding;
    private long _moment;
    private int _operationsLeft;
    private int _momentsToDeath;
    private LifeEnd _end;

    public Simulation(ulong seed, Sabotage sabotage, bool keepsText)
    {
        _random = new SimRandom(seed);
        Trace = new SimTrace(keepsText);
        Plan = SimulationPlan.Draw(_random.Fork(1), sabotage);
        _directory = Path.Combine(Path.GetTempPath(), $"vhostfs-sim-{Environment.ProcessId}-{Interlocked.Increment(ref s_directories)}");
        Directory.CreateDirectory(_directory);
        Pools = [.. Plan.Pools.Select((pool, i) => new PoolState(pool, new SimDisk(pool.Name, pool.DiskBytes, _random.Fork(100 + (ulong)i))))];
        Guests = [.. Plan.Guests.Select((guest, i) => new SimGuest(World, Trace, _random.Fork(200 + (ulong)i), guest, Fail))];
        foreach (SimGuest guest in Guests)
        {
            for (int w = 0; w < guest.Plan.WorkerCount; w++) { _workers.Add(new Worker(this, guest, w, _random.Fork(300 + (ulong)_workers.Count))); }
        }
    }

    public SimWorld World { get; } = new();

    public SimTrace Trace { get; }

    public SimulationPlan Plan { get; }

    public IReadOnlyList<PoolState> Pools { get; }

    public IReadOnlyList<SimGuest> Guests { get; }

    /// <summary>This life has ended: nobody gets an answer any more.</summary>
    public bool IsOver { get; private set; }

    /// <summary>Everybody has looked, and nothing was wrong: work may begin.</summary>
    public bool MayWork { get; private set; }

    /// <summary>Operations done in all lives.</summary>
    public long OperationCount { get; private set; }

    /// <exception cref="FindingException">Something is wrong.</exception>
    public void Run()
    {
        Trace.Add(0, "plan", (ulong)Plan.LifeCount, (ulong)Plan.OperationsPerLife, $"{Plan}");
        Format();
        for (int life = 0; life < Plan.LifeCount; life++) { Live(Plan.OperationsPerLife, faults: true); }
        Live(operations: 0, faults: false); // nothing happens any more: what is left is looked at once more
    }

    public long NextMoment() => ++_moment;

    /// <summary>A finding: kept, and told as soon as the reactor's turn is over.</summary>
    public void Fail(string problem) => _finding ??= problem;

    public bool TakeOperation()
    {
        if (IsOver || _operationsLeft == 0) { return false; }
        _operationsLeft--;
        OperationCount++;
        return true;
    }

    /// <summary>A sync of a volume, asked for at this moment, was answered.</summary>
    public void Synced(PoolState pool, int volume, long issued)
    {
        foreach (Worker worker in _workers)
        {
            if (Pools[worker.Guest.Plan.Pool] == pool && worker.Guest.Plan.Volume == volume) { worker.History.Synced(issued); }
        }
    }

    /// <summary>What the guests keep on a pool is so much that ENOSPC is an honest answer: copies are made before the old is freed, and freed space waits for a sync.</summary>
    public bool IsNearlyFull(PoolState pool)
    {
        const int BlockBytes = SimDisk.BlockBytes;
        long used = 1 << 20;
        foreach (Worker worker in _workers)
        {
            if (Pools[worker.Guest.Plan.Pool] != pool) { continue; }
            Model.ModelState state = worker.History.Current[0];
            foreach (string path in state.Paths) { used += (state.Find(path)!.Content.Length + BlockBytes) & -BlockBytes; }
        }
        return used * 2 > pool.Plan.DataBytes;
    }

    /// <summary>What a pool says went wrong.</summary>
    public void Report(string line)
    {
        Trace.Add(World.NowNs, "report", (ulong)line.Length, 0, $"{line}");
        if (line.Contains("bug", StringComparison.Ordinal)) { Fail(line); }
    }

    public void Log(VhostLogLevel level, string line)
    {
        Trace.Add(World.NowNs, "log", (ulong)level, (ulong)line.Length, $"{line}");
        if (level == VhostLogLevel.Error) { Fail($"logged: {line}"); }
    }

    public void Dispose()
    {
        foreach (SimGuest guest in Guests) { guest.Disconnect(); }
        World.Close();
        Directory.Delete(_directory, recursive: true);
    }

    private void Format()
    {
        foreach (PoolState pool in Pools)
        {
            using var reactor = new IoReactor(World, "format");
            SimRandom random = _random.Fork(2);
            var bdev = new SimBdev(pool.Disk, World, Trace, random, DiskSpeed.Instant);
            string? problem = null;
            reactor.RunUntilComplete(async () =>
            {
                OpenResult<Pool> made = await Pool.FormatAsync(bdev, new FormatOptions { Uuid = NewGuid(random) });
                problem = made.Error;
                if (made.Value is null) { return false; }
                foreach (VolumePlan volume in pool.Plan.Volumes)
                {
                    var identity = new VolumeIdentity(NewGuid(random), random.Next(), random.Next(), 1_700_000_000);
                    OpenResult<Volume> created = await made.Value.CreateVolumeAsync(volume.Name, new VolumeOptions { DataChecksums = volume.DataChecksums, LogBytes = volume.LogBytes, Identity = identity });
                    problem ??= created.Error;
                }
                Errno closed = await made.Value.CloseAsync();
                problem ??= closed == Errno.None ? null : $"closing: {closed}";
                return true;
            });
            if (problem is not null) { throw new FindingException($"formatting {pool.Plan.Name}: {problem}"); }
        }
    }

    private static Guid NewGuid(SimRandom random)
    {
        Span<byte> bytes = stackalloc byte[16];
        random.Fill(bytes);
        return new Guid(bytes);
    }

    private void Live(int operations, bool faults)
    {
        IsOver = false;
        MayWork = false;
        _operationsLeft = operations;
        _end = !faults ? LifeEnd.Clean : _random.Below(5) switch { 0 => LifeEnd.Clean, < 3 => LifeEnd.ProcessDeath, _ => LifeEnd.PowerCut };
        _momentsToDeath = int.MaxValue;
        bool diesAtStart = faults && _end != LifeEnd.Clean && _random.OneIn(8);
        if (diesAtStart) { _momentsToDeath = _random.Between(1, 150); }
        foreach (PoolState pool in Pools) { Plug(pool, faults); }
        using var reactor = new IoReactor(World, "daemon");
        reactor.UnhandledException += bug => Fail($"an exception escaped: {bug}");
        var daemon = new SimDaemon(this, _directory);
        Trace.Add(World.NowNs, "life", (ulong)_end, (ulong)operations, $"begins, to end by {_end}");
        if (!Boot(reactor, daemon))
        {
            Bury(reactor, daemon);
            return;
        }
        foreach (SimGuest guest in Guests.Where(guest => !Pools[guest.Plan.Pool].IsLost)) { guest.Start(SimDaemon.Socket(_directory, guest.Plan)); }
        List<Worker> working = [.. _workers.Where(worker => !Pools[worker.Guest.Plan.Pool].IsLost)];
        LifeEnd[] ends = [.. Pools.Select(pool => pool.TakeEnd())];
        foreach (Worker worker in working) { worker.Start(ends[worker.Guest.Plan.Pool]); }
        Pump(reactor, () => IsOver || working.All(worker => worker.HasVerified), "everybody to have looked at what is left");
        if (!IsOver)
        {
            CompareOrder(working);
            BeginWork(faults);
            Pump(reactor, () => IsOver || working.All(worker => worker.IsDone), "the work to be done");
        }
        if (!IsOver) { Idle(reactor); }
        if (!IsOver && _end == LifeEnd.Clean) { Stop(reactor, daemon); }
        else
        {
            if (!IsOver) { Die(); }
            Pump(reactor, () => working.All(worker => worker.IsDone), "the workers to hear that all is over");
            Bury(reactor, daemon);
        }
        Inspect();
    }

    private void Plug(PoolState pool, bool faults)
    {
        bool isFaulty = ReferenceEquals(pool, Pools[0]) && faults;
        pool.Bdev = new SimBdev(pool.Disk, World, Trace, _random.Fork(3), pool.Plan.Speed) { Sabotage = Plan.Sabotage, Moment = Tick };
        // Errors are rarer than the few operations of a start: more of them, or none would ever meet one.
        if (isFaulty && Plan.FaultsAtStart) { pool.Bdev.Faults = Plan.Faults with { LostWrite = 0, MisdirectedWrite = 0, BitRot = 0, ReadError = Plan.Faults.ReadError * 10, WriteError = Plan.Faults.WriteError * 5 }; }
    }

    /// <summary>Opens everything; false: it died on the way, or a pool cannot be opened and nobody is to blame but the disk.</summary>
    private bool Boot(IoReactor reactor, SimDaemon daemon)
    {
        (PoolState Pool, string Error)? failed = null;
        bool started = false;
        Start(reactor, daemon.StartAsync, result => (failed, started) = (result, true));
        Pump(reactor, () => started || IsOver, "the pools to open");
        Pump(reactor, () => started, "the pools to open, or not, without a disk");
        if (IsOver) { return false; }
        foreach (PoolState pool in Pools) { pool.Bdev!.Faults = DiskFaults.None; }
        if (failed is not var (unopened, error)) { return true; }
        Trace.Add(World.NowNs, "unopened", (ulong)error.Length, 0, $"{unopened.Plan.Name}: {error}");
        if (unopened.Disk.LieCount > 0) { unopened.IsLost = true; } // it says so: that is all that can be asked of it
        else if (unopened.Bdev!.ErrorCount == 0) { Fail($"pool {unopened.Plan.Name} does not open: {error}"); }
        // The administrator starts it again, with a disk that works.
        Die();
        return false;
    }

    private void BeginWork(bool faults)
    {
        MayWork = true;
        foreach (SimGuest guest in Guests) { guest.IsCalm = !faults; }
        if (!faults) { return; }
        Pools[0].Bdev!.Faults = Plan.Faults;
        if (_end != LifeEnd.Clean && !_random.OneIn(3)) { _momentsToDeath = _random.Between(1, 20 * _operationsLeft); }
    }

    /// <summary>The guests have nothing to do for a while: syncs, checkpoints and unmaps of the background go on.</summary>
    private void Idle(IoReactor reactor)
    {
        foreach (SimGuest guest in Guests) { guest.IsCalm = true; }
        if (_end == LifeEnd.Clean) { Pools[0].Bdev!.Faults = DiskFaults.None; }
        bool rested = false;
        World.Schedule(_random.Below(MaxIdleNs), () => rested = true);
        Pump(reactor, () => rested || IsOver, "an idle time to pass");
    }

    private void Stop(IoReactor reactor, SimDaemon daemon)
    {
        foreach (SimGuest guest in Guests) { guest.Leave(); }
        Pump(reactor, () => Guests.All(guest => guest.IsGone), "the guests to leave");
        bool stopped = false;
        Errno closed = Errno.None;
        Start(reactor, daemon.StopServersAsync, _ => stopped = true);
        Pump(reactor, () => stopped, "the exports to stop");
        if (daemon.FindLeaks() is { } leak) { Fail(leak); }
        stopped = false;
        Start(reactor, daemon.CloseAsync, result => (closed, stopped) = (result, true));
        Pump(reactor, () => stopped, "the pools to close");
        if (closed != Errno.None && !Pools.Any(pool => pool.MayFail)) { Fail($"closing: {closed}"); }
        foreach (PoolState pool in Pools)
        {
            // A volume that had failed does not close in order: what was answered is on the disk, no more.
            pool.Ended(closed == Errno.None ? LifeEnd.Clean : LifeEnd.ProcessDeath);
            EndLife(pool);
            pool.Disk.EndProcess();
        }
        IsOver = true;
        reactor.Stop();
    }

    /// <summary>Called whenever something happens at a disk.</summary>
    private void Tick()
    {
        if (!IsOver && --_momentsToDeath == 0) { Die(); }
    }

    /// <summary>From one moment to the next: the disks keep what they keep, and nobody hears anything any more.</summary>
    private void Die()
    {
        IsOver = true;
        bool power = _end == LifeEnd.PowerCut;
        LifeEnd end = power ? LifeEnd.PowerCut : LifeEnd.ProcessDeath;
        Trace.Add(World.NowNs, "death", power ? 1u : 0u, 0, $"{(power ? "the power goes" : "the process dies")}");
        foreach (PoolState pool in Pools)
        {
            pool.Ended(end);
            EndLife(pool);
            if (power) { pool.Disk.CutPower(_random.Pick([Survival.Nothing, Survival.Everything, Survival.Random, Survival.Prefix, Survival.AllButOne, Survival.Torn])); }
            else { pool.Disk.EndProcess(); }
        }
        foreach (SimGuest guest in Guests) { guest.Leave(); }
    }

    private static void EndLife(PoolState pool)
    {
        // A flush that failed took with it what only the cache had.
        if (pool.Bdev!.DroppedCache) { pool.Ended(LifeEnd.PowerCut); }
    }

    /// <summary>What is left of a dead process ends, too: every request to the disk fails, and it must come to its end all the same.</summary>
    private void Bury(IoReactor reactor, SimDaemon daemon)
    {
        bool buried = false;
        Start(reactor, daemon.StopServersAsync, _ => buried = true);
        Pump(reactor, () => buried && Guests.All(guest => guest.IsGone), "the exports of a dead process to stop");
        if (daemon.FindLeaks() is { } leak) { Fail(leak); }
        buried = false;
        Start(reactor, daemon.CloseAsync, _ => buried = true);
        Pump(reactor, () => buried, "the pools of a dead process to close");
        reactor.Stop();
        ThrowFinding();
    }

    /// <summary>The disks as they are now, seen by the checker.</summary>
    private void Inspect()
    {
        foreach (PoolState pool in Pools)
        {
            if (pool.Bdev!.InFlight is { } inFlight) { Fail($"operations are in flight on {pool.Plan.Name} after the end: {inFlight}"); }
            if (pool.Bdev.Problem is { } problem) { Fail(problem); }
            if (pool.Disk.LieCount > 0) { continue; }
            using var reactor = new IoReactor(World, "checker");
            using var bdev = new SimBdev(pool.Disk, World, Trace, new SimRandom(0), DiskSpeed.Instant);
            CheckReport report = reactor.RunUntilComplete(() => PoolChecker.CheckAsync(bdev, new CheckOptions()));
            if (!report.IsClean) { Fail($"the checker, after {pool.End}: {string.Join("; ", report.Findings.Where(finding => finding.Severity == CheckSeverity.Error).Take(MaxFindingsOfChecker))}"); }
        }
        ThrowFinding();
    }

    /// <summary>The volume's log has one order: no later change survives without an earlier one, whoever made it.</summary>
    private void CompareOrder(List<Worker> workers)
    {
        foreach (Worker later in workers)
        {
            if (later.Recovered is not var (first, _)) { continue; }
            Model.HistoryEntry survived = later.History[first];
            foreach (Worker earlier in workers)
            {
                bool sameVolume = earlier.Guest.Plan.Pool == later.Guest.Plan.Pool && earlier.Guest.Plan.Volume == later.Guest.Plan.Volume;
                if (!sameVolume || earlier.Recovered is not var (_, last) || last >= earlier.History.Last) { continue; }
                Model.HistoryEntry lost = earlier.History[last + 1];
                if (lost.IsAcknowledged && lost.Replied < survived.Issued)
                {
                    Fail($"'{survived.What}' of {later.Name} survived, but '{lost.What}' of {earlier.Name}, which had been answered before it was asked for, did not");
                }
            }
        }
        ThrowFinding();
    }

    private void Start<T>(IoReactor reactor, Func<IoTask<T>> work, Action<T> done)
    {
        reactor.PostFromAnyThread(() => RunAsync().Detach());

        async IoTask<bool> RunAsync()
        {
            done(await work());
            return true;
        }
    }

    private void Pump(IoReactor reactor, Func<bool> until, string what)
    {
        long limit = World.TurnCount + MaxTurns;
        while (!until())
        {
            try { reactor.RunOnce(wait: true); }
            catch (SimDeadlockException) { Fail($"everything waits: for {what}"); }
            if (World.TurnCount > limit) { Fail($"after {MaxTurns} turns still waiting for {what}"); }
            ThrowFinding();
        }
        ThrowFinding();
    }

    private void ThrowFinding()
    {
        if (_finding is not null) { throw new FindingException(_finding); }
    }
}
