using System.Buffers.Binary;
using VhostFs.Bdev;
using VhostFs.Blobstore;
using VhostFs.Linux;
using VhostFs.Reactor;
using IoReactor = VhostFs.Reactor.Reactor;

namespace VhostFs.Crash.Tests.Explorer;

/// <summary>A random life of a pool: a few concurrent clients on one volume or on several, restarts in between, and all of it recorded.</summary>
public sealed class PoolWorkload
{
    /// <summary>The smallest log: it goes round, and checkpoints happen.</summary>
    private const int LogBytes = 156 * 4096;

    private const string SharedVolume = "v";
    private const int RestNs = 500_000;
    private const int MaxRests = 800;

    private readonly PoolProfile _profile;
    private readonly Random _random;
    private readonly ImageBdev _image;
    private readonly JitterBdev _jitter;
    private readonly RecordingBdev _bdev;
    private readonly CrashTrace _trace;
    private readonly SortedDictionary<string, OpenVolume> _open = new(StringComparer.Ordinal);
    private readonly int _weights;
    private readonly int _seed;
    private IReadOnlyList<StagedBatch> _left;
    private Pool _pool = null!;

    private PoolWorkload(PoolProfile profile, DiskImage disk, int seed, IReadOnlyList<StagedBatch> left)
    {
        _seed = seed;
        _left = left;
        _profile = profile;
        _random = new Random(seed);
        _image = new ImageBdev(disk.Fork());
        _jitter = new JitterBdev(_image, _random, profile.Slowness);
        _bdev = profile.IsFileInMemory ? new RecordingBdev(_image) { IsFileInMemory = true } : new RecordingBdev(_jitter);
        _trace = new CrashTrace(_bdev, disk);
        _weights = profile.Operations.Sum(choice => choice.Weight);
    }

    /// <summary>The disk that every life of a profile begins with.</summary>
    public static DiskImage Format(PoolProfile profile)
    {
        var image = new DiskImage(new byte[profile.FormattedBytes > 0 ? profile.FormattedBytes : profile.DiskBytes]) { DiscardedByte = (byte)(profile.UnmapReadsZero ? 0 : 0xE5) };
        using var reactor = new IoReactor(new SimulatedDriver(), "format");
        using var bdev = new ImageBdev(image);
        if (reactor.RunUntilComplete(() => FormatAsync(bdev, profile)) is { } problem) { throw new InvalidOperationException($"formatting for '{profile}': {problem}"); }
        if (image.LengthBytes == profile.DiskBytes) { return image.Fork(); }
        var larger = new byte[profile.DiskBytes];
        image.Read(0, larger.AsSpan(0, image.LengthBytes));
        return new DiskImage(larger) { DiscardedByte = image.DiscardedByte };
    }

    /// <summary>Opens what is on the disk (a recovery, if there was a crash), works on it in phases with a restart in between, and returns the recording.</summary>
    /// <param name="left">In log memory, by a life before.</param>
    public static CrashTrace Run(PoolProfile profile, DiskImage disk, int seed, IReadOnlyList<StagedBatch>? left = null)
    {
        var workload = new PoolWorkload(profile, disk, seed, left ?? []);
        for (int phase = 0; phase < profile.Phases; phase++)
        {
            using var reactor = new IoReactor(new SimulatedDriver(), "workload");
            string? problem = reactor.RunUntilComplete(() => workload.PhaseAsync(closes: workload._random.Next(2) == 0));
            if (problem is not null) { throw new InvalidOperationException($"workload '{profile}', seed {seed}, phase {phase}: {problem}"); }
        }
        workload._trace.End();
        return workload._trace;
    }

    /// <summary>From the seed, as everything: the same seed makes the same bytes.</summary>
    private static VolumeIdentity NewIdentity(Random random) => new(NewUuid(random), (ulong)random.NextInt64(), (ulong)random.NextInt64(), CreatedSeconds: 0);

    private static Guid NewUuid(Random random)
    {
        Span<byte> bytes = stackalloc byte[16];
        random.NextBytes(bytes);
        return new Guid(bytes);
    }

    private static async IoTask<string?> FormatAsync(IBdev bdev, PoolProfile profile)
    {
        var random = new Random(1);
        OpenResult<Pool> pool = await Pool.FormatAsync(bdev, new FormatOptions { ClusterBytes = 128 * 1024, Uuid = NewUuid(random) });
        if (pool.Value is null) { return pool.Error; }
        if (!profile.OwnVolumes)
        {
            OpenResult<Volume> volume = await pool.Value.CreateVolumeAsync(SharedVolume, new VolumeOptions { DataChecksums = profile.DataChecksums, LogBytes = LogBytes, Identity = NewIdentity(random) });
            if (volume.Value is null) { return volume.Error; }
            var open = new OpenVolume(volume.Value, new VolumeModel(SharedVolume), new ContentHistory(() => 0));
            for (uint client = 0; client < profile.Clients && profile.PrefilledItems > 0; client++)
            {
                Errno filled = await new VolumeClient(random, profile, client).PrefillAsync(open);
                if (filled != Errno.None) { return $"first items: {filled}"; }
            }
        }
        Errno closed = await pool.Value.CloseAsync();
        return closed == Errno.None ? null : $"closing: {closed}";
    }

    private async IoTask<string?> PhaseAsync(bool closes)
    {
        _trace.LogMemory = PlayedLogMemory.ForLife(_seed, _left);
        OpenResult<Pool> pool = await Pool.OpenAsync(_bdev, new PoolOptions { NodeCache = new NodeCache(_profile.NodeCacheBytes), LogMemory = _trace.LogMemory });
        if (pool.Value is null) { return pool.Error; }
        _pool = pool.Value;
        foreach (VolumeInfo info in _pool.Volumes)
        {
            if (await OpenAsync(info.Name) is { } problem) { return $"volume '{info.Name}': {problem}"; }
        }
        if (_trace.Histories.FirstOrDefault(h => h.Value.CurrentHash != ContentHistory.Absent && !_open.Values.Any(open => open.History == h.Value)).Key is { } lost) { return $"after a restart without a crash {lost} is gone"; }
        var clients = new IoTask<Errno>[_profile.Clients];
        for (uint i = 0; i < clients.Length; i++) { clients[i] = ClientAsync(i); }
        foreach (IoTask<Errno> client in clients)
        {
            Errno ended = await client;
            if (ended != Errno.None) { return $"a client ended with {ended}"; }
        }
        string? ending = closes ? await CloseAsync() : await DieAsync();
        _open.Clear();
        return ending;
    }

    private async IoTask<string?> CloseAsync()
    {
        Errno closed = await _pool.CloseAsync();
        _left = [];
        _trace.LogMemory = null;
        foreach (OpenVolume open in _open.Values) { open.History.Durable(open.History.Current); }
        return closed == Errno.None ? null : $"closing: {closed}";
    }

    /// <summary>The process ends here without a word; what was not logged yet gets the time to be.</summary>
    private async IoTask<string?> DieAsync()
    {
        foreach (OpenVolume open in _open.Values)
        {
            int last = open.History.Current;
            Errno logged = await open.Volume.LoggedAsync(open.LastLsn);
            if (logged != Errno.None) { return $"logging: {logged}"; }
            open.History.Replied(last);
        }
        await IoReactor.Current.DelayAsync(10_000_000);
        // Only the memory is wanted back.
        DiskImage disk = _image.Detach();
        _left = _trace.LogMemory?.Staged() ?? [];
        _trace.LogMemory = _left.Count == 0 ? null : new PlayedLogMemory(0, _left);
        _bdev.IsRecording = false;
        await _pool.CloseAsync();
        _bdev.IsRecording = true;
        _image.Attach(disk);
        return null;
    }

    /// <summary>Opens a volume, and holds what is in it against its history, if it has one.</summary>
    private async IoTask<string?> OpenAsync(string name)
    {
        OpenResult<Volume> volume = await _pool.OpenVolumeAsync(name);
        if (volume.Value is null) { return volume.Error; }
        var model = new VolumeModel(name);
        if (await VolumeContent.ReadAsync(volume.Value, model) is { } problem) { return problem; }
        string historyName = VolumeContent.HistoryOf(volume.Value.Id);
        if (!_trace.Histories.TryGetValue(historyName, out ContentHistory? history)) { history = _trace.Begin(historyName, model.Hash); }
        else if (history.CurrentHash != model.Hash) { return "after a restart without a crash the content is not what it was"; }
        var open = new OpenVolume(volume.Value, model, history);
        if (open.Volume.TryGet(VolumeClient.StampKey, out ReadOnlySpan<byte> stamp) == Errno.None) { open.Stamp = BinaryPrimitives.ReadUInt64LittleEndian(stamp); }
        else if (model.Contains(VolumeClient.StampKey)) { return "its stamp cannot be read"; }
        _open[name] = open;
        return null;
    }

    private async IoTask<Errno> ClientAsync(uint number)
    {
        var client = new VolumeClient(_random, _profile, number);
        string name = _profile.OwnVolumes ? $"{SharedVolume}{number}" : SharedVolume;
        for (int i = 0; i < _profile.OperationsPerClient; i++)
        {
            PoolOperation operation = _open.ContainsKey(name) ? Draw() : PoolOperation.ReplaceVolume;
            Errno done = operation switch
            {
                PoolOperation.RestUntilUnmap => await RestAsync(_open[name]),
                PoolOperation.ReopenVolume => _profile.OwnVolumes ? await ReopenAsync(name) : Errno.None,
                PoolOperation.ReplaceVolume => await ReplaceAsync(name),
                PoolOperation.Grow => await _pool.GrowAsync(),
                _ => await client.RunAsync(_open[name], operation),
            };
            if (done != Errno.None && done != Errno.ENOSPC) { return done; }
        }
        return Errno.None;
    }

    private PoolOperation Draw()
    {
        int drawn = _random.Next(_weights);
        foreach ((int weight, PoolOperation operation) in _profile.Operations)
        {
            drawn -= weight;
            if (drawn < 0) { return operation; }
        }
        throw new InvalidOperationException("the weights do not add up");
    }

    private async IoTask<Errno> RestAsync(OpenVolume open)
    {
        Errno synced = await open.Volume.SyncAsync();
        for (int i = 0; i < MaxRests && _jitter.UnmapsInFlight == 0; i++) { await IoReactor.Current.DelayAsync(RestNs); }
        return synced;
    }

    private async IoTask<Errno> ReopenAsync(string name)
    {
        OpenVolume open = _open[name];
        Errno closed = await open.Volume.CloseAsync();
        if (closed != Errno.None) { return closed; }
        open.History.Durable(open.History.Current);
        return await OpenAsync(name) is { } problem ? throw new InvalidOperationException($"opening '{name}' again: {problem}") : Errno.None;
    }

    private async IoTask<Errno> ReplaceAsync(string name)
    {
        if (_open.Remove(name, out OpenVolume? old))
        {
            Errno closed = await old.Volume.CloseAsync();
            if (closed != Errno.None) { return closed; }
            old.History.Durable(old.History.Current);
            old.History.Add(ContentHistory.Absent);
            Errno deleted = await _pool.DeleteVolumeAsync(name);
            if (deleted != Errno.None) { return deleted; }
            old.History.Durable(old.History.Current);
        }
        long before = _trace.Now;
        OpenResult<Volume> made = await _pool.CreateVolumeAsync(name, new VolumeOptions { DataChecksums = _random.Next(2) == 0, LogBytes = LogBytes, Identity = NewIdentity(_random) });
        if (made.Value is null) { return made.Error!.Contains("no room", StringComparison.Ordinal) ? Errno.ENOSPC : throw new InvalidOperationException(made.Error); }
        var model = new VolumeModel(name);
        ContentHistory history = _trace.Begin(VolumeContent.HistoryOf(made.Value.Id), ContentHistory.Absent);
        history.AddAt(before, model.Hash);
        history.Durable(history.Current);
        _open[name] = new OpenVolume(made.Value, model, history);
        return Errno.None;
    }
}
