using VhostFs.Bdev;
using VhostFs.Blobfs;
using VhostFs.Blobstore;
using VhostFs.Blobstore.Check;
using VhostFs.Campaigns;
using VhostFs.Fuse;
using VhostFs.Linux;
using VhostFs.Reactor;
using IoReactor = VhostFs.Reactor.Reactor;

namespace VhostFs.Fuzz.Tests.Fuse;

/// <summary>The real FUSE server on the real blobfs on a disk in memory and a virtual clock.</summary>
internal sealed class FuseWorld : IDisposable
{
    public const int MaxInFlight = 6;
    private const long DiskBytes = 16 << 20;
    private const int MaxTurns = 2_000_000;
    private static readonly Lazy<byte[]> s_disk = new(Format);

    private readonly MallocBdev _disk = new("fuzz", DiskBytes);
    private readonly IoReactor _reactor = new(new SimulatedDriver(), "fuzz");
    private readonly FuzzFuseRequest[] _requests = new FuzzFuseRequest[MaxInFlight];
    private readonly List<string> _reports = [];
    private readonly int _atOnce;
    private Pool _pool = null!;
    private Volume _volume = null!;
    private VhostFs.Blobfs.Blobfs _fs = null!;
    private BlobfsSession _session = null!;
    private long _clockNs = 1_000_000_000_000;

    /// <param name="jitter">Delays of the disk; null: it answers at once and requests are served one after another.</param>
    public FuseWorld(FuseServerOptions options, FuzzRandom? jitter, Func<IFileSystem, IFileSystem> wrap)
    {
        Load(_disk, s_disk.Value);
        _atOnce = jitter is null ? 1 : MaxInFlight;
        IBdev bdev = jitter is null ? _disk : new DelayBdev(_disk, _reactor) { Jitter = _ => jitter.Next(100_000) };
        for (int i = 0; i < _atOnce; i++) { _requests[i] = new FuzzFuseRequest(mayWait: _atOnce > 1); }
        _reactor.RunUntilComplete(() => OpenAsync(bdev));
        Server = new FuseServer(wrap(_session), options);
    }

    public FuseServer Server { get; }

    /// <summary>Called with each request that has been answered and checked.</summary>
    public Action<FuzzFuseRequest>? Answered { get; set; }

    /// <summary>Hands a request in; first waits until there is room for one more.</summary>
    public void Send(ReadOnlySpan<byte> bytes, FuzzInput shape)
    {
        FuzzFuseRequest request = TakeFree();
        request.IsFree = false;
        request.Fill(bytes, shape);
        _reactor.RunUntilComplete(() =>
        {
            Server.Handle(request);
            return new IoTask<int>(0);
        });
        Collect();
        for (int turn = 0; _atOnce == 1 && !request.IsFree; turn++) { Turn(turn); }
    }

    /// <summary>Ends the session and the volume; everything must have been given back, and the disk must be in order.</summary>
    public void Finish()
    {
        for (int turn = 0; _requests.Any(r => r is { IsFree: false }); turn++) { Turn(turn); }
        Expect(Server.InFlight == 0, $"{Server.InFlight} requests are in flight in the server");
        _reactor.RunUntilComplete(() =>
        {
            Server.Reset();
            return new IoTask<int>(0);
        });
        Expect(_session.ReferencedInodes == 0, $"{_session.ReferencedInodes} inodes are referred to by a session that has ended");
        IoTask<Errno> deleted = _reactor.RunUntilComplete(() => new IoTask<IoTask<Errno>>(DeletedAsync()));
        for (int turn = 0; !deleted.IsCompleted; turn++) { Turn(turn); }
        Expect(deleted.GetAwaiter().GetResult() == Errno.None && _fs.OrphanCount == 0, $"{_fs.OrphanCount} inodes without a name stay");
        Expect(_reactor.RunUntilComplete(_fs.CloseAsync) == Errno.None && _reactor.RunUntilComplete(_pool.CloseAsync) == Errno.None, "the pool does not close");
        Expect(_reports.Count == 0, string.Join("; ", _reports));
        CheckReport report = _reactor.RunUntilComplete(() => PoolChecker.CheckAsync(_disk, CheckOptions.Default));
        Expect(report.IsClean, $"check: {string.Join("; ", report.Findings.Take(5))}");
    }

    public void Dispose()
    {
        _reactor.Dispose();
        foreach (FuzzFuseRequest? request in _requests) { request?.Dispose(); }
        _disk.Dispose();
    }

    private FuzzFuseRequest TakeFree()
    {
        for (int turn = 0; ; turn++)
        {
            for (int i = 0; i < _atOnce; i++)
            {
                if (_requests[i].IsFree) { return _requests[i]; }
            }
            Turn(turn);
        }
    }

    private void Turn(int turn)
    {
        Expect(turn < MaxTurns, "a request is never answered");
        // Nobody else is there who could unlock: the transport lets go of those who wait.
        if (Array.Exists(_requests, r => r is { IsFree: false }) && Array.TrueForAll(_requests, r => r is null or { IsFree: true } or { IsParked: true }))
        {
            _reactor.RunUntilComplete(() =>
            {
                Server.CancelWaits();
                return new IoTask<int>(0);
            });
        }
        else { _reactor.RunOnce(wait: true); }
        Collect();
    }

    private void Collect()
    {
        if (Server.Fault is { } fault) { throw new FindingException($"the server met a bug: {fault}"); }
        for (int i = 0; i < _atOnce; i++)
        {
            FuzzFuseRequest request = _requests[i];
            if (request.IsFree || request.Completions == 0) { continue; }
            if (FuseReplies.Check(request) is { } wrong) { throw new FindingException($"{wrong}: {FuseCorpus.Describe(request)}"); }
            request.IsFree = true;
            Answered?.Invoke(request);
        }
    }

    private async IoTask<Errno> DeletedAsync()
    {
        for (int wait = 0; _fs.OrphanCount > 0 && wait < 10_000; wait++) { await _reactor.DelayAsync(1_000_000); }
        return Errno.None;
    }

    private async IoTask<int> OpenAsync(IBdev bdev)
    {
        _pool = Value(await Pool.OpenAsync(bdev, new PoolOptions { NodeCache = new NodeCache(8 << 20), Report = _reports.Add }));
        _volume = Value(await _pool.OpenVolumeAsync("v"));
        FsResult<VhostFs.Blobfs.Blobfs> mounted = await VhostFs.Blobfs.Blobfs.MountAsync(_volume, Options());
        _fs = mounted.Value;
        _session = _fs.OpenSession();
        return 0;
    }

    private BlobfsOptions Options() => new()
    {
        Clock = () =>
        {
            _clockNs += 1_000_001;
            return new FsTime(_clockNs / 1_000_000_000, (uint)(_clockNs % 1_000_000_000));
        },
        MaxInodesPerSession = 300,
        MaxOpensPerSession = 100,
        MaxLocksPerSession = 40,
        MaxLockWaitersPerSession = 4,
    };

    /// <summary>The disk that every run begins with: one empty volume.</summary>
    private static byte[] Format()
    {
        using var disk = new MallocBdev("format", DiskBytes);
        using var reactor = new IoReactor(new SimulatedDriver(), "format");
        reactor.RunUntilComplete(() => FormatAsync(disk));
        disk.TryGetMemory(0, (int)DiskBytes, out IoVec memory);
        return memory.Span.ToArray();
    }

    private static async IoTask<int> FormatAsync(IBdev disk)
    {
        Pool pool = Value(await Pool.FormatAsync(disk, new FormatOptions { Uuid = new Guid("f6c9a1ee-0000-4000-8000-000000000001") }));
        Volume volume = Value(await pool.CreateVolumeAsync("v", new VolumeOptions()));
        await VhostFs.Blobfs.Blobfs.MountAsync(volume, new BlobfsOptions());
        await pool.CloseAsync();
        return 0;
    }

    private static void Load(MallocBdev disk, byte[] image)
    {
        disk.TryGetMemory(0, image.Length, out IoVec memory);
        for (int at = 0; at < image.Length; at += 4096)
        {
            ReadOnlySpan<byte> page = image.AsSpan(at, 4096);
            if (page.ContainsAnyExcept((byte)0)) { page.CopyTo(memory.Span[at..]); }
        }
    }

    private static void Expect(bool condition, string otherwise)
    {
        if (!condition) { throw new FindingException(otherwise); }
    }

    private static T Value<T>(OpenResult<T> result)
        where T : class => result.Value ?? throw new InvalidOperationException(result.Error);
}
