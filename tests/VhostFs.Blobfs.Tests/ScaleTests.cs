using VhostFs.Fuse;
using VhostFs.Linux;
using Xunit;

namespace VhostFs.Blobfs.Tests;

public sealed class ScaleTests
{
    private const ulong Root = BlobfsHarness.Root;

    [Theory]
    [InlineData(100_000, 256L << 20)]
    [InlineData(100_000, 4L << 20)] // most of the tree is not in memory
    public void A_large_directory_lists_every_name_once_while_others_come_and_go(int count, long cacheBytes)
    {
        using var fs = new BlobfsHarness(1L << 30, cacheBytes);
        for (int i = 0; i < count; i++)
        {
            FsResult<InodeAttributes> made = fs.MakeFile(Root, $"keep{i}");
            Assert.Equal(Errno.None, made.Errno);
            fs.Forget(made.Value.Inode);
        }
        var seen = new bool[count];
        ulong cookie = 0;
        int kept = 0;
        for (int call = 0; ; call++)
        {
            var writer = new ListWriter(250, plus: call % 8 == 0);
            Assert.Equal(Errno.None, fs.Run(() => fs.Session.ReadDirectoryAsync(Root, 0, cookie, writer)));
            if (writer.Entries.Count == 0) { break; }
            cookie = writer.Entries[^1].Cookie;
            foreach (ListedEntry entry in writer.Entries.Where(static e => e.Name.StartsWith("keep", StringComparison.Ordinal)))
            {
                int number = int.Parse(entry.Name.AsSpan(4), System.Globalization.CultureInfo.InvariantCulture);
                Assert.False(seen[number]);
                seen[number] = true;
                kept++;
            }
            fs.MakeFile(Root, $"come{call}");
            if (call > 3) { Assert.Equal(Errno.None, fs.Unlink(Root, $"come{call - 3}")); }
        }
        Assert.Equal(count, kept);
        for (int i = 0; i < count; i += 997) { Assert.Equal(Errno.None, fs.Lookup(Root, $"keep{i}").Errno); }
    }

    [Fact]
    public void A_full_volume_says_so_lets_go_and_takes_new_data_again()
    {
        using var fs = new BlobfsHarness(64L << 20);
        ulong[] files = [.. Enumerable.Range(0, 8).Select(i => fs.MakeFile(Root, $"f{i}").Value.Inode)];
        long written = Fill(fs, files);
        Assert.InRange(written, 20L << 20, 64L << 20);
        Assert.Equal(Errno.None, fs.Set(files[0], new SetAttributes(Mode: 0x1FF)).Errno);
        Assert.Equal(Errno.None, fs.Truncate(files[0], 5000));
        Assert.Equal(Errno.None, fs.Rename(Root, "f1", Root, "f2"));
        for (int i = 0; i < 8; i++)
        {
            if (i != 1) { Assert.Equal(Errno.None, fs.Unlink(Root, $"f{i}")); }
            fs.Forget(files[i], ulong.MaxValue);
        }
        fs.Settle();
        Assert.Equal(Errno.None, fs.Run(() => fs.Session.SyncFsAsync()));
        fs.Settle();
        files = [.. Enumerable.Range(0, 8).Select(i => fs.MakeFile(Root, $"g{i}").Value.Inode)];
        Assert.InRange(Fill(fs, files), written * 9 / 10, 64L << 20);
        fs.Remount(clean: true);
    }

    [Fact]
    public void A_volume_full_of_small_files_can_be_emptied()
    {
        using var fs = new BlobfsHarness(16L << 20);
        int made = 0;
        Errno last = Errno.None;
        var content = new byte[2000];
        for (; last == Errno.None && made < 100_000; made++)
        {
            FsResult<InodeAttributes> file = fs.MakeFile(Root, $"f{made}");
            last = file.Errno;
            if (last == Errno.None) { last = fs.Write(file.Value.Inode, 0, content).Errno; fs.Forget(file.Value.Inode); }
        }
        Assert.Equal(Errno.ENOSPC, last);
        Assert.True(made > 100, $"{made} files");
        for (int i = 0; i < made - 1; i++) { Assert.Equal(Errno.None, fs.Unlink(Root, $"f{i}")); }
        Assert.Equal(Errno.None, fs.MakeFile(Root, "again").Errno);
        fs.Remount(clean: false);
    }

    private static long Fill(BlobfsHarness fs, ulong[] files)
    {
        long written = 0;
        var data = new byte[128 << 10];
        for (int i = 0; i < 10_000; i++)
        {
            IoResult result = fs.Write(files[i % files.Length], 0, data, flags: 0x400);
            if (result.IsError) { Assert.Equal(Errno.ENOSPC, result.Errno); return written; }
            written += result.Bytes;
        }
        return written;
    }
}
