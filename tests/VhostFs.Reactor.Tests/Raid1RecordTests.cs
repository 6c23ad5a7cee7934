using System.Buffers.Binary;
using System.Runtime.InteropServices;
using VhostFs.Bdev;
using VhostFs.Linux;
using Xunit;

namespace VhostFs.Reactor.Tests;

/// <summary>What a raid1 writes down: its bytes, and that it is enough at whatever moment the process dies or the power goes.</summary>
public sealed class Raid1RecordTests : IDisposable
{
    private const int MiB = 1 << 20;
    private const int DiskBytes = 13 * MiB; // 12 regions
    private const int Legs = 2;

    private readonly Reactor _reactor = new(new SimulatedDriver(), "test");
    private readonly NativeBuffer _buffer = new(MiB, zeroed: true);
    private readonly IoVecList _block = new();

    public Raid1RecordTests() => _block.Add(_buffer.Slice(0, 4096));

    public void Dispose()
    {
        _reactor.Dispose();
        _block.Dispose();
        _buffer.Dispose();
    }

    [Fact]
    public void The_superblock_has_the_bytes_that_are_documented()
    {
        Assert.Equal((88, 32), (Marshal.SizeOf<Raid1Header>(), Marshal.SizeOf<Raid1Slot>()));
        Guid array = new("00112233-4455-6677-8899-aabbccddeeff"), uuid = new("0f0e0d0c-0b0a-0908-0706-050403020100"), leg = new("11111111-2222-3333-4444-555555555555");
        var superblock = new Raid1Superblock(array, uuid, "R0", 512, 12 * MiB, MiB, 7, [new Raid1Slot(leg, 7, Raid1SlotState.Complete), default], 0);
        byte[] page = new byte[4096];
        superblock.WriteTo(page, 0);
        Assert.Equal(
            "5648465352414431" + "01000000" + "00020000" + "0700000000000000" + "0000C00000000000" + "0000100000000000" + "0000100000000000"
            + "33221100554477668899AABBCCDDEEFF" + "0C0D0E0F0A0B08090706050403020100" + "02000000" + "00000000"
            + "5230" + new string('0', 124)
            + "11111111222233334444555555555555" + "0700000000000000" + "01000000" + "00000000",
            Convert.ToHexString(page.AsSpan(0, 184)));
        Assert.Equal(-1, page.AsSpan(184, 4092 - 184).IndexOfAnyExcept((byte)0));
        Assert.Equal(Crc32.Of(page.AsSpan(0, 4092)), BinaryPrimitives.ReadUInt32LittleEndian(page.AsSpan(4092)));
        using MallocBdev bdev = Disk();
        Raid1Superblock? read = Raid1Superblock.Read(page, 1, bdev, out string? problem);
        Assert.Null(problem);
        Assert.Equal((array, uuid, "R0", 7UL, 0), (read!.Array, read.Uuid, read.Name, read.Sequence, read.OwnSlot));
        Assert.Equal(superblock.Slots, read.Slots);
    }

    [Theory]
    [InlineData(8, 2, "version")]
    [InlineData(12, 4096, "blocks")]
    [InlineData(16, -1L, "sequence")]
    [InlineData(16, 0, "sequence")]
    [InlineData(24, 13 * MiB, "inside")]
    [InlineData(24, 4097, "inside")]
    [InlineData(24, -4096L, "inside")]
    [InlineData(24, 0, "inside")]
    [InlineData(32, 4096, "begins")]
    [InlineData(40, 2 * MiB, "regions")]
    [InlineData(80, 0, "slot")]
    [InlineData(80, 65, "slot")]
    [InlineData(80, -1, "slot")]
    [InlineData(84, 2, "slot")]
    [InlineData(84, -1, "slot")]
    [InlineData(88, 0, "name")]
    [InlineData(88, 0x00FF, "name")]
    [InlineData(152 + 16, 6, "slots")] // complete at an earlier one
    [InlineData(152 + 24, 2, "slots")] // out, and complete now
    [InlineData(152 + 24, 3, "slots")]
    [InlineData(152 + 32, 1, "slots")] // empty, with a number
    [InlineData(152 + 32 + 24, 2, "slots")] // out, without one
    public void A_superblock_that_does_not_hold_together_is_refused(int offset, long value, string problem)
    {
        using MallocBdev bdev = Disk();
        byte[] page = new byte[4096];
        new Raid1Superblock(Guid.NewGuid(), Guid.NewGuid(), "R0", 512, 12 * MiB, MiB, 7, [new Raid1Slot(Guid.NewGuid(), 7, Raid1SlotState.Complete), default], 0).WriteTo(page, 0);
        int width = offset is 16 or 24 or 32 or 40 or (152 + 16) ? 8 : offset == 88 ? 2 : 4;
        Span<byte> bytes = stackalloc byte[8];
        BinaryPrimitives.WriteInt64LittleEndian(bytes, value);
        bytes[..width].CopyTo(page.AsSpan(offset));
        Assert.Null(Raid1Superblock.Read(page, 1, bdev, out string? found));
        Assert.Contains("checksum", found, StringComparison.Ordinal);
        BinaryPrimitives.WriteUInt32LittleEndian(page.AsSpan(4092), Crc32.Of(page.AsSpan(0, 4092)));
        Assert.Null(Raid1Superblock.Read(page, 1, bdev, out found));
        Assert.Contains(problem, found, StringComparison.Ordinal);
    }

    [Fact]
    public void Superblocks_of_random_bytes_with_right_checksums_never_escape()
    {
        using MallocBdev bdev = Disk();
        byte[] good = new byte[4096];
        new Raid1Superblock(Guid.NewGuid(), Guid.NewGuid(), "R0", 512, 12 * MiB, MiB, 7, [new Raid1Slot(Guid.NewGuid(), 7, Raid1SlotState.Complete), default], 0).WriteTo(good, 0);
        var random = new Random(1);
        for (int i = 0; i < 100_000; i++)
        {
            byte[] page = [.. good];
            for (int j = random.Next(1, 6); j > 0; j--) { page[random.Next(8, 230)] = random.Next(3) switch { 0 => 0, 1 => 255, _ => (byte)random.Next(256) }; }
            BinaryPrimitives.WriteUInt32LittleEndian(page.AsSpan(4092), Crc32.Of(page.AsSpan(0, 4092)));
            if (Raid1Superblock.Read(page, 1, bdev, out string? problem) is not { } read) { Assert.NotNull(problem); continue; }
            Assert.True(read.SizeBytes <= 12 * MiB && read.Slots.Count <= 64 && read.OwnSlot < read.Slots.Count);
            Raid1Assembly assembly = Raid1Assembly.Of([(bdev, read)]);
            Assert.Equal(read.Slots.Count, assembly.Legs.Count);
        }
    }

    [Fact]
    public void Regions_have_the_bytes_that_are_documented_and_a_torn_sector_marks_all_of_its_own()
    {
        const long sizeBytes = 5000L * MiB; // two sectors
        var regions = new Raid1Regions(sizeBytes);
        foreach (int region in (int[])[0, 9, 4031, 4032, 4999]) { regions.Mark(region); }
        byte[] page = new byte[4096];
        regions.WritePage(0, page);
        Assert.Equal("0102" + new string('0', 2 * 501) + "80" + "00000000", Convert.ToHexString(page.AsSpan(0, 508)));
        Assert.Equal(Crc32.Of(page.AsSpan(0, 508)), BinaryPrimitives.ReadUInt32LittleEndian(page.AsSpan(508)));
        Assert.Equal((1, 0x01), (BinaryPrimitives.ReadInt32LittleEndian(page.AsSpan(512 + 504)), page[512]));
        var read = new Raid1Regions(sizeBytes);
        read.Read(0, page);
        Assert.Equal([0, 9, 4031, 4032, 4999], Marked(read));
        page[3] ^= 1;
        read = new Raid1Regions(sizeBytes);
        read.Read(0, page);
        Assert.Equal([.. Enumerable.Range(0, 4032), 4032, 4999], Marked(read));
        Assert.Equal((1L << 28, 1 << 16), (Raid1Regions.RegionBytesOf(1L << 44), new Raid1Regions(1L << 44).Count)); // 16 TiB
    }

    [Fact]
    public void A_region_is_marked_on_every_leg_before_it_is_written_and_long_unused_ones_are_not_any_more()
    {
        const int disks = 400 * MiB;
        MallocBdev[] images = [new("0", disks, 4096), new("1", disks, 4096)];
        Raid1Bdev raid = null!;
        int writes = 0;
        TappedBdev[] legs = [.. images.Select(image => new TappedBdev(image, () => writes++))];
        raid = Start(Raid1Assembly.Create("R0", Guid.NewGuid(), legs));
        int before = writes;
        Write(raid, 5 * MiB);
        Assert.Equal(4, writes - before); // a page and the content, each
        Assert.All(images, image => Assert.Equal([5], MarkedOn(image)));
        before = writes;
        Write(raid, (5 * MiB) + 8192);
        Assert.Equal(2, writes - before);
        for (int region = 0; region < 390; region++) { Write(raid, (long)region * MiB); }
        int[] marked = MarkedOn(images[0]);
        Assert.InRange(marked.Length, 100, 256 + 1);
        Assert.Contains(389, marked);
        Run(raid.StopAsync());
        Assert.All(images, image => Assert.Empty(MarkedOn(image)));
        raid.Dispose();
    }

    /// <summary>Clients write, and one leg leaves and comes back, until a crash at any change of either disk. What was answered must be there, on both legs, and no more is copied than must be.</summary>
    [Theory]
    [InlineData(false)] // the process dies
    [InlineData(true)] // the power goes: what was flushed counts
    public void Whatever_was_answered_is_on_all_legs_after_a_crash_at_any_moment(bool isPowerCut)
    {
        for (int seed = 0; seed < 4; seed++)
        {
            using var whole = new Life(_reactor, seed, isPowerCut, crashAt: int.MaxValue);
            Run(whole.RunAsync());
            Assert.True(whole.Changes > 50);
            for (int crashAt = 1 + seed; crashAt < whole.Changes; crashAt += Math.Max(1, whole.Changes / 80))
            {
                using var life = new Life(_reactor, seed, isPowerCut, crashAt);
                Run(life.RunAsync());
                Run(life.RecoverAsync());
            }
        }
    }

    [Fact]
    public void Only_what_was_marked_is_copied_after_a_crash_and_nothing_after_a_clean_end()
    {
        MallocBdev[] images = [Disk(), Disk()];
        Raid1Bdev raid = Start(Raid1Assembly.Create("R0", Guid.NewGuid(), images));
        Write(raid, 3 * MiB);
        Write(raid, 9 * MiB);
        // The process dies: nothing is stopped. Of what was under way one leg has more than the other.
        _buffer.Span.Fill(77);
        Run(images[1].WriteAsync((1 + 3) * MiB, _block.View()));
        long before = images[1].Statistics.BytesWritten;
        using (Raid1Bdev again = Assemble(images, out Raid1Assembly found))
        {
            Assert.Equal(2, found.Regions.MarkedCount);
            while (again.RebuiltBytes >= 0) { Run(_reactor.DelayAsync(1000)); }
            Assert.InRange(images[1].Statistics.BytesWritten - before, 2 * MiB, (2 * MiB) + 8192);
            AssertEqual(images);
            Run(again.StopAsync());
        }
        before = images[1].Statistics.BytesWritten;
        using Raid1Bdev third = Assemble(images, out Raid1Assembly clean);
        Assert.Equal((0, -1L, 0L), (clean.Regions.MarkedCount, third.RebuiltBytes, images[1].Statistics.BytesWritten - before));
        Run(third.StopAsync());
    }

    [Fact]
    public void A_leg_that_was_away_gets_what_was_written_meanwhile_and_another_gets_everything()
    {
        MallocBdev[] images = [Disk(), Disk()];
        MallocBdev other = Disk();
        using Raid1Bdev raid = Start(Raid1Assembly.Create("R0", Guid.NewGuid(), images));
        Write(raid, 0);
        Run(raid.RemoveAsync(images[1]));
        Write(raid, 7 * MiB);
        Raid1Superblock found = Run(Raid1Assembly.FindAsync(images[1])).Superblock!;
        Assert.Equal(1, raid.SlotOf(found));
        long before = images[1].Statistics.BytesWritten;
        Rebuild(raid, images[1], found);
        Assert.InRange(images[1].Statistics.BytesWritten - before, 2 * MiB, (2 * MiB) + 32768); // the first, as it was not unmarked yet
        AssertEqual(images);
        Run(raid.RemoveAsync(images[1]));
        Rebuild(raid, other, null);
        Assert.Null(raid.SlotOf(Run(Raid1Assembly.FindAsync(images[1])).Superblock!)); // somebody else has been there since
        AssertEqual(images[0], other);
        Run(raid.StopAsync());
    }

    [Fact]
    public void A_leg_that_was_used_alone_meanwhile_is_not_taken_for_what_it_was()
    {
        MallocBdev[] images = [Disk(), Disk()];
        Raid1Bdev raid = Start(Raid1Assembly.Create("R0", Guid.NewGuid(), images));
        Run(raid.StopAsync());
        raid.Dispose();
        foreach (MallocBdev image in images)
        {
            using Raid1Bdev alone = Assemble([image], out Raid1Assembly assembly);
            Assert.False(assembly.IsComplete);
            Write(alone, image == images[0] ? 0 : 4 * MiB);
            Run(alone.StopAsync());
        }
        using Raid1Bdev first = Assemble(images, out _);
        Assert.Null(first.SlotOf(Run(Raid1Assembly.FindAsync(images[1])).Superblock!));
        Run(first.StopAsync());
    }

    [Fact]
    public void After_a_crash_the_second_leg_goes_on_when_the_first_fails_and_both_are_equal_again()
    {
        MallocBdev[] images = [Disk(), Disk()];
        Raid1Bdev raid = Start(Raid1Assembly.Create("R0", Guid.NewGuid(), images));
        Write(raid, 3 * MiB);
        var failing = new ErrorBdev(images[0]);
        failing.Inject(new BdevFault(BdevOperations.Write | BdevOperations.Read, Skip: 3, Count: BdevFault.Always)); // it can still be examined
        using Raid1Bdev again = Assemble([failing, images[1]], out _);
        while (again.RebuiltBytes >= 0) { Run(_reactor.DelayAsync(1000)); }
        Write(again, 3 * MiB);
        Assert.True(again.IsLast(images[1]));
        Assert.Equal(4096, Run(again.ReadAsync(3 * MiB, _block.View())).Value);
        Run(again.StopAsync());
    }

    [Fact]
    public void A_leg_that_does_not_take_the_record_is_out_and_of_the_last_the_error_is_the_answer()
    {
        ErrorBdev[] legs = [new(Disk()), new(Disk())];
        using Raid1Bdev raid = Start(Raid1Assembly.Create("R0", Guid.NewGuid(), legs));
        legs[0].Inject(new BdevFault(BdevOperations.Write));
        Write(raid, 0);
        Assert.True(raid.IsLast(legs[1]));
        legs[1].Inject(new BdevFault(BdevOperations.Write));
        Assert.Equal(Errno.EIO, Run(raid.WriteAsync(5 * MiB, _block.View())).Errno);
        Write(raid, 5 * MiB);
        Run(raid.StopAsync());
        ErrorBdev[] broken = [new(Disk()), new(Disk())];
        broken[1].Inject(new BdevFault(BdevOperations.Write));
        Assert.Equal(Errno.EIO, Run(Raid1Bdev.StartAsync(Raid1Assembly.Create("R1", Guid.NewGuid(), broken), _reactor)).Errno);
    }

    private static MallocBdev Disk() => new("disk", DiskBytes, 512);

    private Raid1Bdev Start(Raid1Assembly assembly)
    {
        (Raid1Bdev? bdev, Errno errno) = Run(Raid1Bdev.StartAsync(assembly, _reactor));
        Assert.Equal(Errno.None, errno);
        return bdev!;
    }

    private Raid1Bdev Assemble(IBdev[] bdevs, out Raid1Assembly assembly)
    {
        assembly = Raid1Assembly.Of([.. bdevs.Select(bdev => (bdev, Run(Raid1Assembly.FindAsync(bdev)).Superblock!))]);
        Assert.Equal(Errno.None, Run(assembly.LoadAsync()));
        return Start(assembly);
    }

    private void Rebuild(Raid1Bdev raid, IBdev leg, Raid1Superblock? found) => Run(async () =>
    {
        Assert.Equal(Errno.None, await raid.StartRebuildAsync(1, leg, found));
        while (raid.RebuiltBytes >= 0) { await _reactor.DelayAsync(1000); }
        Assert.False(raid.IsLast(leg));
        return true;
    });

    private void Write(Raid1Bdev bdev, long offset)
    {
        _buffer.Span.Fill((byte)((offset >> 20) + 1));
        Assert.Equal(4096, Run(bdev.WriteAsync(offset, _block.View())).Value);
    }

    private static int[] Marked(Raid1Regions regions) => [.. Enumerable.Range(0, regions.Count).Where(regions.IsMarked)];

    private static int[] MarkedOn(MallocBdev image)
    {
        var regions = new Raid1Regions(Raid1Superblock.SizeOn(image));
        Assert.True(image.TryGetMemory(Raid1Regions.FirstByte, 4096, out IoVec page));
        regions.Read(0, page.Span);
        return Marked(regions);
    }

    private static void AssertEqual(params MallocBdev[] images)
    {
        int length = (int)images[0].SizeBytes - MiB;
        images[0].TryGetMemory(MiB, length, out IoVec one);
        images[1].TryGetMemory(MiB, length, out IoVec other);
        int equal = one.Span.CommonPrefixLength(other.Span);
        Assert.True(equal == length, $"the legs differ at byte {equal}");
    }

    private T Run<T>(IoTask<T> task) => _reactor.RunUntilComplete(task);

    private T Run<T>(Func<IoTask<T>> work) => _reactor.RunUntilComplete(work);

    /// <summary>An array with clients, until a crash, and afterwards.</summary>
    private sealed class Life : IDisposable
    {
        private const int Clients = 4, BlocksEach = 24, Writes = 12, ImageBytes = 6 * MiB;
        private readonly Reactor _reactor;
        private readonly int _seed;
        private readonly int _crashAt;
        private readonly bool _isPowerCut;
        private readonly MallocBdev[] _images = [.. Enumerable.Range(0, Legs).Select(_ => new MallocBdev("disk", ImageBytes, 512))];
        private readonly List<NativeBuffer> _buffers = [];
        private readonly byte[]?[] _crashed = new byte[]?[Legs];
        private readonly int[] _answered = new int[Clients * BlocksEach]; // what a block must have at least: numbers only grow
        private readonly int[] _flushed = new int[Clients * BlocksEach];
        private readonly int[] _asked = new int[Clients * BlocksEach];
        private int[] _least = [], _most = [];
        private bool _isBegun;

        public Life(Reactor reactor, int seed, bool isPowerCut, int crashAt) => (_reactor, _seed, _isPowerCut, _crashAt) = (reactor, seed, isPowerCut, crashAt);

        public int Changes { get; private set; }

        public async IoTask<bool> RunAsync()
        {
            IBdev[] legs = [.. _images.Select(Stack)];
            var assembly = Raid1Assembly.Create("R0", Guid.NewGuid(), legs);
            assembly.Regions.MostIdle = 1; // marks come and go all the time
            (Raid1Bdev? raid, _) = await Raid1Bdev.StartAsync(assembly, _reactor);
            _isBegun = true;
            var clients = new List<IoTask<bool>>();
            for (int i = 0; i < Clients; i++) { clients.Add(WriteAsync(raid!, i)); }
            var random = new Random(_seed);
            await _reactor.DelayAsync(random.Next(6000));
            await raid!.RemoveAsync(legs[1]);
            await _reactor.DelayAsync(random.Next(6000));
            await raid.StartRebuildAsync(1, legs[1], (await Raid1Assembly.FindAsync(legs[1])).Superblock);
            while (raid.RebuiltBytes >= 0) { await _reactor.DelayAsync(100); }
            foreach (IoTask<bool> client in clients) { await client; }
            await raid.StopAsync();
            raid.Dispose();
            return true;
        }

        public async IoTask<bool> RecoverAsync()
        {
            MallocBdev[] images = [.. _crashed.Select(Restore)];
            var found = new List<(IBdev, Raid1Superblock)>();
            foreach (MallocBdev image in images)
            {
                Raid1Found on = await Raid1Assembly.FindAsync(image);
                Assert.True(on.Superblock is not null, Where($"there is no superblock ({on.Problem})"));
                found.Add((image, on.Superblock!));
            }
            Raid1Assembly assembly = Raid1Assembly.Of(found);
            Assert.True(assembly.IsComplete, Where("a leg that is called complete is not believed"));
            Assert.Equal(Errno.None, await assembly.LoadAsync());
            int marked = assembly.Regions.MarkedCount;
            long before = images[1].Statistics.BytesWritten + images[1].Statistics.BytesUnmapped;
            (Raid1Bdev? raid, Errno errno) = await Raid1Bdev.StartAsync(assembly, _reactor);
            Assert.Equal(Errno.None, errno);
            for (int i = 0; i < Legs; i++)
            {
                if (assembly.Legs[i] is not null) { continue; }
                Assert.True(raid!.SlotOf(found[i].Item2) == i, Where("a leg that was out is not known any more"));
                Assert.Equal(Errno.None, await raid.StartRebuildAsync(i, images[i], found[i].Item2));
            }
            await CheckAsync(raid!); // while they are made equal, too
            while (raid!.RebuiltBytes >= 0) { await _reactor.DelayAsync(100); }
            await CheckAsync(raid);
            Assert.True(images[1].Statistics.BytesWritten + images[1].Statistics.BytesUnmapped - before <= (marked * (long)MiB) + (64 << 10), Where("more was copied than was marked"));
            AssertEqual(images);
            await raid.StopAsync();
            raid.Dispose();
            foreach (MallocBdev image in images) { image.Dispose(); }
            return true;
        }

        public void Dispose()
        {
            foreach (MallocBdev image in _images) { image.Dispose(); }
            foreach (NativeBuffer buffer in _buffers) { buffer.Dispose(); }
        }

        private IBdev Stack(MallocBdev image, int leg)
        {
            IBdev below = new TappedBdev(image, Tap);
            if (_isPowerCut) { below = new VolatileBdev(below, _seed + leg, earlyPercent: 30); }
            var random = new Random(_seed + leg);
            return new DelayBdev(new LateBdev(below, _reactor, random), _reactor) { OwnsInner = false, Jitter = _ => random.Next(1000) };
        }

        private void Tap()
        {
            if (!_isBegun || ++Changes != _crashAt) { return; }
            for (int i = 0; i < Legs; i++)
            {
                _images[i].TryGetMemory(0, ImageBytes, out IoVec all);
                _crashed[i] = all.Span.ToArray();
            }
            _least = [.. _isPowerCut ? _flushed : _answered];
            _most = [.. _asked];
        }

        private async IoTask<bool> WriteAsync(Raid1Bdev bdev, int client)
        {
            var random = new Random((_seed * 100) + client);
            var buffer = new NativeBuffer(4096, zeroed: true);
            _buffers.Add(buffer);
            using var list = new IoVecList(1);
            list.Add(buffer.Vec);
            for (int i = 1; i <= Writes; i++)
            {
                int block = (client * BlocksEach) + random.Next(BlocksEach);
                _asked[block]++;
                buffer.Span.Fill((byte)_asked[block]);
                Assert.Equal(4096, (await bdev.WriteAsync(At(block), list.View())).Value);
                _answered[block] = _asked[block];
                if (random.Next(3) > 0) { continue; }
                int[] answered = [.. _answered];
                Assert.Equal(Errno.None, await bdev.FlushAsync());
                for (int j = 0; j < answered.Length; j++) { _flushed[j] = Math.Max(_flushed[j], answered[j]); }
            }
            return true;
        }

        private async IoTask<bool> CheckAsync(Raid1Bdev bdev)
        {
            using var buffer = new NativeBuffer(4096);
            using var list = new IoVecList(1);
            list.Add(buffer.Vec);
            for (int block = 0; block < _least.Length; block++)
            {
                await bdev.ReadAsync(At(block), list.View());
                int first = buffer.Span[0];
                // A power cut may tear a block; its parts then are of two writes that may be there.
                Assert.True(first >= _least[block] && first <= _most[block], Where($"block {block} has {first}, and {_least[block]} to {_most[block]} would be right"));
                Assert.True(_isPowerCut || buffer.Span.IndexOfAnyExcept((byte)first) < 0, Where($"block {block} is torn"));
            }
            return true;
        }

        private static MallocBdev Restore(byte[]? bytes)
        {
            var image = new MallocBdev("disk", ImageBytes, 512);
            image.TryGetMemory(0, ImageBytes, out IoVec all);
            bytes.CopyTo(all.Span);
            return image;
        }

        // Scattered over all regions.
        private static long At(int block) => (block * 7919L % 1280) * 4096;

        private string Where(string what) => $"seed {_seed}, crash at {_crashAt} of {(_isPowerCut ? "the power" : "the process")}: {what}";
    }
}
