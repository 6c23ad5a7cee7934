using System.Buffers.Binary;
using VhostFs.Bdev;
using VhostFs.Blobstore;
using VhostFs.Linux;
using VhostFs.Reactor;
using IoReactor = VhostFs.Reactor.Reactor;

namespace VhostFs.Crash.Tests.Explorer;

/// <summary>A random life of one volume, driven through the engine's own interface by a few concurrent clients, and recorded.</summary>
/// <remarks>After every commit the trace learns the hash of all items and of all blobs as the model has them.</remarks>
public sealed class RawWorkload
{
    public const long DiskBytes = 12 << 20;
    public const string VolumeName = "v";

    private const int ClientCount = 4;
    private const ulong FirstBlob = 2;
    private const ulong StampObject = 1;

    /// <summary>Small, so that it goes round and checkpoints happen.</summary>
    private const int LogBytes = 156 * 4096;

    private readonly Random _random;
    private readonly SortedDictionary<ulong, byte[]> _blobs = [];
    private CrashTrace _trace = null!;
    private Volume _volume = null!;
    private ulong _stamp;
    private ulong _lastLsn;

    private RawWorkload(int seed) => _random = new Random(seed);

    /// <summary>An empty pool with one empty volume, as bytes.</summary>
    public static byte[] Format(long sizeBytes, bool dataChecksums)
    {
        var image = new DiskImage(new byte[sizeBytes]);
        using var reactor = new IoReactor(new SimulatedDriver(), "format");
        using var bdev = new ImageBdev(image);
        reactor.RunUntilComplete(() => FormatAsync(bdev, dataChecksums));
        image.Keep();
        return image.ToArray();
    }

    /// <summary>Opens what is on the disk (a recovery, if there was a crash), works on it in <paramref name="phases"/> with a restart in between, and returns the recording.</summary>
    public static CrashTrace Run(byte[] disk, int seed, int phases, int operationsPerClient)
    {
        var workload = new RawWorkload(seed);
        var image = new DiskImage(disk);
        var bdev = new RecordingBdev(new JitterBdev(new ImageBdev(image), workload._random));
        workload._trace = new CrashTrace(bdev, disk);
        for (int phase = 0; phase < phases; phase++)
        {
            using var reactor = new IoReactor(new SimulatedDriver(), "workload");
            string? problem = reactor.RunUntilComplete(() => workload.PhaseAsync(bdev, isFirst: phase == 0, operationsPerClient, closes: workload._random.Next(2) == 0));
            if (problem is not null) { throw new InvalidOperationException($"workload seed {seed}, phase {phase}: {problem}"); }
        }
        return workload._trace;
    }

    private static async IoTask<Errno> FormatAsync(IBdev bdev, bool dataChecksums)
    {
        OpenResult<Pool> pool = await Pool.FormatAsync(bdev, new FormatOptions { ClusterBytes = 128 * 1024 });
        if (pool.Value is null) { throw new InvalidOperationException(pool.Error); }
        OpenResult<Volume> volume = await pool.Value.CreateVolumeAsync(VolumeName, new VolumeOptions { DataChecksums = dataChecksums, LogBytes = LogBytes });
        if (volume.Value is null) { throw new InvalidOperationException(volume.Error); }
        return await pool.Value.CloseAsync();
    }

    private async IoTask<string?> PhaseAsync(RecordingBdev bdev, bool isFirst, int operationsPerClient, bool closes)
    {
        OpenResult<Pool> pool = await Pool.OpenAsync(bdev, new PoolOptions());
        if (pool.Value is null) { return pool.Error; }
        OpenResult<Volume> volume = await pool.Value.OpenVolumeAsync(VolumeName);
        if (volume.Value is null) { return volume.Error; }
        _volume = volume.Value;
        _blobs.Clear();
        (ulong hash, string? problem) = await VolumeContent.ReadAsync(_volume, _blobs);
        if (problem is not null) { return problem; }
        if (isFirst) { _trace.AddVersion(hash); }
        else if (hash != _trace.Versions[^1]) { return "after a restart without a crash the content is not what it was"; }
        if (_volume.TryGet(new TreeKey(StampObject, ItemType.Xattr, 0), out ReadOnlySpan<byte> stamp) == Errno.None) { _stamp = BinaryPrimitives.ReadUInt64LittleEndian(stamp); }

        var clients = new IoTask<Errno>[ClientCount];
        for (int i = 0; i < clients.Length; i++) { clients[i] = ClientAsync(FirstBlob + (ulong)(2 * i), operationsPerClient); }
        foreach (IoTask<Errno> client in clients)
        {
            Errno ended = await client;
            if (ended != Errno.None) { return $"a client ended with {ended}"; }
        }
        if (closes)
        {
            Errno closed = await pool.Value.CloseAsync();
            _trace.Durable(_trace.CurrentVersion);
            return closed == Errno.None ? null : $"closing: {closed}";
        }
        // The process ends here without a word; what was not logged yet gets the time to be.
        int last = _trace.CurrentVersion;
        Errno logged = await _volume.LoggedAsync(_lastLsn);
        _trace.Replied(last);
        await IoReactor.Current.DelayAsync(10_000_000);
        bdev.ReleaseClaim();
        return logged == Errno.None ? null : $"logging: {logged}";
    }

    private async IoTask<Errno> ClientAsync(ulong firstBlob, int operations)
    {
        for (int i = 0; i < operations; i++)
        {
            ulong blob = firstBlob + (ulong)_random.Next(2);
            Errno done = _random.Next(100) switch
            {
                < 25 => await ChangeItemsAsync(firstBlob),
                < 40 => await WriteAsync(blob, _random.Next(60_000), _random.Next(1, 9000)),
                < 60 => await WriteAsync(blob, _random.Next(8) * 4096, _random.Next(1, 8) * 4096),
                < 68 => await WriteAsync(blob, _random.Next(12) * 4096, _random.Next(8, 24) * 4096),
                < 75 => await TruncateAsync(blob, _random.Next(70_000)),
                < 79 => await TruncateAsync(blob, 0),
                < 83 => await AllocateAsync(blob),
                < 95 => await SyncAsync(),
                _ => await IoReactor.Current.DelayAsync(_random.Next(10) == 0 ? _random.Next(400) * 1_000_000L : _random.Next(500_000)),
            };
            if (done != Errno.None && done != Errno.ENOSPC) { return done; }
        }
        return Errno.None;
    }

    private async IoTask<Errno> SyncAsync()
    {
        int version = _trace.CurrentVersion;
        Errno synced = await _volume.SyncAsync();
        if (synced == Errno.None) { _trace.Durable(version); }
        return synced;
    }

    private async IoTask<Errno> ChangeItemsAsync(ulong client)
    {
        for (;;)
        {
            Errno admitted = await _volume.AdmitAsync(Admission.Grow);
            if (admitted != Errno.None) { return admitted; }
            Transaction transaction = _volume.Begin();
            int changes = _random.Next(1, 6);
            Errno staged = Errno.None;
            for (int i = 0; i < changes && staged == Errno.None; i++)
            {
                var key = new TreeKey(100 + client, ItemType.DirectoryEntry, (ulong)_random.Next(60));
                byte[] value = new byte[_random.Next(20) == 0 ? _random.Next(3900) : _random.Next(300)];
                _random.NextBytes(value);
                Errno exists = transaction.TryGet(key, out _);
                staged = exists == Errno.None && _random.Next(3) == 0 ? transaction.Delete(key) : exists is Errno.None or Errno.ENOENT ? transaction.Put(key, value) : exists;
            }
            if (staged == Errno.None) { return await CommitAsync(transaction); }
            transaction.Abort();
            staged = await RetryAsync(staged);
            if (staged != Errno.None) { return staged; }
        }
    }

    private async IoTask<Errno> WriteAsync(ulong blob, int offset, int length)
    {
        using var buffer = new NativeBuffer(length);
        _random.NextBytes(buffer.Span);
        using var vectors = new IoVecList(1);
        vectors.Add(buffer.Slice(0, length));
        return await ChangeBlobAsync(blob, change => _volume.Data.PrepareWriteAsync(change, blob, offset, vectors.View()), old =>
        {
            byte[] content = new byte[Math.Max(old.Length, offset + length)];
            old.CopyTo(content, 0);
            buffer.Span.CopyTo(content.AsSpan(offset));
            return content;
        });
    }

    private IoTask<Errno> TruncateAsync(ulong blob, int size)
    {
        int oldSize = _blobs.GetValueOrDefault(blob, []).Length;
        long firstGone = ((long)size + 4095) / 4096;
        return ChangeBlobAsync(blob,
            change => size < oldSize ? _volume.Data.PrepareZeroAsync(change, blob, size, (firstGone * 4096) - size) : new IoTask<Errno>(Errno.None),
            old =>
            {
                Array.Resize(ref old, size);
                return old;
            },
            transaction =>
            {
                Errno staged = _volume.Data.TryStageUnmap(transaction, blob, firstGone, long.MaxValue / 4096, out _, out bool complete);
                return staged != Errno.None || complete ? staged : throw new InvalidOperationException("a small blob needs more than one step");
            });
    }

    private IoTask<Errno> AllocateAsync(ulong blob)
    {
        long first = _random.Next(30);
        return ChangeBlobAsync(blob, change => _volume.Data.PrepareAllocateAsync(change, blob, first, first + _random.Next(1, 12)), old => old);
    }

    private async IoTask<Errno> ChangeBlobAsync(ulong blob, Func<BlobChange, IoTask<Errno>> prepare, Func<byte[], byte[]> apply, Func<Transaction, Errno>? stageMore = null)
    {
        BlobChange change = _volume.Data.RentChange();
        try
        {
            Errno prepared = await prepare(change);
            if (prepared != Errno.None) { return prepared; }
            for (;;)
            {
                Errno admitted = await _volume.AdmitAsync(Admission.Grow);
                if (admitted != Errno.None) { return admitted; }
                byte[] content = apply(_blobs.GetValueOrDefault(blob, []));
                Transaction transaction = _volume.Begin();
                Errno staged = BlobData.IsEmpty(change) ? Errno.None : _volume.Data.TryStage(transaction, change);
                if (staged == Errno.None && stageMore is not null) { staged = stageMore(transaction); }
                if (staged == Errno.None) { staged = PutSize(transaction, blob, content.Length); }
                if (staged == Errno.None)
                {
                    _blobs[blob] = content;
                    return await CommitAsync(transaction);
                }
                transaction.Abort();
                staged = await RetryAsync(staged);
                if (staged != Errno.None) { return staged; }
            }
        }
        finally { _volume.Data.End(change); }
    }

    private static Errno PutSize(Transaction transaction, ulong blob, long size)
    {
        byte[] item = new byte[VolumeContent.SizeItemBytes];
        BinaryPrimitives.WriteInt64LittleEndian(item, size);
        return transaction.Put(new TreeKey(blob, ItemType.Inode, 0), item);
    }

    /// <summary>Each version is made different from all others, so that a content names its version.</summary>
    private async IoTask<Errno> CommitAsync(Transaction transaction)
    {
        byte[] stamp = new byte[sizeof(ulong)];
        BinaryPrimitives.WriteUInt64LittleEndian(stamp, ++_stamp);
        Errno staged = transaction.Put(new TreeKey(StampObject, ItemType.Xattr, 0), stamp);
        if (staged != Errno.None) { throw new InvalidOperationException($"the stamp cannot be staged: {staged}"); }
        ulong lsn = transaction.Commit();
        _lastLsn = lsn;
        AddVersion();
        int version = _trace.CurrentVersion;
        if (_random.Next(3) == 0) { return Errno.None; } // goes on without waiting: nobody was replied to
        Errno logged = await _volume.LoggedAsync(lsn);
        if (logged == Errno.None) { _trace.Replied(version); }
        return logged;
    }

    private void AddVersion()
    {
        ContentHash hash = default;
        Errno hashed = VolumeContent.HashItems(_volume, ref hash, null);
        if (hashed != Errno.None) { throw new InvalidOperationException($"the tree cannot be read right after a commit: {hashed}"); }
        foreach ((ulong blob, byte[] content) in _blobs) { VolumeContent.HashBlob(ref hash, blob, content); }
        _trace.AddVersion(hash.Value);
    }

    private async IoTask<Errno> RetryAsync(Errno staged) => staged == Residency.NotResident ? await _volume.LoadMissingAsync() : staged;
}
