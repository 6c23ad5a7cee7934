using BenchmarkDotNet.Attributes;
using VhostFs.Bdev;
using VhostFs.Blobstore;
using VhostFs.Linux;
using VhostFs.Reactor;
using IoReactor = VhostFs.Reactor.Reactor;

namespace VhostFs.Bench;

/// <summary>What a volume costs per operation without any transport: memory bdev, everything resident.</summary>
[MemoryDiagnoser]
public class VolumeBenchmarks
{
    private const int Batch = 1000;
    private const ulong Blob = 9;
    private const long BlobBytes = 64L << 20;
    private readonly IoReactor _reactor = new(new SimulatedDriver(), "bench");
    private readonly NativeBuffer _buffer = new(1 << 20, zeroed: true);
    private readonly IoVecList _block = new();
    private readonly byte[] _item = new byte[160];
    private MallocBdev _bdev = null!;
    private Volume _volume = null!;
    private uint _random = 1;

    [GlobalSetup]
    public void Setup()
    {
        _bdev = new MallocBdev("malloc0", 512L << 20);
        _block.Add(_buffer.Slice(0, BlobData.BlockBytes));
        using var large = new IoVecList();
        large.Add(_buffer.Vec);
        _reactor.RunUntilComplete(async () =>
        {
            Pool pool = (await Pool.FormatAsync(_bdev, new FormatOptions())).Value!;
            _volume = (await pool.CreateVolumeAsync("bench", new VolumeOptions())).Value!;
            for (ulong i = 0; i < 100_000; i += 50) { await PutItemsAsync(i, 50); }
            for (long at = 0; at < BlobBytes; at += 1 << 20) { await WriteAsync(at, large.View()); }
            return 0;
        });
    }

    [Benchmark(OperationsPerInvoke = Batch)]
    public int Get_one_of_100000_items()
    {
        int found = 0;
        for (int i = 0; i < Batch; i++) { found += _volume.TryGet(Key(Next() % 100_000), out _) == Errno.None ? 1 : 0; }
        return found;
    }

    [Benchmark(OperationsPerInvoke = Batch)]
    public int Read_4K() => _reactor.RunUntilComplete(ReadAsync);

    [Benchmark(OperationsPerInvoke = Batch)]
    public int Overwrite_4K_one_at_a_time() => _reactor.RunUntilComplete(OverwriteAsync);

    [Benchmark(OperationsPerInvoke = Batch)]
    public int Put_160_bytes_one_at_a_time() => _reactor.RunUntilComplete(PutAsync);

    private static TreeKey Key(ulong number) => new(10 + number, ItemType.Inode, 0);

    private uint Next() => _random = (_random * 1664525) + 1013904223;

    private async IoTask<int> ReadAsync()
    {
        for (int i = 0; i < Batch; i++) { await _volume.Data.ReadAsync(Blob, BlobBytes, Next() % (BlobBytes >> 12) << 12, _block.View()); }
        return Batch;
    }

    private async IoTask<int> OverwriteAsync()
    {
        for (int i = 0; i < Batch; i++) { await WriteAsync(Next() % (BlobBytes >> 12) << 12, _block.View()); }
        return Batch;
    }

    private async IoTask<int> PutAsync()
    {
        for (int i = 0; i < Batch; i++) { await PutItemsAsync(Next() % 100_000, 1); }
        return Batch;
    }

    private async IoTask<int> PutItemsAsync(ulong first, ulong count)
    {
        await _volume.AdmitAsync(Admission.Grow);
        Transaction transaction = _volume.Begin();
        for (ulong i = 0; i < count; i++) { transaction.Put(Key(first + i), _item); }
        await _volume.LoggedAsync(transaction.Commit());
        return 0;
    }

    private async IoTask<int> WriteAsync(long offset, IoVecs source)
    {
        BlobLock held = await _volume.Data.LockAsync(Blob, offset, offset + source.LengthBytes);
        BlobChange change = _volume.Data.RentChange();
        await _volume.Data.PrepareWriteAsync(change, Blob, offset, source);
        await _volume.AdmitAsync(Admission.Grow);
        Transaction transaction = _volume.Begin();
        _volume.Data.TryStage(transaction, change);
        ulong lsn = transaction.Commit();
        _volume.Data.End(change);
        _volume.Data.Unlock(held);
        await _volume.LoggedAsync(lsn);
        return 0;
    }
}
