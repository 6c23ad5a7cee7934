using VhostFs.Linux;
using VhostFs.Reactor;
using VhostFs.Simulation.Tests.Guest;
using VhostFs.Simulation.Tests.Model;
using VhostFs.Simulation.Tests.World;

namespace VhostFs.Simulation.Tests;

/// <summary>One program in a guest: works in a directory of its own, one operation after another, and knows what it was promised.</summary>
internal sealed class Worker
{
    private const int MaxPossible = 8;
    private const int MaxLooks = 30;
    private readonly Simulation _simulation;
    private readonly SimWorld _world;
    private readonly SimRandom _random;
    private readonly OperationChooser _chooser;
    private readonly GuestFiles _files;
    private LifeEnd _end = LifeEnd.Clean;

    public Worker(Simulation simulation, SimGuest guest, int share, SimRandom random)
    {
        _simulation = simulation;
        _world = simulation.World;
        _random = random;
        Guest = guest;
        Name = $"{guest.Plan.Name}w{share}";
        _chooser = new OperationChooser(random, simulation.Plan.LargestFileBytes);
        _files = new GuestFiles(guest, share, Name, random);
    }

    public string Name { get; }

    public SimGuest Guest { get; }

    public WorkerHistory History { get; } = new(ModelState.Absent);

    /// <summary>Its directory has been compared with what it may be, or cannot be read because of what was done to the disk.</summary>
    public bool HasVerified { get; private set; }

    /// <summary>The states that the last verification found to be the recovered one: first and last index in the history before it; null when it could not look.</summary>
    public (int First, int Last)? Recovered { get; private set; }

    public ModelState? Found { get; private set; }

    public bool IsDone { get; private set; } = true;

    public void Start(LifeEnd previousEnd)
    {
        HasVerified = false;
        Recovered = null;
        Found = null;
        IsDone = false;
        RunAsync(previousEnd).Detach();
    }

    private PoolState Pool => _simulation.Pools[Guest.Plan.Pool];

    private async IoTask<bool> RunAsync(LifeEnd previousEnd)
    {
        // As long as nobody could look, what the earlier ends may have taken counts, too.
        _end = previousEnd < _end ? previousEnd : _end;
        bool works = await VerifyAsync(_end);
        HasVerified = true;
        while (works && !_simulation.MayWork && !_simulation.IsOver) { await _world.DelayAsync(100_000); }
        if (Found is { } found)
        {
            History.Reset(found);
            _end = LifeEnd.Clean;
        }
        while (works && _simulation.TakeOperation())
        {
            await _world.DelayAsync(_random.Below(_simulation.Plan.MaxThinkNs));
            if (_simulation.IsOver || !await Guest.ReadyAsync()) { break; }
            works = await StepAsync();
        }
        IsDone = true;
        return true;
    }

    private async IoTask<bool> StepAsync()
    {
        if (History.Current.Count > 1) { return await LookAsync(); }
        ModelState state = History.Current[0];
        if (!state.Exists) { return await DoAsync(new FileOperation("make the directory", files => files.MakeRootAsync(0x1ED), s => new Prediction(s.Exists ? Errno.EEXIST : Errno.None, ModelState.Empty, []), IsChange: true)); }
        return await DoAsync(_chooser.Next(state));
    }

    /// <summary>False: this worker can do no more in this life.</summary>
    private async IoTask<bool> DoAsync(FileOperation operation)
    {
        long issued = _simulation.NextMoment();
        FileResult result = await operation.Run(_files);
        long replied = _simulation.NextMoment();
        _simulation.Trace.Add(_world.NowNs, "result", (ulong)result.Errno, (ulong)result.Data.Length, $"{Name} {operation.What}: {result.Outcome}");
        IReadOnlyList<ModelState> before = History.Current;
        Prediction[] predictions = [.. before.Select(operation.Predict)];
        if (!result.IsLost && predictions.Any(prediction => prediction.Allows(result)))
        {
            ModelState[] after = [.. predictions.Where(prediction => prediction.Allows(result)).Select(prediction => prediction.Next)];
            // Only what changed something is promised to last.
            bool changed = result.Errno == Errno.None && after.Any(state => before.All(other => other.Hash != state.Hash));
            if (changed) { History.Add(after, issued, replied, isAcknowledged: true, operation.What); }
            else { History.Narrow(after); }
            if (operation.IsSync && result.Errno == Errno.None) { _simulation.Synced(Pool, Guest.Plan.Volume, issued); }
            return true;
        }
        if (!result.IsLost && result.Errno == Errno.ENOSPC && operation.IsChange && _simulation.IsNearlyFull(Pool)) { return true; } // not done, and honestly so
        bool excused = result.IsLost || (result.Errno == Errno.EIO && Pool.MayFail);
        if (!excused)
        {
            Prediction expected = predictions[0];
            _simulation.Fail($"{Name}: {operation.What}: the answer is {result.Errno} with {result.Data.Length} bytes{Difference(result, expected)}; the model says {expected.Errno} with {expected.Data.Length} bytes");
            return false;
        }
        if (!operation.IsChange || !_files.WasSent) { return true; }
        // Done, or not done: both are possible until somebody looks.
        ModelState[] possible = [.. before, .. predictions.Where(prediction => prediction.Errno == Errno.None).Select(prediction => prediction.Next)];
        History.Add(possible, issued, result.IsLost ? long.MaxValue : replied, isAcknowledged: false, operation.What);
        return History.Current.Count <= MaxPossible;
    }

    /// <summary>Reads everything, to know which of the possible states it is.</summary>
    private async IoTask<bool> LookAsync()
    {
        (FileResult result, ModelState found) = await _files.ReadAllAsync();
        if (result.IsLost) { return true; }
        if (!result.IsDone) { return CannotRead(result, "looking"); }
        ModelState[] left = [.. History.Current.Where(state => state.Hash == found.Hash)];
        if (left.Length == 0)
        {
            _simulation.Fail($"{Name}: after '{History[History.Last].What}' without an answer the directory is none of the {History.Current.Count} possible; from the first it differs in: {found.Describe(History.Current[0])}");
            return false;
        }
        History.Narrow(left);
        return true;
    }

    /// <summary>Compares the directory with what may be left of it after the last life. True: the worker can go on.</summary>
    private async IoTask<bool> VerifyAsync(LifeEnd end)
    {
        FileResult result;
        ModelState found;
        int looks = 0;
        do
        {
            if (_simulation.IsOver || !await Guest.ReadyAsync()) { return false; }
            (result, found) = await _files.ReadAllAsync();
        }
        while (result.IsLost && looks++ < MaxLooks);
        if (result.IsLost || _simulation.IsOver) { return false; }
        if (!result.IsDone)
        {
            Degrade();
            return CannotRead(result, "verifying");
        }
        Found = found;
        if (Pool.Disk.LieCount > 0)
        {
            if (!History.EverHad(found)) { _simulation.Fail($"{Name}: the disk lied, but no error tells so, and the directory is as it never was; from its last state it differs in: {found.Describe(History.Current[0])}"); }
            return true;
        }
        int least = end switch
        {
            LifeEnd.Clean => History.Last,
            LifeEnd.ProcessDeath => History.Acknowledged(),
            _ => History.Durable,
        };
        List<int> matches = History.Matches(found, least);
        if (matches.Count > 0)
        {
            Recovered = (matches[0], matches[^1]);
            return true;
        }
        List<int> older = History.Matches(found, 0);
        string what = older.Count > 0
            ? $"it is as after change {older[^1]} ('{History[older[^1]].What}'), but change {least} ('{History[least].What}') had been promised"
            : $"it is as it never was; from what was promised it differs in: {found.Describe(History[least].Possible[0])}";
        _simulation.Fail($"{Name}: after {end}: {what} (the newest change was {History.Last})");
        return false;
    }

    /// <summary>A part cannot be read: what it is will be known, if ever, after the next start.</summary>
    private void Degrade() => Found = null;

    private bool CannotRead(FileResult result, string what)
    {
        bool excused = result.Errno == Errno.EIO && Pool.MayFail;
        if (!excused) { _simulation.Fail($"{Name}: {what} at the directory: {result.Errno}"); }
        return false;
    }

    private static string Difference(FileResult result, Prediction expected)
    {
        if (result.Data.Length == 0 && expected.Data.Length == 0) { return ""; }
        int same = result.Data.AsSpan().CommonPrefixLength(expected.Data);
        return result.Data.Length < 200 && expected.Data.Length < 200
            ? $" ('{System.Text.Encoding.UTF8.GetString(result.Data)}' for '{System.Text.Encoding.UTF8.GetString(expected.Data)}')"
            : $", first difference at byte {same}";
    }
}
