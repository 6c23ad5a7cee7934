using VhostFs.Bdev;
using VhostFs.Blobstore;
using VhostFs.Config;
using VhostFs.Fuse;
using VhostFs.Linux;
using VhostFs.Reactor;

namespace VhostFs.Hosting;

/// <summary>A mounted volume, and who uses it.</summary>
internal sealed record ServedVolume(Blobfs.Blobfs FileSystem, VolumeClaims Claims);

/// <summary>One pool on its bdevs, and the file systems of those volumes that are served. Lives on one reactor.</summary>
internal sealed class PoolHost
{
    // As long as a holder of a mount may need to find us.
    private static readonly TimeSpan s_orphanGrace = TimeSpan.FromSeconds(10);

    private readonly PoolConfig _config;
    private readonly BdevConfig _bottom;
    private readonly IBdev _bdev;
    private readonly Pool _pool;
    private readonly Dictionary<string, ServedVolume> _mounted = new(StringComparer.Ordinal);
    private readonly Dictionary<string, WaitQueue> _mounting = new(StringComparer.Ordinal);

    private PoolHost(PoolConfig config, BdevConfig bottom, IBdev bdev, Pool pool)
    {
        _config = config;
        _bottom = bottom;
        _bdev = bdev;
        _pool = pool;
    }

    public string Name => _config.Name;

    public IBdev Bdev => _bdev;

    public Pool Pool => _pool;

    /// <summary>The bdev is somebody else's, and stays when the pool is closed.</summary>
    private bool IsGuest { get; init; }

    /// <summary>A pool on a bdev that is there.</summary>
    /// <param name="format">Null: it holds one already.</param>
    public static async IoTask<OpenResult<PoolHost>> OpenOnAsync(string name, IBdev bdev, FormatOptions? format, PoolOptions options)
    {
        if (format is not null)
        {
            OpenResult<Pool> formatted = await Pool.FormatAsync(bdev, format);
            if (formatted.Value is null) { return formatted.Error!; }
            Errno closed = await formatted.Value.CloseAsync(); // opened once more below, as it is wanted
            if (closed != Errno.None) { return $"formatting {bdev.Name} failed: {closed}"; }
        }
        OpenResult<Pool> opened = await Pool.OpenAsync(bdev, On(bdev, options));
        if (opened.Value is not { } pool) { return opened.Error!; }
        ConfigLocation where = ConfigLocation.CommandLine("rpc");
        return new PoolHost(new PoolConfig { Where = where, Name = name, BdevName = bdev.Name }, new BdevConfig { Where = where, Name = bdev.Name }, bdev, pool) { IsGuest = true };
    }

    public static async IoTask<OpenResult<PoolHost>> OpenAsync(PoolConfig config, IReadOnlyList<BdevConfig> bdevs, PoolOptions options, Log log)
    {
        BdevConfig bottom = BdevFactory.Bottom(bdevs, config.BdevName);
        bool isMemory = bottom.Kind is BdevKind.Malloc or BdevKind.Null;
        bool exists = isMemory || File.Exists(bottom.FileName);
        if (!exists && !config.Create) { return $"{bottom.FileName} does not exist; to make it, say \"create\": true here and a \"size\" in bdev '{bottom.Name}'"; }
        if (!exists && bottom.SizeBytes == 0) { return $"{bottom.FileName} does not exist; to make it, give bdev '{bottom.Name}' a \"size\""; }
        using NewFile? file = exists ? null : new NewFile(bottom.FileName);
        OpenResult<IBdev> opened = await OpenBdevAsync(config, bdevs, file);
        if (opened.Value is not { } bdev) { return opened.Error!; }
        if (!isMemory && exists && bottom.SizeBytes > 0 && bottom.SizeBytes != bdev.SizeBytes)
        {
            log.Warn($"pool {config.Name}", $"{bottom.FileName} exists with {Sizes.Exact(bdev.SizeBytes)}; the size {Sizes.Exact(bottom.SizeBytes)} is for a new file and is ignored");
        }
        OpenResult<Pool> pool = isMemory || file is not null ? await FormatAsync(bdev, file, options, log) : await Pool.OpenAsync(bdev, options);
        if (pool.Value is null)
        {
            bdev.Dispose();
            return pool.Error!;
        }
        var host = new PoolHost(config, bottom, bdev, pool.Value);
        if (await host.CreateVolumesAsync(log) is { } error)
        {
            await host.CloseAsync();
            return error;
        }
        log.Info($"pool {config.Name}", $"open: {Sizes.Human(pool.Value.SizeBytes)}, {Sizes.Human(pool.Value.FreeBytes)} free, volumes {ConfigCheck.Names(pool.Value.VolumeNames)}");
        return host;
    }

    private static async IoTask<OpenResult<IBdev>> OpenBdevAsync(PoolConfig config, IReadOnlyList<BdevConfig> bdevs, NewFile? file)
    {
        TimeSpan pause = TimeSpan.FromMilliseconds(50);
        for (TimeSpan waited = TimeSpan.Zero; ; waited += pause)
        {
            try { return new OpenResult<IBdev>(BdevFactory.Open(bdevs, config.BdevName, file), null); }
            catch (BdevException e) when (e.Errno == Errno.EBUSY && waited < config.Patience) { }
            catch (BdevException e) { return e.Message; }
            await Reactor.Reactor.Current.DelayAsync((long)pause.TotalNanoseconds);
        }
    }

    /// <summary>The file system of a volume, mounted at its first use. An empty name means the only volume.</summary>
    public async IoTask<OpenResult<ServedVolume>> MountAsync(string name)
    {
        if (name.Length == 0)
        {
            string[] known = [.. _pool.VolumeNames];
            if (known.Length != 1) { return $"the pool has {(known.Length == 0 ? "no volume" : $"the volumes {ConfigCheck.Names(known)}")}; say which with --volume-name"; }
            name = known[0];
        }
        if (!Has(name)) { return $"no such volume '{name}'; the pool has {ConfigCheck.Names(_pool.VolumeNames)}"; }
        while (_mounting.TryGetValue(name, out WaitQueue? other)) { await other.WaitAsync(); }
        if (_mounted.TryGetValue(name, out ServedVolume? already)) { return already; }
        _mounting.Add(name, new WaitQueue());
        OpenResult<ServedVolume> mounted = await MountCoreAsync(name);
        _mounting.Remove(name, out WaitQueue? others);
        others!.CompleteAll(Errno.None);
        return mounted;
    }

    private async IoTask<OpenResult<ServedVolume>> MountCoreAsync(string name)
    {
        OpenResult<Volume> volume = await _pool.OpenVolumeAsync(name);
        if (volume.Value is null) { return volume.Error!; }
        FsResult<Blobfs.Blobfs> mounted = await Blobfs.Blobfs.MountAsync(volume.Value, new Blobfs.BlobfsOptions { OrphanGrace = s_orphanGrace });
        if (mounted.IsError) { return $"volume '{name}' cannot be mounted ({mounted.Errno}); stop this process and run 'vhostfs check'"; }
        var served = new ServedVolume(mounted.Value, new VolumeClaims(name));
        _mounted.Add(name, served);
        return served;
    }

    public bool Has(string volume) => _pool.VolumeNames.Contains(volume);

    /// <summary>Who uses a volume now, as messages name them.</summary>
    public IReadOnlyList<string> UsersOf(string volume) => _mounted.TryGetValue(volume, out ServedVolume? served) ? served.Claims.Holders : [];

    /// <summary>EBUSY: somebody uses it.</summary>
    public async IoTask<Errno> DeleteVolumeAsync(string name)
    {
        if (_mounted.TryGetValue(name, out ServedVolume? served))
        {
            if (served.Claims.Holders.Count > 0) { return Errno.EBUSY; }
            _mounted.Remove(name);
            await served.FileSystem.CloseAsync();
            await served.FileSystem.Volume.CloseAsync();
        }
        return await _pool.DeleteVolumeAsync(name);
    }

    /// <summary>Whether this path leads to the pool's file or device. From any thread.</summary>
    public bool IsOn(string path) => _bottom.FileName.Length > 0 && TryIdentify(_bottom.FileName, out FileStatus ours) && TryIdentify(path, out FileStatus theirs)
        && (ours.IsBlockDevice
            ? theirs.IsBlockDevice && (ours.RdevMajor, ours.RdevMinor) == (theirs.RdevMajor, theirs.RdevMinor)
            : (ours.DeviceMajor, ours.DeviceMinor, ours.Inode) == (theirs.DeviceMajor, theirs.DeviceMinor, theirs.Inode));

    private static bool TryIdentify(string path, out FileStatus status)
    {
        status = default;
        Errno opened = FileCalls.Open(path, FileCalls.O_PATH, 0, out SafeFd file);
        using (file) { return opened == Errno.None && FileCalls.Status(file, out status) == Errno.None; }
    }

    /// <summary>Makes everything durable and lets go of the file. No session uses a volume any more.</summary>
    public async IoTask<Errno> CloseAsync()
    {
        Errno result = Errno.None;
        foreach (ServedVolume served in _mounted.Values)
        {
            Errno closed = await served.FileSystem.CloseAsync();
            if (result == Errno.None) { result = closed; }
        }
        Errno pool = await _pool.CloseAsync();
        if (!IsGuest) { _bdev.Dispose(); }
        return result == Errno.None ? pool : result;
    }

    /// <summary>What the log of a pool on memory of this process keeps need not be kept any longer than that.</summary>
    private static PoolOptions On(IBdev bdev, PoolOptions options) => bdev.TryGetMemory(0, bdev.BlockSize, out _) ? options with { LogMemory = new ProcessLogMemory() } : options;

    private static async IoTask<OpenResult<Pool>> FormatAsync(IBdev bdev, NewFile? file, PoolOptions options, Log log)
    {
        OpenResult<Pool> formatted = await Pool.FormatAsync(bdev, new FormatOptions());
        if (formatted.Value is null) { return formatted; }
        // Closed and opened once more: formatting knows nothing of how we want it open.
        Errno closed = await formatted.Value.CloseAsync();
        if (closed != Errno.None) { return $"formatting {bdev.Name} failed: {closed}"; }
        if (file?.Publish() is { } error) { return error; }
        log.Info($"pool {bdev.Name}", $"formatted {Sizes.Human(bdev.SizeBytes)}");
        return await Pool.OpenAsync(bdev, On(bdev, options));
    }

    private async IoTask<string?> CreateVolumesAsync(Log log)
    {
        string[] known = [.. _pool.VolumeNames];
        if (_config.OnlyInEmptyPool && known.Length > 0) { return null; }
        foreach (string name in _config.Volumes.Except(known))
        {
            OpenResult<Volume> created = await _pool.CreateVolumeAsync(name, new VolumeOptions());
            if (created.Value is null) { return created.Error; }
            log.Info($"pool {Name}", $"made volume '{name}'");
        }
        return null;
    }
}
