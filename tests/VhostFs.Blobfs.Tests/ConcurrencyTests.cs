using System.Buffers.Binary;
using VhostFs.Fuse;
using VhostFs.Linux;
using VhostFs.Reactor;
using Xunit;

namespace VhostFs.Blobfs.Tests;

/// <summary>Operations that overlap: the bdev answers late and out of order.</summary>
public sealed class ConcurrencyTests : IDisposable
{
    private const ulong Root = BlobfsHarness.Root;
    private readonly BlobfsHarness _fs = new(256L << 20, delayNs: 200_000);

    public void Dispose() => _fs.Dispose();

    [Theory]
    [InlineData(8)]
    [InlineData(3000)]
    public void Overlapping_appends_of_several_sessions_never_mix_and_never_get_lost(int recordBytes)
    {
        ulong file = _fs.MakeFile(Root, "f").Value.Inode;
        const int Writers = 12, Records = 60;
        var running = new IoTask<int>[Writers];
        int left = Writers;
        _fs.Do(() =>
        {
            for (int writer = 0; writer < Writers; writer++) { running[writer] = AppendAsync(_fs.Fs.OpenSession(), file, writer, Records, recordBytes, () => left--); }
        });
        _fs.RunUntil(() => left == 0);
        byte[] content = _fs.Read(file, 0, Writers * Records * recordBytes + 1);
        Assert.Equal(Writers * Records * recordBytes, content.Length);
        var next = new int[Writers];
        foreach (byte[] record in content.Chunk(recordBytes))
        {
            int writer = record[0], number = BinaryPrimitives.ReadInt32LittleEndian(record.AsSpan(4));
            Assert.Equal(next[writer]++, number);
            Assert.True(record.AsSpan(8).IndexOfAnyExcept((byte)writer) < 0);
        }
    }

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    public void Writes_truncations_and_holes_under_way_together_leave_a_sound_volume(int seed)
    {
        ulong[] files = [.. Enumerable.Range(0, 4).Select(i => _fs.MakeFile(Root, $"f{i}").Value.Inode)];
        int left = 16;
        _fs.Do(() =>
        {
            for (int i = 0; i < 16; i++) { ChurnAsync(_fs.Fs.OpenSession(), files, new Random((seed * 100) + i), 120, () => left--).Detach(); }
        });
        _fs.RunUntil(() => left == 0);
        _fs.Remount(clean: seed % 2 == 0); // runs the checker: counts, tails behind the end, links, orphans
        foreach (ulong file in files.Where(file => !_fs.Stat(file).IsError))
        {
            Assert.True(_fs.Read(file, 0, 1 << 20).AsSpan().IndexOfAnyExcept((byte)0, (byte)0xEE) < 0);
            Assert.Equal(Errno.None, _fs.Truncate(file, 0));
            Assert.Equal(0, _fs.Stat(file).Value.Blocks512);
        }
    }

    private static async IoTask<int> AppendAsync(BlobfsSession session, ulong file, int writer, int records, int recordBytes, Action done)
    {
        using var memory = new NativeBuffer(recordBytes);
        using var list = new IoVecList();
        list.Add(memory.Vec);
        memory.Span.Fill((byte)writer);
        for (int i = 0; i < records; i++)
        {
            BinaryPrimitives.WriteInt32LittleEndian(memory.Span[4..], i);
            Assert.Equal(recordBytes, (await session.WriteAsync(file, 0, 0, list.View(), 0x400, false, false)).Value);
        }
        done();
        return 0;
    }

    private static async IoTask<int> ChurnAsync(BlobfsSession session, ulong[] files, Random random, int steps, Action done)
    {
        using var memory = new NativeBuffer(64 << 10, zeroed: true);
        using var list = new IoVecList();
        memory.Span.Fill(0xEE);
        var caller = new FuseCaller(0, 0, 1);
        for (int i = 0; i < steps; i++)
        {
            ulong file = files[random.Next(files.Length)];
            long at = random.Next(200_000);
            int length = random.Next(1, random.Next(2) == 0 ? 1000 : 64 << 10);
            list.Clear();
            list.Add(memory.Slice(0, length));
            ulong other = files[random.Next(files.Length)];
            Errno result = random.Next(8) switch
            {
                0 => (await session.SetAttributesAsync(caller, file, new SetAttributes(SizeBytes: random.Next(3) == 0 ? random.Next(2048) : at))).Errno,
                1 => await session.FallocateAsync(caller, file, 0, Allocation.PunchHole | Allocation.KeepSize, at, length),
                2 => await session.FallocateAsync(caller, file, 0, (uint)random.Next(2), at, length),
                // Blocks shared to and fro; EINVAL: the ranges overlap in one file.
                3 => (await session.CopyFileRangeAsync(file, 0, at & ~4095, other, 0, random.Next(40) * 4096, length * 4)).Errno is var copied && copied == Errno.EINVAL && file == other ? Errno.None : copied,
                4 => (await session.CopyFileRangeAsync(file, 0, 0, other, 0, 0, 300_000)).Errno is var cloned && cloned == Errno.EINVAL && file == other ? Errno.None : cloned,
                5 => (await session.ReadAsync(file, 0, at, list.View())).Errno,
                _ => (await session.WriteAsync(file, 0, at, list.View(), random.Next(3) == 0 ? 0x400u : 0, false, false)).Errno,
            };
            Assert.Equal(Errno.None, result);
            memory.Span.Fill(0xEE); // a read may have put zeroes there
        }
        done();
        return 0;
    }
}
