using VhostFs.Hosting;
using VhostFs.Rpc;

namespace VhostFs.Block;

/// <summary>Bdevs, pools and the controllers that show them to VMs, made and deleted over the control socket: what SPDK's vhost target does, and file systems.</summary>
internal sealed class BlockTarget
{
    private readonly ControlTurn _turn = new();
    private readonly Notifications _notifications = new();
    private readonly BdevRegistry _bdevs;
    private readonly BdevMethods _bdevMethods;
    private readonly StatisticsMethods _statisticsMethods;
    private readonly CryptoMethods _cryptoMethods;
    private readonly SplitMethods _splitMethods;
    private readonly RaidMethods _raidMethods;
    private readonly LvolMethods _lvolMethods;
    private readonly VhostControllers _controllers;
    private readonly VhostMethods _vhostMethods;
    private readonly ScsiMethods _scsiMethods;
    private readonly FsMethods _fsMethods;
    private readonly FrameworkMethods _frameworkMethods;
    private readonly LogMethods _logMethods;
    private readonly ReactorMethods _reactorMethods;

    /// <param name="reactors">Bdevs are dealt to them in turn.</param>
    /// <param name="socketDirectory">Where controllers' sockets appear under their names.</param>
    /// <param name="stop">A client asks this process to end, as the signal of this name would.</param>
    public BlockTarget(IReadOnlyList<Reactor.Reactor> reactors, NodeCaches nodeCaches, string socketDirectory, Log log, Action<string> stop)
    {
        _bdevs = new BdevRegistry(reactors, _notifications);
        _bdevMethods = new BdevMethods(_bdevs, _turn);
        _statisticsMethods = new StatisticsMethods(_bdevs, _turn);
        _cryptoMethods = new CryptoMethods(_bdevs, _turn);
        _splitMethods = new SplitMethods(_bdevs, _turn);
        _raidMethods = new RaidMethods(_bdevs, _turn, log);
        _bdevs.Examiners.Add(_raidMethods.ExamineAsync); // first: what is on an array is not on its bases
        _bdevs.Examiners.Add(new GptPartitions(_bdevs, log).ExamineAsync);
        _lvolMethods = new LvolMethods(_bdevs, _turn, nodeCaches, log);
        _controllers = new VhostControllers(reactors, _notifications, socketDirectory);
        _vhostMethods = new VhostMethods(_bdevs, _controllers, _turn, log);
        _scsiMethods = new ScsiMethods(_bdevs, _controllers, _turn, log);
        _fsMethods = new FsMethods(_bdevs, _controllers, _turn, nodeCaches, log);
        Subsystem[] subsystems =
        [
            new("accel", [], _cryptoMethods.SavedCalls),
            new("bdev", ["accel"], _bdevMethods.SavedCalls),
            new("vhost_blk", ["bdev"], _vhostMethods.SavedCalls),
            new("vhost_scsi", ["bdev"], _scsiMethods.SavedCalls),
            new("vhost_fs", ["bdev"], _fsMethods.SavedCalls),
        ];
        _frameworkMethods = new FrameworkMethods(_turn, _notifications, subsystems, stop);
        _logMethods = new LogMethods(log);
        _reactorMethods = new ReactorMethods(reactors);
    }

    public IEnumerable<KeyValuePair<string, RpcMethod>> Methods =>
        _bdevMethods.Methods.Concat(_statisticsMethods.Methods).Concat(_cryptoMethods.Methods).Concat(_splitMethods.Methods).Concat(_raidMethods.Methods).Concat(_lvolMethods.Methods).Concat(_vhostMethods.Methods).Concat(_scsiMethods.Methods).Concat(_fsMethods.Methods).Concat(_frameworkMethods.Methods).Concat(_logMethods.Methods).Concat(_reactorMethods.Methods);

    /// <summary>A pool's bdevs are seen by clients, as used by the pool. Before the first call.</summary>
    public void AddPool(PoolHost pool, Reactor.Reactor reactor)
    {
        _bdevs.AddBorrowed(pool.Bdev, reactor, $"pool {pool.Name}");
        _fsMethods.AddPool(pool, reactor);
    }

    /// <summary>Requests finish, sockets and bdevs go away; calls that come later are refused.</summary>
    public async Task StopAsync()
    {
        await _turn.EndAsync();
        await _controllers.StopAsync();
        await _fsMethods.StopAsync();
        await _bdevs.DisposeAsync();
        _cryptoMethods.Clear();
    }
}
