using VhostFs.Bdev;
using VhostFs.Blobfs;
using VhostFs.Blobstore;
using VhostFs.Blobstore.Check;
using VhostFs.Fuse;
using VhostFs.Linux;
using VhostFs.Reactor;
using IoReactor = VhostFs.Reactor.Reactor;

namespace VhostFs.Image.Tests.Images;

/// <summary>What the checker and the engine make of a disk.</summary>
internal sealed class ImageRun
{
    public CheckReport Check { get; private set; } = null!;

    /// <summary>Null: the pool opened.</summary>
    public string? PoolError { get; private set; }

    /// <summary>By volume: why it did not open, or null.</summary>
    public Dictionary<string, string?> VolumeErrors { get; } = [];

    /// <summary>By volume: what a guest would read.</summary>
    public Dictionary<string, Dictionary<string, string>> Contents { get; } = [];

    /// <summary>Lines for people that the engine wrote.</summary>
    public List<string> Reports { get; } = [];

    public Errno Closed { get; private set; }

    /// <summary>The checker's view after the engine has closed the pool.</summary>
    public CheckReport? CheckAfter { get; private set; }

    public static ImageRun Of(IBdev bdev, CheckOptions options)
    {
        var run = new ImageRun();
        using var reactor = new IoReactor(new SimulatedDriver(), "image");
        reactor.RunUntilComplete(() => run.RunAsync(bdev, options));
        return run;
    }

    private async IoTask<int> RunAsync(IBdev bdev, CheckOptions options)
    {
        Check = await PoolChecker.CheckAsync(bdev, options);
        OpenResult<Pool> opened = await Pool.OpenAsync(bdev, new PoolOptions { Report = Reports.Add });
        PoolError = opened.Error;
        if (opened.Value is not { } pool) { return 0; }
        using var walk = new VolumeWalk();
        foreach (string name in new[] { "a", "b" })
        {
            OpenResult<Volume> volume = await pool.OpenVolumeAsync(name);
            VolumeErrors[name] = volume.Error;
            if (volume.Value is null) { continue; }
            FsResult<VhostFs.Blobfs.Blobfs> fs = await VhostFs.Blobfs.Blobfs.MountAsync(volume.Value, new BlobfsOptions());
            if (fs.IsError) { VolumeErrors[name] = $"mounting: {fs.Errno}"; continue; }
            BlobfsSession session = fs.Value.OpenSession(isReadOnly: true);
            await walk.RunAsync(session);
            Contents[name] = new Dictionary<string, string>(walk.Found);
            session.EndSession();
            await fs.Value.CloseAsync();
        }
        Closed = await pool.CloseAsync();
        CheckAfter = await PoolChecker.CheckAsync(bdev, options);
        return 0;
    }
}
