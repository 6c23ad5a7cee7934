using System.Diagnostics;
using VhostFs.Bdev;
using VhostFs.Linux;
using VhostFs.Reactor;

namespace VhostFs.ProgramTests;

/// <summary>GUID partition tables as they are read: right ones, damaged ones, and ones that somebody has made to harm us.</summary>
public sealed class GptTableTests
{
    [Theory]
    [InlineData(512, 128, 128)]
    [InlineData(4096, 128, 128)]
    [InlineData(512, 4, 128)]
    [InlineData(512, 100, 512)]
    [InlineData(4096, 1024, 1024)]
    public void A_table_is_read_in_all_its_shapes(int blockSize, int entryCount, int entryBytes)
    {
        var image = new GptImage(blockSize, 4096, entryCount, entryBytes);
        image.Add(GptImage.Type, image.FirstUsable, 2000, "first").Add(GptImage.LinuxType, 2001, 2001, "Ωmega😀").Add(GptImage.OldType, 2002, image.LastUsable, new string('x', 36), index: entryCount - 1);
        (IReadOnlyList<GptPartition>? partitions, string? error) = Read(image);
        Assert.Null(error);
        Assert.Equal(
            [
                new GptPartition(1, new Guid(GptImage.Type), new Guid("00000000-0000-4000-9000-000000000000"), image.FirstUsable, 2001 - image.FirstUsable, "first"),
                new GptPartition(2, new Guid(GptImage.LinuxType), new Guid("00000000-0000-4000-9000-000000000001"), 2001, 1, "Ωmega😀"),
                new GptPartition(entryCount, new Guid(GptImage.OldType), new Guid($"00000000-0000-4000-9000-{entryCount - 1:x12}"), 2002, image.LastUsable - 2001, new string('x', 36)),
            ],
            partitions);
    }

    [Fact]
    public void Without_a_protective_MBR_there_is_no_table()
    {
        Assert.Equal(default, Read(new byte[512 * 64], 512));
        Assert.Equal(default, Read(new byte[512 * 2], 512));
        var image = new GptImage();
        image.Bytes[446 + 4] = 0x83;
        Assert.Equal(default, Read(image));
        image = new GptImage();
        image.Bytes[446 + 8] = 2;
        Assert.Equal(default, Read(image));
        image = new GptImage();
        image.Bytes[511] = 0;
        Assert.Equal(default, Read(image));
        image = new GptImage();
        image.Bytes.AsSpan(446, 16).CopyTo(image.Bytes.AsSpan(446 + 48)); // a hybrid: it is the fourth
        image.Bytes.AsSpan(446, 16).Clear();
        Assert.Equal((0, null), (Read(image).Partitions!.Count, Read(image).Error));
    }

    [Theory]
    [InlineData(512, "it has no header")]
    [InlineData(512 + 50, "the checksum of its header does not match")]
    [InlineData(512 + 20, "the checksum of its header does not match")] // reserved, and summed
    [InlineData(1024 + 60, "the checksum of its entries does not match")]
    public void The_backup_is_read_where_the_primary_is_damaged(int at, string expected)
    {
        GptImage image = new GptImage().Add(GptImage.Type, 100, 199).Spoil(at);
        (IReadOnlyList<GptPartition>? partitions, string? error) = Read(image);
        Assert.Equal((100L, 100L), (partitions!.Single().FirstBlock, partitions!.Single().BlockCount));
        Assert.Equal(expected, error);
        image.Spoil((2047 * 512) + 60);
        (partitions, error) = Read(image);
        Assert.Null(partitions);
        Assert.EndsWith("and the backup: the checksum of its header does not match", error, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(GptImage.EntryBytesOffset, 0, 4, "entries have 0 bytes")]
    [InlineData(GptImage.EntryBytesOffset, 64, 4, "entries have 64 bytes")]
    [InlineData(GptImage.EntryBytesOffset, 129, 4, "entries have 129 bytes")]
    [InlineData(GptImage.EntryBytesOffset, 0x80000000, 4, "entries have 2147483648 bytes")]
    [InlineData(GptImage.EntryCountOffset, 0xFFFFFFFF, 4, "4294967295 entries")]
    [InlineData(GptImage.EntryCountOffset, 1025, 4, "1025 entries")]
    [InlineData(GptImage.EntryCountOffset, 1024, 4, "overlap")] // they reach into what is usable
    [InlineData(GptImage.EntriesBlockOffset, 0, 8, "not inside of the disk")]
    [InlineData(GptImage.EntriesBlockOffset, 1, 8, "not inside of the disk")]
    [InlineData(GptImage.EntriesBlockOffset, 500, 8, "overlap")]
    [InlineData(GptImage.EntriesBlockOffset, 2047, 8, "not inside of the disk")]
    [InlineData(GptImage.EntriesBlockOffset, ulong.MaxValue, 8, "not inside of the disk")]
    [InlineData(GptImage.EntriesBlockOffset, ulong.MaxValue - 15, 8, "not inside of the disk")]
    [InlineData(GptImage.EntriesBlockOffset, 1UL << 55, 8, "not inside of the disk")] // times 512 it is 0
    [InlineData(GptImage.FirstUsableOffset, 1, 8, "overlap")]
    [InlineData(GptImage.FirstUsableOffset, 2015, 8, "usable blocks 2015 to 2014")]
    [InlineData(GptImage.LastUsableOffset, 2048, 8, "none of the disk's 2048")]
    [InlineData(GptImage.LastUsableOffset, ulong.MaxValue, 8, "none of the disk's 2048")]
    [InlineData(GptImage.MyBlockOffset, 7, 8, "is for block 7")]
    [InlineData(GptImage.HeaderBytesOffset, 91, 4, "91 bytes")]
    [InlineData(GptImage.HeaderBytesOffset, 513, 4, "513 bytes")]
    [InlineData(GptImage.HeaderBytesOffset, 0xFFFFFFFF, 4, "4294967295 bytes")]
    public void What_a_header_cannot_say_is_refused(int offset, ulong value, int bytes, string expected)
    {
        GptResult result = Read(new GptImage().Set(offset, value, bytes));
        Assert.Null(result.Partitions);
        Assert.Contains(expected, result.Error, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(33, 100, "partition 1, blocks 33 to 100, is not inside")]
    [InlineData(0, 100, "partition 1")]
    [InlineData(2014, 2015, "partition 1")]
    [InlineData(101, 100, "partition 1")]
    [InlineData(100, -1, "partition 1")]
    [InlineData(300, 400, "partitions 2 and 1 overlap")]
    [InlineData(200, 200, "overlap")]
    [InlineData(150, 350, "overlap")]
    public void What_a_partition_cannot_be_is_refused(int first, int last, string expected)
    {
        GptResult result = Read(new GptImage().Add(GptImage.Type, first, last).Add(GptImage.LinuxType, 200, 300));
        Assert.Null(result.Partitions);
        Assert.Contains(expected, result.Error, StringComparison.Ordinal);
    }

    [Fact]
    public void A_block_that_cannot_be_read_is_an_error_and_not_the_end()
    {
        GptImage image = new GptImage().Add(GptImage.Type, 100, 199);
        Assert.Equal("its first block cannot be read (EIO)", Read(image.Bytes, 512, new BdevFault(BdevOperations.Read)).Error);
        Assert.Equal("its header cannot be read (EIO); and the backup: its header cannot be read (EIO)", Read(image.Bytes, 512, new BdevFault(BdevOperations.Read, Skip: 1, Count: BdevFault.Always)).Error);
        GptResult once = Read(image.Bytes, 512, new BdevFault(BdevOperations.Read, Skip: 2));
        Assert.Equal((1, "its entries cannot be read (EIO)"), (once.Partitions!.Count, once.Error));
    }

    // Bytes that mean something, changed at random, with checksums that are right: any answer, but one that holds.
    [Fact]
    public void Nothing_that_is_written_there_does_any_harm()
    {
        int tables = 0, errors = 0;
        for (int seed = 0; seed < 3000; seed++)
        {
            var random = new Random(seed);
            var image = new GptImage(random.Next(2) == 0 ? 512 : 4096, 256, random.Next(1, 8), 128);
            for (int i = random.Next(4); i > 0; i--) { image.Add(random.Next(2) == 0 ? GptImage.Type : GptImage.LinuxType, 20 + (i * 30), 20 + (i * 30) + random.Next(40), index: i - 1); }
            for (int i = random.Next(1, 6); i > 0; i--)
            {
                int block = random.Next(4) switch { 0 => 0, 1 => 1, 2 => 2, _ => 255 };
                image.Bytes[(block * image.BlockSize) + random.Next(block == 0 ? 512 : block == 2 ? 512 : 92)] = (byte)(random.Next(3) == 0 ? random.Next(256) : random.Next(3) * 255 / 2);
            }
            if (random.Next(4) > 0) { image.Seal(); }
            (IReadOnlyList<GptPartition>? partitions, string? error) = Read(image);
            if (error is not null) { errors++; }
            if (partitions is null) { continue; }
            tables++;
            long end = 0;
            foreach (GptPartition partition in partitions.OrderBy(p => p.FirstBlock))
            {
                Assert.True(partition.FirstBlock >= Math.Max(end, 2) && partition.BlockCount > 0, $"seed {seed}");
                end = partition.FirstBlock + partition.BlockCount;
                Assert.True(end < 256, $"seed {seed}");
            }
        }
        Assert.True(tables > 500 && errors > 500, $"{tables} tables, {errors} errors");
    }

    [PartitionerFact("sfdisk")]
    public Task A_table_of_sfdisk_is_read() => AgreesAsync("sfdisk", ["--quiet", "IMAGE"], $"label: gpt\nstart=2048,size=4096,type={GptImage.Type},name=first,uuid=11111111-2222-4333-8444-555555555555\nsize=2048,type={GptImage.LinuxType}\nsize=+,type={GptImage.OldType}\n");

    [PartitionerFact("sgdisk")]
    public Task A_table_of_sgdisk_is_read() => AgreesAsync("sgdisk",
        ["--set-alignment=2048", "--new=1:2048:6143", $"--typecode=1:{GptImage.Type}", "--change-name=1:first", "--partition-guid=1:11111111-2222-4333-8444-555555555555", "--new=2:6144:8191", $"--typecode=2:{GptImage.LinuxType}", "--new=3:8192:0", $"--typecode=3:{GptImage.OldType}", "IMAGE"], "");

    private static async Task AgreesAsync(string program, string[] arguments, string input)
    {
        using var directory = new TemporaryDirectory();
        string path = directory["disk.img"];
        await File.WriteAllBytesAsync(path, new byte[16 << 20]);
        var start = new ProcessStartInfo(program, arguments.Select(a => a.Replace("IMAGE", path, StringComparison.Ordinal))) { RedirectStandardInput = true, RedirectStandardOutput = true, RedirectStandardError = true };
        using Process process = Process.Start(start)!;
        await process.StandardInput.WriteAsync(input);
        process.StandardInput.Close();
        string said = await process.StandardOutput.ReadToEndAsync() + await process.StandardError.ReadToEndAsync();
        await process.WaitForExitAsync();
        Assert.True(process.ExitCode == 0, said);
        byte[] bytes = await File.ReadAllBytesAsync(path);
        for (int damaged = 0; damaged < 3; damaged++)
        {
            if (damaged == 1) { bytes[512 + 30] ^= 1; }
            if (damaged == 2) { bytes.AsSpan(512, 512 * 33).Clear(); }
            (IReadOnlyList<GptPartition>? partitions, string? error) = Read(bytes, 512);
            Assert.Equal(damaged == 0, error is null);
            Assert.Equal([(1, GptImage.Type, 2048L, 4096L), (2, GptImage.LinuxType, 6144L, 2048L)], partitions!.Take(2).Select(p => (p.Number, p.Type.ToString(), p.FirstBlock, p.BlockCount)));
            Assert.Equal(("first", new Guid("11111111-2222-4333-8444-555555555555")), (partitions![0].Name, partitions[0].Id));
            Assert.Equal((3, GptImage.OldType, 8192L), (partitions[2].Number, partitions[2].Type.ToString(), partitions[2].FirstBlock));
        }
    }

    private static GptResult Read(GptImage image) => Read(image.Bytes, image.BlockSize);

    private static GptResult Read(byte[] bytes, int blockSize, BdevFault? fault = null)
    {
        using var reactor = new Reactor.Reactor(new SimulatedDriver(), "test");
        using var memory = new MallocBdev("disk", bytes.Length, blockSize);
        Assert.True(memory.TryGetMemory(0, bytes.Length, out IoVec content));
        bytes.CopyTo(content.Span);
        using var bdev = new ErrorBdev(memory, "disk") { OwnsInner = false };
        if (fault is not null) { bdev.Inject(fault); }
        return reactor.RunUntilComplete(() => GptTable.ReadAsync(bdev));
    }

    private sealed class PartitionerFactAttribute : FactAttribute
    {
        public PartitionerFactAttribute(string program)
        {
            bool isThere = Environment.GetEnvironmentVariable("PATH")!.Split(':').Append("/sbin").Append("/usr/sbin").Any(directory => File.Exists(Path.Combine(directory, program)));
            if (!isThere) { Skip = $"needs {program}"; }
        }
    }
}
