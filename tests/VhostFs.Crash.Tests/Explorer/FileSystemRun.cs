using VhostFs.Bdev;
using VhostFs.Blobfs;
using VhostFs.Blobstore;
using VhostFs.Fuse;
using VhostFs.Linux;
using VhostFs.Reactor;
using IoReactor = VhostFs.Reactor.Reactor;

namespace VhostFs.Crash.Tests.Explorer;

/// <summary>Work for one mounted file system; returns what is wrong, or null.</summary>
public delegate IoTask<string?> FileSystemWork(FileSystemClient client, CrashTrace trace);

/// <summary>Mounts the file system on a disk, lets somebody work on it, and records.</summary>
public static class FileSystemRun
{
    private const int LogBytes = 156 * 4096;

    /// <summary>An empty file system, and what <paramref name="prepare"/> puts into it.</summary>
    public static DiskImage Format(long diskBytes, FileSystemWork prepare)
    {
        var image = new DiskImage(new byte[diskBytes]);
        using (var bdev = new ImageBdev(image))
        using (var reactor = new IoReactor(new SimulatedDriver(), "format"))
        {
            Check(reactor.RunUntilComplete(() => FormatAsync(bdev)), "formatting");
        }
        return Run(image, new Random(0), new Slowness(), null, new NodeCache(16 << 20), prepare).Disk;
    }

    /// <summary>Mounts, works, and ends; the recording ends before the unmount.</summary>
    public static (CrashTrace Trace, DiskImage Disk) Run(DiskImage disk, Random random, Slowness slowness, PlayedLogMemory? logMemory, NodeCache nodes, FileSystemWork work)
    {
        using var image = new ImageBdev(disk.Fork());
        var bdev = new RecordingBdev(new JitterBdev(image, random, slowness));
        var trace = new CrashTrace(bdev, disk) { LogMemory = logMemory };
        using var reactor = new IoReactor(new SimulatedDriver(), "workload");
        Check(reactor.RunUntilComplete(() => RunAsync(bdev, trace, nodes, work)), "the workload");
        return (trace, image.Detach());
    }

    private static void Check(string? problem, string what)
    {
        if (problem is not null) { throw new InvalidOperationException($"{what}: {problem}"); }
    }

    private static async IoTask<string?> FormatAsync(IBdev bdev)
    {
        var random = new Random(1);
        byte[] bytes = new byte[16];
        random.NextBytes(bytes);
        OpenResult<Pool> pool = await Pool.FormatAsync(bdev, new FormatOptions { ClusterBytes = 128 * 1024, Uuid = new Guid(bytes) });
        if (pool.Value is null) { return pool.Error; }
        OpenResult<Volume> volume = await pool.Value.CreateVolumeAsync(FileSystemReader.VolumeName, new VolumeOptions { LogBytes = LogBytes, Identity = new VolumeIdentity(new Guid(bytes), 1, 2, CreatedSeconds: 0) });
        if (volume.Value is null) { return volume.Error; }
        Errno closed = await pool.Value.CloseAsync();
        return closed == Errno.None ? null : $"closing: {closed}";
    }

    private static async IoTask<string?> RunAsync(RecordingBdev bdev, CrashTrace trace, NodeCache nodes, FileSystemWork work)
    {
        OpenResult<Pool> pool = await Pool.OpenAsync(bdev, new PoolOptions { NodeCache = nodes, LogMemory = trace.LogMemory });
        if (pool.Value is null) { return pool.Error; }
        OpenResult<Volume> volume = await pool.Value.OpenVolumeAsync(FileSystemReader.VolumeName);
        if (volume.Value is null) { return volume.Error; }
        long clockNs = 1_000_000_000;
        FsTime Now()
        {
            clockNs += 1_000_001;
            return new FsTime(clockNs / 1_000_000_000, (uint)(clockNs % 1_000_000_000));
        }

        FsResult<VhostFs.Blobfs.Blobfs> mounted = await VhostFs.Blobfs.Blobfs.MountAsync(volume.Value, new BlobfsOptions { Clock = Now });
        if (mounted.IsError) { return $"mounting: {mounted.Errno}"; }
        BlobfsSession session = mounted.Value.OpenSession();
        using var calls = new FileSystemCalls(session);
        var model = new FileSystemModel(1);
        if (await FileSystemReader.ReadAsync(calls, model) is { } unreadable) { return unreadable; }
        var client = new FileSystemClient(calls, model, trace, trace.Begin(FileSystemReader.VolumeName, model.Hash()));
        if (await work(client, trace) is { } problem) { return problem; }
        trace.End();
        bdev.IsRecording = false;
        string? difference = await client.CompareAsync();
        session.EndSession();
        Errno closed = await mounted.Value.CloseAsync();
        if (closed == Errno.None) { closed = await pool.Value.CloseAsync(); }
        return difference ?? (closed == Errno.None ? null : $"closing: {closed}");
    }
}
