using System.Buffers.Binary;
using VhostFs.Bdev;
using VhostFs.Linux;
using VhostFs.Reactor;
using Xunit;
using IoReactor = VhostFs.Reactor.Reactor;

namespace VhostFs.Blobstore.Tests;

/// <summary>A simulated reactor and a disk in memory, and the few steps that most tests of volumes begin with.</summary>
public abstract class VolumeFixture : IDisposable
{
    internal const ulong Blob = 9;
    private bool _disposed;

    protected IoReactor Reactor { get; } = new(new SimulatedDriver(), "test");

    protected MallocBdev Disk { get; } = new("malloc0", 64L << 20);

    protected List<string> Reports { get; } = [];

    public void Dispose()
    {
        if (_disposed) { return; }
        _disposed = true;
        // The reactor first: a test may end while a pool still works in the background, and stopping it lets that work end.
        Reactor.Dispose();
        Disk.Dispose();
        OnDisposed();
        GC.SuppressFinalize(this);
    }

    /// <summary>What a test has beside that.</summary>
    protected virtual void OnDisposed()
    {
    }

    protected void Run(Func<IoTask<int>> work) => Reactor.RunUntilComplete(work);

    internal static T Value<T>(OpenResult<T> result)
        where T : class
    {
        Assert.Null(result.Error);
        return result.Value!;
    }

    internal async IoTask<Pool> FormatAsync(IBdev bdev)
    {
        Pool pool = Value(await Pool.FormatAsync(bdev, new FormatOptions { Force = true }));
        Assert.Equal(Errno.None, await pool.CloseAsync());
        return await OpenPoolAsync(bdev);
    }

    internal async IoTask<Pool> OpenPoolAsync(IBdev bdev) => Value(await Pool.OpenAsync(bdev, new PoolOptions { Report = Reports.Add }));

    /// <summary>As after a kill -9: whoever had the device is gone.</summary>
    internal async IoTask<Pool> ReopenAfterCrashAsync(IBdev bdev)
    {
        bdev.ReleaseClaim();
        return await OpenPoolAsync(bdev);
    }

    internal static TreeKey Key(ulong number) => new(number, ItemType.Inode, 0);

    internal static async IoTask<Errno> TryPutAsync(Volume volume, ulong number, int bytes, byte fill = 1, Admission admission = Admission.Grow)
    {
        var value = new byte[bytes];
        value.AsSpan().Fill(fill);
        for (;;)
        {
            Errno result = await volume.AdmitAsync(admission);
            if (result != Errno.None) { return result; }
            Transaction transaction = volume.Begin();
            result = transaction.Put(Key(number), value);
            if (result == Errno.None) { return await volume.LoggedAsync(transaction.Commit()); }
            transaction.Abort();
            if (result == Residency.NotResident) { result = await volume.LoadMissingAsync(); }
            if (result != Errno.None) { return result; }
        }
    }

    internal static async IoTask<int> PutAsync(Volume volume, ulong number, int bytes, byte fill = 1)
    {
        Assert.Equal(Errno.None, await TryPutAsync(volume, number, bytes, fill));
        return 0;
    }

    internal static async IoTask<Errno> TryDeleteAsync(Volume volume, ulong number)
    {
        for (;;)
        {
            Errno result = await volume.AdmitAsync(Admission.Release);
            if (result != Errno.None) { return result; }
            Transaction transaction = volume.Begin();
            result = transaction.Delete(Key(number));
            if (result == Errno.None) { return await volume.LoggedAsync(transaction.Commit()); }
            transaction.Abort();
            if (result == Residency.NotResident) { result = await volume.LoadMissingAsync(); }
            if (result != Errno.None) { return result; }
        }
    }

    internal static async IoTask<int> GetAsync(Volume volume, ulong number)
    {
        for (;;)
        {
            Errno found = Look(volume, number, out int fill);
            if (found == Errno.None) { return fill; }
            if (found == Errno.ENOENT) { return -1; }
            Assert.Equal(Residency.NotResident, found);
            Assert.Equal(Errno.None, await volume.LoadMissingAsync());
        }
    }

    /// <summary>Writes blocks of a blob.</summary>
    internal static async IoTask<Errno> TryWriteAsync(Volume volume, long offset, IoVecs source, ulong blob = Blob)
    {
        BlobLock held = await volume.Data.LockAsync(blob, offset, offset + source.LengthBytes);
        BlobChange change = volume.Data.RentChange();
        Errno result = await volume.Data.PrepareWriteAsync(change, blob, offset, source);
        while (result == Errno.None)
        {
            result = await volume.AdmitAsync(Admission.Grow);
            if (result != Errno.None) { break; }
            Transaction transaction = volume.Begin();
            Errno staged = volume.Data.TryStage(transaction, change);
            if (staged == Errno.None)
            {
                result = await volume.LoggedAsync(transaction.Commit());
                break;
            }
            transaction.Abort();
            result = staged == Residency.NotResident ? await volume.LoadMissingAsync() : staged;
        }
        volume.Data.End(change);
        volume.Data.Unlock(held);
        return result;
    }

    internal static async IoTask<Errno> TryUnmapAsync(Volume volume, long first, long limit, ulong blob = Blob)
    {
        for (bool complete = false; !complete;)
        {
            Errno admitted = await volume.AdmitAsync(Admission.Release);
            if (admitted != Errno.None) { return admitted; }
            Transaction transaction = volume.Begin();
            Errno staged = volume.Data.TryStageUnmap(transaction, blob, first, limit, out long freed, out complete);
            if (staged == Errno.None && freed > 0) { transaction.Commit(); continue; }
            transaction.Abort();
            if (staged == Errno.None) { continue; }
            complete = false;
            if (staged != Residency.NotResident) { return staged; }
            Errno loaded = await volume.LoadMissingAsync();
            if (loaded != Errno.None) { return loaded; }
        }
        return Errno.None;
    }

    /// <summary>The bytes of the disk, as they are.</summary>
    protected Span<byte> DiskBytes(ulong block, int blocks = 1)
    {
        Assert.True(Disk.TryGetMemory((long)block * BlobData.BlockBytes, blocks * BlobData.BlockBytes, out IoVec memory));
        return memory.Span;
    }

    /// <summary>Changes a node on the disk and makes every checksum above it right again, as whoever attacks would.</summary>
    internal void ForgeRoot(VolumeRecord record, VolumeHeader header, Action<byte[]> change)
    {
        Span<byte> node = DiskBytes(header.Root.Address, NodePage.Blocks);
        uint crc = Forge(node, change);
        WriteHeader(record, header with { Root = header.Root with { Crc = crc } });
    }

    internal static uint Forge(Span<byte> node, Action<byte[]> change)
    {
        byte[] copy = node.ToArray();
        change(copy);
        uint crc = Crc32C.Compute(copy.AsSpan(0, NodePage.HeapEnd));
        BinaryPrimitives.WriteUInt32LittleEndian(copy.AsSpan(NodePage.HeapEnd), crc);
        copy.CopyTo(node);
        return crc;
    }

    internal void WriteHeader(VolumeRecord record, VolumeHeader header)
    {
        (ulong first, ulong second) = record.Anchor.HeaderSlots(header.Generation);
        header.Write(DiskBytes(first));
        header.Write(DiskBytes(second));
    }

    private static Errno Look(Volume volume, ulong number, out int fill)
    {
        Errno found = volume.TryGet(Key(number), out ReadOnlySpan<byte> value);
        fill = found != Errno.None || value.IsEmpty ? -1 : value[0];
        return found;
    }
}

/// <summary>Holds operations back before they reach the disk, until told to let go: what a slow device does.</summary>
public sealed class GateBdev(IBdev inner) : BdevDecorator(inner, "gate")
{
    private readonly Queue<IoCompletion<Errno>> _held = new();

    public string? KnownAs { get; init; }

    public override string? Identity => KnownAs;

    /// <summary>Which operations are held.</summary>
    public BdevOperations Holds { get; set; }

    public int HeldCount => _held.Count;

    public void LetGo()
    {
        Holds = BdevOperations.None;
        while (_held.TryDequeue(out IoCompletion<Errno>? next)) { next.Complete(Errno.None); }
    }

    protected override async IoTask<IoResult> ReadCoreAsync(long offsetBytes, IoVecs target)
    {
        await PassAsync(BdevOperations.Read);
        return await Inner.ReadAsync(offsetBytes, target);
    }

    protected override async IoTask<IoResult> WriteCoreAsync(long offsetBytes, IoVecs source)
    {
        await PassAsync(BdevOperations.Write);
        return await Inner.WriteAsync(offsetBytes, source);
    }

    protected override async IoTask<Errno> FlushCoreAsync()
    {
        await PassAsync(BdevOperations.Flush);
        return await Inner.FlushAsync();
    }

    protected override async IoTask<Errno> UnmapCoreAsync(long offsetBytes, long lengthBytes)
    {
        await PassAsync(BdevOperations.Unmap);
        return await Inner.UnmapAsync(offsetBytes, lengthBytes);
    }

    protected override async IoTask<Errno> WriteZeroesCoreAsync(long offsetBytes, long lengthBytes)
    {
        await PassAsync(BdevOperations.WriteZeroes);
        return await Inner.WriteZeroesAsync(offsetBytes, lengthBytes);
    }

    private IoTask<Errno> PassAsync(BdevOperations operation)
    {
        if ((Holds & operation) == 0) { return new IoTask<Errno>(Errno.None); }
        var held = new IoCompletion<Errno>();
        _held.Enqueue(held);
        return held.Task;
    }
}
