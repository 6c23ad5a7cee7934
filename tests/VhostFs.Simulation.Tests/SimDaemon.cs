using VhostFs.Blobfs;
using VhostFs.Blobstore;
using VhostFs.Fuse;
using VhostFs.Linux;
using VhostFs.Reactor;
using VhostFs.Simulation.Tests.Guest;
using VhostFs.Simulation.Tests.World;
using VhostFs.VhostUser;

namespace VhostFs.Simulation.Tests;

/// <summary>One process: pools, volumes, file systems and exports on one reactor, as <c>vhostfs serve</c> puts them together.</summary>
internal sealed class SimDaemon(Simulation simulation, string directory)
{
    private readonly List<Pool> _pools = [];
    private readonly List<VhostFs.Blobfs.Blobfs> _fileSystems = [];
    private readonly List<VhostUserServer> _servers = [];
    private readonly List<FuseServer> _fuse = [];
    private readonly List<BlobfsSession> _sessions = [];

    public static string Socket(string directory, GuestPlan guest) => Path.Combine(directory, guest.Name);

    /// <summary>Null, or which pool does not open and why.</summary>
    public async IoTask<(PoolState Pool, string Error)?> StartAsync()
    {
        var nodes = new NodeCache(simulation.Plan.NodeCacheBytes);
        for (int p = 0; p < simulation.Pools.Count; p++)
        {
            PoolState state = simulation.Pools[p];
            if (state.IsLost) { continue; }
            OpenResult<Pool> pool = await Pool.OpenAsync(state.Bdev!, new PoolOptions { NodeCache = nodes, Report = line => simulation.Report(line) });
            if (pool.Value is null) { return (state, pool.Error!); }
            _pools.Add(pool.Value);
            for (int v = 0; v < state.Plan.Volumes.Count; v++)
            {
                OpenResult<Volume> volume = await pool.Value.OpenVolumeAsync(state.Plan.Volumes[v].Name);
                if (volume.Value is null) { return (state, volume.Error!); }
                FsResult<VhostFs.Blobfs.Blobfs> mounted = await VhostFs.Blobfs.Blobfs.MountAsync(volume.Value, new BlobfsOptions { Clock = Now });
                if (mounted.IsError) { return (state, $"mounting {volume.Value.Name}: {mounted.Errno}"); }
                _fileSystems.Add(mounted.Value);
                foreach (SimGuest guest in simulation.Guests.Where(guest => guest.Plan.Pool == p && guest.Plan.Volume == v)) { Export(guest.Plan, mounted.Value); }
            }
        }
        return null;
    }

    /// <summary>Ends all connections.</summary>
    public async IoTask<bool> StopServersAsync()
    {
        foreach (VhostUserServer server in _servers) { await server.StopAsync(); }
        return true;
    }

    public async IoTask<Errno> CloseAsync()
    {
        Errno result = Errno.None;
        foreach (VhostFs.Blobfs.Blobfs fileSystem in _fileSystems)
        {
            Errno closed = await fileSystem.CloseAsync();
            if (result == Errno.None) { result = closed; }
        }
        foreach (Pool pool in _pools)
        {
            Errno closed = await pool.CloseAsync();
            if (result == Errno.None) { result = closed; }
        }
        return result;
    }

    /// <summary>What is left when all connections have ended; null: nothing.</summary>
    public string? FindLeaks()
    {
        if (_fuse.Sum(server => server.InFlight) is > 0 and var inFlight) { return $"{inFlight} requests are in flight after the end of all connections"; }
        if (_sessions.Sum(session => session.ReferencedInodes) is > 0 and var inodes) { return $"{inodes} inodes are referred to after the end of all sessions"; }
        return _fuse.FirstOrDefault(server => server.Fault is not null)?.Fault is { } bug ? $"a bug ended a session: {bug}" : null;
    }

    private void Export(GuestPlan guest, VhostFs.Blobfs.Blobfs fileSystem)
    {
        var options = new VhostUserServerOptions { Name = guest.Name, SocketPath = Socket(directory, guest) };
        var server = new VhostUserServer(options, _ => NewDevice(fileSystem), (level, line) => simulation.Log(level, line));
        Errno started = server.Start();
        if (started != Errno.None) { throw new InvalidOperationException($"cannot listen: {started}"); }
        _servers.Add(server);
    }

    private VhostUserFsDevice NewDevice(VhostFs.Blobfs.Blobfs fileSystem)
    {
        BlobfsSession session = fileSystem.OpenSession();
        _sessions.Add(session);
        IFileSystem served = SabotagedFileSystem.Wrap(session, simulation.Plan.Sabotage, simulation.World);
        var server = new FuseServer(served, new FuseServerOptions());
        _fuse.Add(server);
        return new VhostUserFsDevice(server);
    }

    private FsTime Now()
    {
        const long StartSeconds = 1_700_000_000;
        (long seconds, long nanoseconds) = Math.DivRem(simulation.World.NowNs, 1_000_000_000);
        return new FsTime(StartSeconds + seconds, (uint)nanoseconds);
    }
}
