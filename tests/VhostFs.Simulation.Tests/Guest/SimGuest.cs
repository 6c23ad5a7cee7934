using VhostFs.Fuse;
using VhostFs.Linux;
using VhostFs.Reactor;
using VhostFs.Simulation.Tests.Model;
using VhostFs.Simulation.Tests.World;

namespace VhostFs.Simulation.Tests.Guest;

/// <summary>One virtual machine: keeps a connection to its export, and now and then does what virtual machines do to their devices.</summary>
internal sealed class SimGuest(SimWorld world, SimTrace trace, SimRandom random, GuestPlan plan, Action<string> fail)
{
    /// <summary>Longer than anything that a disk does, however slow it is: who waits longer waits for ever.</summary>
    private const long PatienceNs = 600_000_000_000;

    private const long ReconnectNs = 3_000_000;
    private const long FirstRetryNs = 100_000;
    private const int MaxResetsPerConnection = 3;

    private readonly List<IoCompletion<bool>> _waiting = [];
    private GuestConnection? _connection;
    private string _path = "";
    private int _life;
    private bool _isReady;
    private bool _isLeaving;
    private int _resets;

    public GuestPlan Plan => plan;

    /// <summary>The connection's own task has ended.</summary>
    public bool IsGone { get; private set; } = true;

    /// <summary>What goes wrong is over: only ordinary requests from now on.</summary>
    public bool IsCalm { get; set; }

    /// <summary>Switches the machine on: it connects, and stays until <see cref="Leave"/>.</summary>
    public void Start(string path)
    {
        _path = path;
        _life++;
        _isLeaving = false;
        IsGone = false;
        IsCalm = true;
        RunAsync(_life).Detach();
    }

    /// <summary>The session is over when everybody has got an answer.</summary>
    public void Leave()
    {
        _isLeaving = true;
        Disconnect();
    }

    /// <summary>The daemon has died, or the machine: whatever is under way is lost.</summary>
    public void Disconnect()
    {
        _isReady = false;
        _connection?.Dispose();
    }

    /// <summary>Completes when requests can be sent; false when the guest is leaving.</summary>
    public IoTask<bool> ReadyAsync()
    {
        if (_isReady || _isLeaving) { return new IoTask<bool>(_isReady); }
        var ready = new IoCompletion<bool>();
        _waiting.Add(ready);
        return ready.Task;
    }

    public async IoTask<FuseReply> CallAsync(int share, FuseOpcode opcode, ulong node, byte[] arguments, byte[]? payload, int replyBytes)
    {
        if (!_isReady || _connection is not { } connection) { return FuseReply.Lost; }
        bool answered = false;
        world.Schedule(PatienceNs, () =>
        {
            if (!answered) { fail($"guest {plan.Name}: {opcode} has not been answered for {PatienceNs / 1_000_000_000} s"); }
        });
        FuseReply reply = await connection.CallAsync(share, opcode, node, arguments, payload, replyBytes);
        answered = true;
        trace.Add(world.NowNs, "reply", (ulong)reply.Errno, ModelInode.HashOf(reply.Body, reply.IsLost ? 1u : 0u), $"{plan.Name} {opcode} {reply.Outcome} {reply.Body.Length}");
        if (ChaosIsDue()) { ChaosAsync(connection).Detach(); }
        return reply;
    }

    private bool ChaosIsDue() => !IsCalm && _isReady && plan.ChaosOneIn > 0 && random.OneIn(plan.ChaosOneIn);

    private async IoTask<bool> RunAsync(int life)
    {
        long retryNs = FirstRetryNs;
        while (!_isLeaving && life == _life)
        {
            if (FrontEnd.TryConnect(world, _path) is { } frontEnd)
            {
                var connection = new GuestConnection(world, frontEnd, random, plan.Features, plan.QueueCount, plan.WorkerCount + 1, Complain, Note);
                _connection = connection;
                _resets = 0;
                trace.Add(world.NowNs, "guest", 1, 0, $"{plan.Name} connects");
                if (await connection.StartAsync() && !_isLeaving && life == _life)
                {
                    retryNs = FirstRetryNs;
                    SetReady();
                    while (!connection.IsClosed) { await world.DelayAsync(ReconnectNs); }
                }
                connection.Dispose();
            }
            if (_isLeaving || life != _life) { break; }
            await world.DelayAsync(random.Below(retryNs));
            retryNs = Math.Min(retryNs * 2, 1_000_000_000);
        }
        if (life == _life)
        {
            IsGone = true;
            WakeAll(false);
        }
        return true;
    }

    private void SetReady()
    {
        _isReady = true;
        trace.Add(world.NowNs, "guest", 2, 0, $"{plan.Name} is ready");
        WakeAll(true);
    }

    private void WakeAll(bool ready)
    {
        IoCompletion<bool>[] waiting = [.. _waiting];
        _waiting.Clear();
        foreach (IoCompletion<bool> one in waiting) { one.Complete(ready); }
    }

    private async IoTask<bool> ChaosAsync(GuestConnection connection)
    {
        if (connection.IsBusy) { return true; }
        connection.IsBusy = true;
        int spare = plan.WorkerCount;
        int kind = random.Below(plan.IsRude ? 10 : 5);
        trace.Add(world.NowNs, "chaos", (ulong)kind, 0, $"{plan.Name}: {kind switch { 0 => "queue restart", 1 => "device reset", 2 => "disconnect", 3 => "memory hotplug", 4 => "unknown request", 5 or 6 or 7 => "malformed chain", 8 => "junk message", _ => "broken ring" }}");
        bool survives = true;
        switch (kind)
        {
            case 0: survives = await connection.RestartQueueAsync(); break;
            case 1: survives = await ResetAsync(connection); break;
            case 2: survives = false; break;
            case 3: survives = await connection.ReplugMemoryAsync(); break;
            case 4: await connection.SendNonsenseAsync(spare); break;
            case < 8: connection.SendGarbage(spare); break;
            case 8:
                connection.SendJunkMessage();
                await world.DelayAsync(random.Below(3_000_000L));
                survives = false; // the answers, if any, cannot be told apart from others
                break;
            default:
                connection.BreakQueue();
                await world.DelayAsync(random.Below(3_000_000L));
                survives = random.OneIn(2) && await ResetAsync(connection);
                break;
        }
        connection.IsBusy = false;
        if (survives || connection.IsClosed) { return true; }
        if (ReferenceEquals(connection, _connection)) { _isReady = false; }
        connection.Dispose();
        return true;
    }

    private async IoTask<bool> ResetAsync(GuestConnection connection)
    {
        if (_resets++ == MaxResetsPerConnection) { return false; }
        _isReady = false;
        if (!await connection.ResetAsync() || connection.IsClosed) { return false; }
        if (!_isLeaving) { SetReady(); }
        return true;
    }

    private void Note(FuseOpcode opcode, ulong unique, string what) => trace.Add(world.NowNs, "request", (ulong)opcode, unique, $"{plan.Name} {(what.Length > 0 ? what : opcode.ToString())} #{unique}");

    private void Complain(string problem) => fail($"guest {plan.Name}: {problem}");
}
