using VhostFs.Bdev;
using VhostFs.Linux;
using VhostFs.Reactor;
using Xunit;
using IoReactor = VhostFs.Reactor.Reactor;

namespace VhostFs.Blobstore.Tests;

public sealed class VolumeTests : IDisposable
{
    private readonly IoReactor _reactor = new(new SimulatedDriver(), "test");
    private readonly MallocBdev _bdev = new("malloc0", 64L << 20);

    public void Dispose()
    {
        _bdev.Dispose();
        _reactor.Dispose();
    }

    [Fact]
    public void Items_survive_closing_and_opening()
    {
        Run(async () =>
        {
            Pool pool = Value(await Pool.FormatAsync(_bdev, new FormatOptions()));
            Volume volume = Value(await pool.CreateVolumeAsync("v", new VolumeOptions()));
            Assert.Equal(Errno.None, await volume.AdmitAsync(Admission.Grow));
            Transaction transaction = volume.Begin();
            Assert.Equal(Errno.None, transaction.Put(new TreeKey(7, ItemType.Inode, 0), "hello"u8));
            ulong lsn = transaction.Commit();
            Assert.Equal(Errno.None, await volume.LoggedAsync(lsn));
            Assert.Equal(Errno.None, await pool.CloseAsync());

            pool = Value(await Pool.OpenAsync(_bdev, new PoolOptions()));
            volume = Value(await pool.OpenVolumeAsync("v"));
            Assert.Equal("hello", Get(volume, new TreeKey(7, ItemType.Inode, 0)));
            Assert.Equal(Errno.None, await pool.CloseAsync());
            return 0;
        });
    }

    [Theory]
    [InlineData(1, 1L << 20)]
    [InlineData(2, 256L << 20)]
    [InlineData(3, 1L << 20)]
    [InlineData(4, 256L << 20)]
    public void Random_changes_equal_a_dictionary_across_reopening_with_and_without_a_clean_close(int seed, long cacheBytes)
    {
        Run(async () =>
        {
            var random = new Random(seed);
            var model = new SortedDictionary<TreeKey, byte[]>();
            (await Pool.FormatAsync(_bdev, new FormatOptions())).Value!.ToString();
            Pool pool = await ReopenAsync(null, cacheBytes);
            Volume volume = Value(await pool.CreateVolumeAsync("v", new VolumeOptions()));
            for (int round = 0; round < 6; round++)
            {
                for (int i = 0; i < 3000; i++) { await ChangeAsync(volume, model, random); }
                await CompareAsync(volume, model, seed);
                if (round % 2 == 0) { Assert.Equal(Errno.None, await pool.CloseAsync()); }
                else { Assert.Equal(Errno.None, await volume.LoggedAsync(volume.Log.LastLsn)); await volume.Checkpointer.IdleAsync(); }
                pool = await ReopenAsync(pool, cacheBytes);
                volume = Value(await pool.OpenVolumeAsync("v"));
                await CompareAsync(volume, model, seed);
            }
            return 0;
        });
    }

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    public void Random_writes_reads_and_unmaps_equal_a_byte_array(int seed)
    {
        Run(async () =>
        {
            const int Size = 3 << 20;
            var random = new Random(seed);
            var model = new byte[Size];
            Pool pool = Value(await Pool.FormatAsync(_bdev, new FormatOptions()));
            Volume volume = Value(await pool.CreateVolumeAsync("v", new VolumeOptions()));
            using var buffer = new NativeBuffer(1 << 20);
            using var list = new IoVecList();
            for (int i = 0; i < 2500; i++)
            {
                int length = random.Next(3) switch { 0 => random.Next(1, 5000), 1 => random.Next(1, 60000), _ => random.Next(1, 16) * 4096 };
                int offset = random.Next(Size - length);
                if (random.Next(2) == 0) { offset &= ~4095; }
                list.Clear();
                for (int at = 0; at < length;)
                {
                    int piece = Math.Min(length - at, random.Next(1, 9000));
                    list.Add(buffer.Slice(at, piece));
                    at += piece;
                }
                switch (random.Next(6))
                {
                    case 0:
                        int first = (offset + 4095) / 4096, limit = (offset + length) / 4096;
                        if (limit <= first) { break; }
                        await UnmapAsync(volume, first, limit);
                        model.AsSpan(first * 4096, (limit - first) * 4096).Clear();
                        break;
                    case 1 or 2 or 3:
                        random.NextBytes(buffer.Span[..length]);
                        buffer.Span[..length].CopyTo(model.AsSpan(offset));
                        await WriteAsync(volume, offset, list.View());
                        break;
                    default:
                        IoResult read = await volume.Data.ReadAsync(9, Size, offset, list.View());
                        Assert.Equal(length, read.Value);
                        Assert.True(buffer.Span[..length].SequenceEqual(model.AsSpan(offset, length)), $"seed {seed}, step {i}: content differs");
                        break;
                }
                if (i % 700 == 699)
                {
                    if (random.Next(2) == 0) { Assert.Equal(Errno.None, await pool.CloseAsync()); }
                    else { Assert.Equal(Errno.None, await volume.LoggedAsync(volume.Log.LastLsn)); await volume.Checkpointer.IdleAsync(); }
                    pool = await ReopenAsync(pool, 64 << 20);
                    volume = Value(await pool.OpenVolumeAsync("v"));
                }
            }
            return 0;
        });
    }

    [Fact]
    public void A_full_volume_says_so_and_can_be_emptied()
    {
        Run(async () =>
        {
            Pool pool = Value(await Pool.FormatAsync(_bdev, new FormatOptions()));
            Volume volume = Value(await pool.CreateVolumeAsync("v", new VolumeOptions()));
            using var buffer = new NativeBuffer(1 << 20, zeroed: true);
            using var list = new IoVecList();
            list.Add(buffer.Vec);
            for (int round = 0; round < 3; round++)
            {
                long written = 0;
                while (await TryWriteAsync(volume, written, list.View()) is var result && result != Errno.ENOSPC)
                {
                    Assert.Equal(Errno.None, result);
                    written += 1 << 20;
                }
                Assert.InRange(written, 40L << 20, 64L << 20);
                await UnmapAsync(volume, 0, long.MaxValue);
                Assert.Equal(Errno.None, await volume.SyncAsync());
            }
            return 0;
        });
    }

    internal static T Value<T>(OpenResult<T> result)
        where T : class
    {
        Assert.Null(result.Error);
        return result.Value!;
    }

    private static string Get(Volume volume, TreeKey key)
    {
        Assert.Equal(Errno.None, volume.TryGet(key, out ReadOnlySpan<byte> value));
        return System.Text.Encoding.UTF8.GetString(value);
    }

    private static async IoTask<int> ChangeAsync(Volume volume, SortedDictionary<TreeKey, byte[]> model, Random random)
    {
        int count = random.Next(1, 6);
        var puts = new Dictionary<TreeKey, byte[]?>();
        for (int i = 0; i < count; i++)
        {
            var key = new TreeKey((ulong)random.Next(1, 60), (ItemType)random.Next(0, 5), (ulong)random.Next(200));
            puts[key] = random.Next(3) == 0 ? null : RandomBytes(random);
        }
        for (;;)
        {
            Assert.Equal(Errno.None, await volume.AdmitAsync(Admission.Grow));
            Transaction transaction = volume.Begin();
            Errno staged = Stage(transaction, model, puts, out bool any);
            if (staged == Errno.None && any) { transaction.Commit(); break; }
            transaction.Abort();
            if (staged == Errno.None) { return 0; }
            Assert.Equal(Residency.NotResident, staged);
            Assert.Equal(Errno.None, await volume.LoadMissingAsync());
        }
        foreach ((TreeKey key, byte[]? value) in puts)
        {
            if (value is null) { model.Remove(key); }
            else { model[key] = value; }
        }
        return 0;
    }

    private static Errno Stage(Transaction transaction, SortedDictionary<TreeKey, byte[]> model, Dictionary<TreeKey, byte[]?> puts, out bool any)
    {
        any = false;
        foreach ((TreeKey key, byte[]? value) in puts)
        {
            if (value is null && !model.ContainsKey(key)) { continue; }
            Errno staged = value is null ? transaction.Delete(key) : transaction.Put(key, value);
            if (staged != Errno.None) { return staged; }
            any = true;
        }
        return Errno.None;
    }

    private static byte[] RandomBytes(Random random)
    {
        var bytes = new byte[random.Next(4) == 0 ? random.Next(Volume.MaxValueBytes + 1) : random.Next(200)];
        random.NextBytes(bytes);
        return bytes;
    }

    private static async IoTask<int> CompareAsync(Volume volume, SortedDictionary<TreeKey, byte[]> model, int seed)
    {
        TreeKey from = new(1, 0);
        foreach ((TreeKey expected, byte[] content) in model)
        {
            while (!Matches(volume, ref from, expected, content, seed)) { Assert.Equal(Errno.None, await volume.LoadMissingAsync()); }
        }
        Errno end;
        while ((end = volume.TryNext(from, TreeKey.Max, out _, out _)) == Residency.NotResident) { await volume.LoadMissingAsync(); }
        Assert.Equal(Errno.ENOENT, end);
        return 0;
    }

    private static bool Matches(Volume volume, ref TreeKey from, TreeKey expected, byte[] content, int seed)
    {
        Errno found = volume.TryNext(from, TreeKey.Max, out TreeKey key, out ReadOnlySpan<byte> value);
        if (found == Residency.NotResident) { return false; }
        Assert.Equal(Errno.None, found);
        Assert.True(key == expected && value.SequenceEqual(content), $"seed {seed}: item {key} instead of {expected}");
        from = key.Next();
        return true;
    }

    private static async IoTask<int> WriteAsync(Volume volume, long offset, IoVecs source)
    {
        Assert.Equal(Errno.None, await TryWriteAsync(volume, offset, source));
        return 0;
    }

    private static async IoTask<Errno> TryWriteAsync(Volume volume, long offset, IoVecs source)
    {
        BlobLock held = await volume.Data.LockAsync(9, offset, offset + source.LengthBytes);
        BlobChange change = volume.Data.RentChange();
        Errno result = await volume.Data.PrepareWriteAsync(change, 9, offset, source);
        while (result == Errno.None)
        {
            result = await volume.AdmitAsync(Admission.Grow);
            if (result != Errno.None) { break; }
            Transaction transaction = volume.Begin();
            Errno staged = volume.Data.TryStage(transaction, change);
            if (staged == Errno.None) { transaction.Commit(); break; }
            transaction.Abort();
            result = staged == Residency.NotResident ? await volume.LoadMissingAsync() : staged;
        }
        volume.Data.End(change);
        volume.Data.Unlock(held);
        return result;
    }

    private static async IoTask<int> UnmapAsync(Volume volume, long first, long limit)
    {
        for (bool complete = false; !complete;)
        {
            Assert.Equal(Errno.None, await volume.AdmitAsync(Admission.Release));
            Transaction transaction = volume.Begin();
            Errno staged = volume.Data.TryStageUnmap(transaction, 9, first, limit, out long freed, out complete);
            if (staged == Errno.None && freed > 0) { transaction.Commit(); continue; }
            transaction.Abort();
            if (staged != Errno.None) { complete = false; Assert.Equal(Errno.None, await volume.LoadMissingAsync()); }
        }
        return 0;
    }

    private async IoTask<Pool> ReopenAsync(Pool? old, long cacheBytes)
    {
        if (old is not null || !_bdev.TryClaim("test", out _)) { _bdev.ReleaseClaim(); }
        else { _bdev.ReleaseClaim(); }
        return Value(await Pool.OpenAsync(_bdev, new PoolOptions { NodeCache = new NodeCache(cacheBytes) }));
    }

    private void Run(Func<IoTask<int>> work) => _reactor.RunUntilComplete(work);
}
