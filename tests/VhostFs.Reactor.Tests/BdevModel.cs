using VhostFs.Bdev;
using VhostFs.Linux;
using Xunit;

namespace VhostFs.Reactor.Tests;

/// <summary>A plain array of bytes beside a bdev: many clients at once read and change random ranges, each in its own part of the disk or anywhere.</summary>
/// <remarks>Where requests of the same time do not overlap, every read is compared. Where they may, only what is there in the end can be.</remarks>
internal sealed class BdevModel(IBdev bdev, Reactor reactor, int seed, int maxBlocks = 64) : IDisposable
{
    private readonly byte[] _expected = new byte[bdev.SizeBytes];
    private readonly List<NativeBuffer> _buffers = [];

    public long Operations { get; private set; }

    /// <summary>Requests that were answered with an error; of the ranges that they touched nothing is known but what a later write says.</summary>
    public long Errors { get; private set; }

    /// <summary>Clients end early.</summary>
    public bool IsStopping { get; set; }

    /// <summary>All of them have ended.</summary>
    public bool IsDone { get; private set; }

    /// <summary>Each client has its own part of the disk, so that no two of them meet.</summary>
    public async IoTask<bool> RunAsync(int clients, int operationsEach)
    {
        var running = new List<IoTask<bool>>();
        long blocks = bdev.SizeBytes / bdev.BlockSize;
        for (int i = 0; i < clients; i++)
        {
            long first = blocks * i / clients, limit = blocks * (i + 1) / clients;
            running.Add(ClientAsync(new Random((seed * 1000) + i), first, limit, operationsEach, isAlone: true));
        }
        foreach (IoTask<bool> client in running) { await client; }
        IsDone = true;
        return true;
    }

    /// <summary>All clients write everywhere.</summary>
    public async IoTask<bool> CollideAsync(int clients, int operationsEach)
    {
        var running = new List<IoTask<bool>>();
        for (int i = 0; i < clients; i++) { running.Add(ClientAsync(new Random((seed * 1000) + i), 0, bdev.SizeBytes / bdev.BlockSize, operationsEach, isAlone: false)); }
        foreach (IoTask<bool> client in running) { await client; }
        IsDone = true;
        return true;
    }

    public async IoTask<bool> CompareAllAsync()
    {
        byte[] found = await ReadAllAsync(bdev);
        int differs = found.AsSpan().CommonPrefixLength(_expected);
        Assert.True(differs == found.Length, $"seed {seed}: byte {differs} is {(differs < found.Length ? found[differs] : 0)} instead of {(differs < found.Length ? _expected[differs] : 0)}");
        return true;
    }

    public static async IoTask<byte[]> ReadAllAsync(IBdev bdev)
    {
        byte[] all = new byte[bdev.SizeBytes];
        using var buffer = new NativeBuffer(1 << 20);
        using var list = new IoVecList(1);
        for (int at = 0; at < all.Length; at += buffer.Length)
        {
            int length = Math.Min(buffer.Length, all.Length - at);
            list.Clear();
            list.Add(buffer.Slice(0, length));
            Assert.Equal(length, (await bdev.ReadAsync(at, list.View())).Value);
            buffer.Span[..length].CopyTo(all.AsSpan(at));
        }
        return all;
    }

    public void Dispose()
    {
        foreach (NativeBuffer buffer in _buffers) { buffer.Dispose(); }
    }

    private async IoTask<bool> ClientAsync(Random random, long first, long limit, int operations, bool isAlone)
    {
        var buffer = new NativeBuffer((maxBlocks * bdev.BlockSize) + 4096);
        _buffers.Add(buffer);
        using var list = new IoVecList();
        for (int i = 0; i < operations && !IsStopping; i++)
        {
            long block = random.NextInt64(first, limit);
            int length = (int)Math.Min(random.Next(1, maxBlocks + 1), limit - block) * bdev.BlockSize;
            long offset = block * bdev.BlockSize;
            Operations++;
            Errno errno = random.Next(10) switch
            {
                < 4 => await ReadAsync(random, buffer, list, offset, length, isAlone),
                < 8 => await WriteAsync(random, buffer, list, offset, length),
                8 => await ZeroAsync(random, offset, length),
                _ => await bdev.FlushAsync(),
            };
            if (errno != Errno.None) { Errors++; }
            if (random.Next(4) == 0) { await reactor.DelayAsync(random.Next(1000)); }
        }
        return true;
    }

    private async IoTask<Errno> ReadAsync(Random random, NativeBuffer buffer, IoVecList list, long offset, int length, bool isAlone)
    {
        Cut(random, buffer, list, length);
        IoResult read = await bdev.ReadAsync(offset, list.View());
        if (read.IsError) { return read.Errno; }
        Assert.Equal(length, read.Bytes);
        byte[] found = new byte[length];
        list.View().CopyTo(0, found);
        if (isAlone && !found.AsSpan().SequenceEqual(_expected.AsSpan((int)offset, length))) { Assert.Fail($"seed {seed}: a read of {length} bytes at {offset} finds something else than was written"); }
        return Errno.None;
    }

    private async IoTask<Errno> WriteAsync(Random random, NativeBuffer buffer, IoVecList list, long offset, int length)
    {
        byte[] bytes = new byte[length];
        random.NextBytes(bytes);
        if (random.Next(8) == 0) { bytes.AsSpan().Clear(); } // what a rebuild treats in its own way
        Cut(random, buffer, list, length);
        list.View().CopyFrom(0, bytes);
        IoResult written = await bdev.WriteAsync(offset, list.View());
        if (written.IsError) { return written.Errno; }
        Assert.Equal(length, written.Bytes);
        bytes.CopyTo(_expected.AsSpan((int)offset));
        return Errno.None;
    }

    private async IoTask<Errno> ZeroAsync(Random random, long offset, int length)
    {
        Errno errno = await (random.Next(2) == 0 ? bdev.UnmapAsync(offset, length) : bdev.WriteZeroesAsync(offset, length));
        if (errno == Errno.None) { _expected.AsSpan((int)offset, length).Clear(); }
        return errno;
    }

    // Segments of any length, at any address.
    private static void Cut(Random random, NativeBuffer buffer, IoVecList list, int length)
    {
        list.Clear();
        int start = random.Next(2) == 0 ? 0 : random.Next(4096);
        for (int done = 0; done < length;)
        {
            int piece = random.Next(3) == 0 ? length - done : Math.Min(random.Next(1, 20_000), length - done);
            list.Add(buffer.Slice(start + done, piece));
            done += piece;
        }
    }
}
