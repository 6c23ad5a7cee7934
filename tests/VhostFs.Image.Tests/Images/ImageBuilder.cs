using System.Text;
using VhostFs.Bdev;
using VhostFs.Blobfs;
using VhostFs.Blobstore;
using VhostFs.Crash.Tests.Explorer;
using VhostFs.Fuse;
using VhostFs.Linux;
using VhostFs.Reactor;
using IoReactor = VhostFs.Reactor.Reactor;

namespace VhostFs.Image.Tests.Images;

/// <summary>Two small pools to break, always the same bytes: each with the volumes "a" and "b", closed cleanly and as a crash leaves them.</summary>
/// <remarks>"a" has a tree of three levels, every kind of inode, and a log with everything that can be in one. "b" is the neighbour to whom nothing may happen.</remarks>
internal sealed class ImageBuilder : IDisposable
{
    public const int DiskBytes = 14 << 20;
    private const ulong Root = 1;
    private const uint FileMode = 0x81A4;

    private static readonly CreateContext s_root = new(new FuseCaller(0, 0, 1), 0);

    private readonly DiskImage _image = new(new byte[DiskBytes]);
    private readonly NativeBuffer _memory = new(1 << 20);
    private readonly IoVecList _list = new(1);
    private readonly Random _random;
    private readonly byte _pool;
    private readonly Dictionary<int, List<byte[]>> _history = [];
    private int _used;
    private long _clockNs = 1_000_000_000_000;

    private ImageBuilder(byte pool)
    {
        _pool = pool;
        _random = new Random(pool);
    }

    public static BaseImages Build(byte pool)
    {
        using var builder = new ImageBuilder(pool);
        return builder.Build();
    }

    public void Dispose()
    {
        _memory.Dispose();
        _list.Dispose();
    }

    private BaseImages Build()
    {
        Run(FormatAsync, closes: true);
        FixIdentity();
        Run(bdev => WithVolumesAsync(bdev, closes: true, FillAsync), closes: true);
        RaiseTree("a");
        Run(bdev => WithVolumesAsync(bdev, closes: true, ChangeAsync), closes: true);
        byte[] clean = _image.ToArray();
        Run(bdev => WithVolumesAsync(bdev, closes: false, WorkAsync), closes: false);
        ForgetOwner();
        return new BaseImages(clean, _image.ToArray(), _history);
    }

    /// <summary>Lets <paramref name="work"/> loose on the disk and remembers what each block held.</summary>
    private void Run(Func<IBdev, IoTask<string?>> work, bool closes)
    {
        var recording = new RecordingBdev(new ImageBdev(_image));
        using (var reactor = new IoReactor(new SimulatedDriver(), "build"))
        {
            if (reactor.RunUntilComplete(() => work(recording)) is { } problem) { throw new InvalidOperationException($"building an image: {problem}"); }
            // As after a kill: what the daemon would still do is not done.
            recording.IsRecording = false;
            if (!closes) { _image.Keep(); }
        }
        if (closes) { _image.Keep(); }
        else { _image.Reset(); }
        foreach (BdevTraceEntry entry in recording.Trace)
        {
            for (int done = 0; entry.Operation == BdevOperations.Write && done < entry.LengthBytes; done += DiskFormat.BlockBytes)
            {
                int block = (int)((entry.OffsetBytes + done) / DiskFormat.BlockBytes);
                if (!_history.TryGetValue(block, out List<byte[]>? versions)) { _history[block] = versions = []; }
                versions.Add(entry.Data.AsSpan(done, DiskFormat.BlockBytes).ToArray());
            }
        }
    }

    private async IoTask<string?> FormatAsync(IBdev bdev)
    {
        OpenResult<Pool> pool = await Pool.FormatAsync(bdev, new FormatOptions { ClusterBytes = 128 << 10, Uuid = new Guid(0, 0, 0, 1, 2, 3, 4, 5, 6, 7, _pool) });
        if (pool.Value is null) { return pool.Error; }
        foreach (string name in new[] { "a", "b" })
        {
            OpenResult<Volume> volume = await pool.Value.CreateVolumeAsync(name, new VolumeOptions { LogBytes = 1 });
            if (volume.Value is null) { return volume.Error; }
        }
        Errno closed = await pool.Value.CloseAsync();
        return closed == Errno.None ? null : $"closing: {closed}";
    }

    /// <summary>Replaces what is drawn at random (uuids, hash keys) and told by the clock: the same seed must mean the same image for ever.</summary>
    private void FixIdentity()
    {
        ImageLayout layout = ImageLayout.Read(_image.ToArray());
        ImageNode catalogue = layout.Catalogue.Tree.Root;
        List<TreeItem> items = catalogue.Items();
        foreach (TreeItem item in items.Where(item => item.Type == DiskFormat.Volume))
        {
            DiskFormat.Put64(item.Value, 16, 1_700_000_000);
            Uuid(item.Sub).CopyTo(item.Value, 24);
        }
        if (!catalogue.TrySetItems(items)) { throw new InvalidOperationException("the catalogue grew"); }
        foreach (ImageVolume volume in layout.Volumes)
        {
            byte[] header = volume.Tree.Header;
            if (volume.Id != 0) { Uuid(volume.Id).CopyTo(header, 16); }
            for (int i = 0; i < 16; i++) { header[120 + i] = (byte)(i + (int)volume.Id + _pool); }
            WriteVolume(layout, volume);
        }
        _image.Keep();
        _history.Clear();
    }

    /// <summary>The superblock of an open pool names the process and the host that have it.</summary>
    private void ForgetOwner()
    {
        ImageLayout layout = ImageLayout.Read(_image.ToArray());
        layout.Superblock.AsSpan(128, 128).Clear();
        DiskFormat.Put32(layout.Superblock, DiskFormat.BlockCrc, DiskFormat.Crc(layout.Superblock.AsSpan(0, DiskFormat.BlockCrc)));
        foreach (int copy in new[] { layout.NewestSuperblock % 2, (layout.NewestSuperblock % 2) + 2 })
        {
            _image.Write((long)ImageLayout.SuperblockPlace(copy, layout.DeviceBlocks) * DiskFormat.BlockBytes, layout.Superblock);
        }
        _image.Keep();
    }

    private byte[] Uuid(ulong volume) => [.. Enumerable.Range(0, 16).Select(i => (byte)((i * 7) + (int)volume + _pool))];

    /// <summary>Puts a level on top of a tree of two: with volumes this small, none gets there by itself.</summary>
    private void RaiseTree(string name)
    {
        ImageLayout layout = ImageLayout.Read(_image.ToArray());
        ImageVolume volume = layout.Volume(name);
        ImageNode old = volume.Tree.Root;
        if (old.Level != 1 || old.Count < 4) { throw new InvalidOperationException($"'{name}' should have a root with some leaves; it is of level {old.Level} with {old.Count}"); }
        List<TreeItem> entries = old.Items();
        int cluster = Array.IndexOf(layout.Clusters, (DiskFormat.Node, volume.Id));
        ulong first = layout.DataStart + (ulong)(cluster * layout.ClusterBlocks);
        ulong[] free = [.. Enumerable.Range(0, layout.ClusterBlocks * 8 / DiskFormat.NodeBlocks).Select(i => first + (ulong)(i * DiskFormat.NodeBlocks)).Where(at => volume.Tree.NodeAt(at) is null).Take(3)];
        TreeItem left = WriteNode(old, free[0], 1, entries[..2]), right = WriteNode(old, free[1], 1, entries[2..]);
        TreeItem root = WriteNode(old, free[2], 2, [left, right]);
        root.Value.CopyTo(volume.Tree.Header, 56);
        DiskFormat.Put32(volume.Tree.Header, 76, 3);
        DiskFormat.Put32(volume.Tree.Header, DiskFormat.BlockCrc, DiskFormat.Crc(volume.Tree.Header.AsSpan(0, DiskFormat.BlockCrc)));
        WriteHeader(volume);
        _image.Keep();
    }

    /// <returns>The entry that leads to the node.</returns>
    private TreeItem WriteNode(ImageNode like, ulong address, int level, List<TreeItem> entries)
    {
        var node = new ImageNode(address, level, [.. like.Bytes], null, 0);
        DiskFormat.Put16(node.Bytes, 4, (ushort)level);
        DiskFormat.Put64(node.Bytes, 24, address);
        node.TrySetItems(entries);
        uint crc = DiskFormat.Crc(node.Bytes.AsSpan(0, DiskFormat.NodeCrc));
        DiskFormat.Put32(node.Bytes, DiskFormat.NodeCrc, crc);
        _image.Write((long)address * DiskFormat.BlockBytes, node.Bytes);
        var pointer = new byte[20];
        DiskFormat.Put64(pointer, 0, address);
        DiskFormat.Put64(pointer, 8, DiskFormat.U64(node.Bytes, 16));
        DiskFormat.Put32(pointer, 16, crc);
        return new TreeItem(entries[0].Object, entries[0].Item, pointer);
    }

    private void WriteVolume(ImageLayout layout, ImageVolume volume)
    {
        volume.Tree.Seal(layout.NodeAt);
        foreach (ImageNode node in volume.Tree.Nodes) { _image.Write((long)node.Address * DiskFormat.BlockBytes, node.Bytes); }
        WriteHeader(volume);
    }

    private void WriteHeader(ImageVolume volume)
    {
        _image.Write((long)volume.Slot(volume.NewestSlot % 2) * DiskFormat.BlockBytes, volume.Tree.Header);
        _image.Write((long)volume.Slot((volume.NewestSlot % 2) + 2) * DiskFormat.BlockBytes, volume.Tree.Header);
    }

    private async IoTask<string?> WithVolumesAsync(IBdev bdev, bool closes, Func<BlobfsSession, BlobfsSession, IoTask<Errno>> work)
    {
        OpenResult<Pool> pool = await Pool.OpenAsync(bdev, new PoolOptions());
        if (pool.Value is null) { return pool.Error; }
        var mounted = new List<VhostFs.Blobfs.Blobfs>();
        foreach (string name in new[] { "a", "b" })
        {
            OpenResult<Volume> volume = await pool.Value.OpenVolumeAsync(name);
            if (volume.Value is null) { return volume.Error; }
            FsResult<VhostFs.Blobfs.Blobfs> fs = await VhostFs.Blobfs.Blobfs.MountAsync(volume.Value, new BlobfsOptions { Clock = Now });
            if (fs.IsError) { return $"mounting {name}: {fs.Errno}"; }
            mounted.Add(fs.Value);
        }
        BlobfsSession[] sessions = [.. mounted.Select(fs => fs.OpenSession())];
        Errno done = await work(sessions[0], sessions[1]);
        if (done != Errno.None) { return $"the work: {done}"; }
        if (!closes) { return null; }
        for (int i = 0; i < 2; i++)
        {
            sessions[i].EndSession();
            await mounted[i].CloseAsync();
        }
        Errno closed = await pool.Value.CloseAsync();
        return closed == Errno.None ? null : $"closing: {closed}";
    }

    private async IoTask<Errno> FillAsync(BlobfsSession a, BlobfsSession b)
    {
        foreach (BlobfsSession fs in new[] { a, b })
        {
            ulong directory = await MakeDirectoryAsync(fs, Root, "d");
            ulong deeper = await MakeDirectoryAsync(fs, directory, "deeper");
            int files = fs == a ? 46 : 6;
            for (int i = 0; i < files; i++) { await MakeFileAsync(fs, i % 3 == 0 ? deeper : directory, $"file-{i}", 300 + (i * 29 % 1500)); }
            ulong blocks = await MakeFileAsync(fs, Root, "blocks", 70_000);
            await fs.LinkAsync(blocks, directory, Name("hard"));
            await MakeFileAsync(fs, Root, "one-block", 4096);
            await MakeFileAsync(fs, Root, "empty", 0);
            ulong sparse = await MakeFileAsync(fs, Root, "sparse", 5_000);
            await WriteAsync(fs, sparse, 3_000_000, 10_000);
            await fs.FallocateAsync(default, sparse, 0, 1, 1_000_000, 40_000);
            await fs.SymlinkAsync(s_root, Root, Name("short"), Name("d/file-0"));
            await fs.SymlinkAsync(s_root, Root, Name("long"), Name(new string('x', 4000)));
            await fs.MakeNodeAsync(s_root, Root, Name("fifo"), 0x1180, 0);
            await fs.MakeNodeAsync(s_root, Root, Name("device"), 0x2180, 0x103);
            await fs.SetXattrAsync(blocks, Name("user.small"), Bytes(20), 0, false);
            await fs.SetXattrAsync(blocks, Name("user.large"), Bytes(9_000), 0, false);
            await fs.SetXattrAsync(directory, Name("trusted.t"), Bytes(300), 0, false);
        }
        return Errno.None;
    }

    /// <summary>A second life, so that there are older versions of everything.</summary>
    private async IoTask<Errno> ChangeAsync(BlobfsSession a, BlobfsSession b)
    {
        foreach (BlobfsSession fs in new[] { a, b })
        {
            ulong directory = await FindAsync(fs, Root, "d"), blocks = await FindAsync(fs, Root, "blocks");
            await WriteAsync(fs, blocks, 0, 50_000);
            await WriteAsync(fs, await FindAsync(fs, Root, "one-block"), 100, 200);
            await WriteAsync(fs, await FindAsync(fs, directory, "file-1"), 0, 100);
            await fs.UnlinkAsync(directory, Name("file-2"));
            ulong newer = await MakeFileAsync(fs, Root, "newer", 12_000);
            // Blocks with two owners, and one with three.
            ulong clone = await MakeFileAsync(fs, Root, "clone", 0);
            await CopyAsync(fs, newer, 0, clone, 0, 12_000);
            await CopyAsync(fs, newer, 4096, clone, 40_960, 4096);
            Errno synced = await fs.SyncFsAsync();
            if (synced != Errno.None) { return synced; }
        }
        return Errno.None;
    }

    /// <summary>The life that ends in a crash: batches that later ones prove durable, and the last one, that nobody proves.</summary>
    private async IoTask<Errno> WorkAsync(BlobfsSession a, BlobfsSession b)
    {
        foreach (BlobfsSession fs in new[] { a, b })
        {
            ulong directory = await FindAsync(fs, Root, "d");
            // More than there is room for: the catalogue's log has a grant in it.
            ulong file = await MakeFileAsync(fs, directory, "logged", 120_000);
            await fs.SyncFsAsync();
            await WriteAsync(fs, file, 100, 300);
            await fs.SetXattrAsync(file, Name("user.big"), Bytes(15_000), 0, false);
            await WriteAsync(fs, await FindAsync(fs, Root, "one-block"), 1000, 500);
            await fs.UnlinkAsync(directory, Name("file-4"));
            // One owner less for two blocks, another one for the third, all in the log.
            ulong clone = await FindAsync(fs, Root, "clone");
            await WriteAsync(fs, clone, 100, 6_000);
            await CopyAsync(fs, clone, 8192, clone, 81_920, 3_808);
            // Open, and without a name: an orphan.
            ulong gone = await MakeFileAsync(fs, Root, "gone", 9_000);
            await fs.UnlinkAsync(Root, Name("gone"));
            await fs.TemporaryFileAsync(s_root, Root, 0x180, 0);
            await fs.SyncFsAsync();
            await WriteAsync(fs, gone, 0, 10);
            await fs.SyncFsAsync();
            await WriteAsync(fs, file, 8_000, 50);
            // 32 KiB and more: in the log by name, not as images.
            ulong last = await MakeFileAsync(fs, Root, "last", 36_000);
            await fs.SetXattrAsync(last, Name("user.big"), Bytes(15_000), 0, false);
        }
        return Errno.None;
    }

    private async IoTask<ulong> MakeFileAsync(BlobfsSession fs, ulong directory, string name, int length)
    {
        FsResult<InodeAttributes> made = await fs.MakeNodeAsync(s_root, directory, Name(name), FileMode, 0);
        if (made.IsError) { throw new InvalidOperationException($"creating {name}: {made.Errno}"); }
        if (length > 0) { await WriteAsync(fs, made.Value.Inode, 0, length); }
        return made.Value.Inode;
    }

    private async IoTask<ulong> MakeDirectoryAsync(BlobfsSession fs, ulong parent, string name) => (await fs.MakeDirectoryAsync(s_root, parent, Name(name), 0x1ED)).Value.Inode;

    private async IoTask<ulong> FindAsync(BlobfsSession fs, ulong directory, string name) => (await fs.LookupAsync(directory, Name(name))).Value.Inode;

    private static async IoTask<Errno> CopyAsync(BlobfsSession fs, ulong source, long from, ulong target, long to, long length)
    {
        IoResult copied = await fs.CopyFileRangeAsync(source, 0, from, target, 0, to, length);
        return copied.IsError || copied.Bytes != length ? throw new InvalidOperationException($"copying: {copied}") : Errno.None;
    }

    private async IoTask<Errno> WriteAsync(BlobfsSession fs, ulong file, long offset, int length)
    {
        IoVec bytes = Bytes(length);
        _list.Clear();
        _list.Add(bytes);
        IoResult written = await fs.WriteAsync(file, 0, offset, _list.View(), 1, false, false);
        return written.IsError ? throw new InvalidOperationException($"writing: {written.Errno}") : Errno.None;
    }

    private FsTime Now()
    {
        _clockNs += 1_000_001;
        return new FsTime(_clockNs / 1_000_000_000, (uint)(_clockNs % 1_000_000_000));
    }

    private IoVec Name(string name)
    {
        byte[] bytes = Encoding.UTF8.GetBytes(name);
        IoVec room = Room(bytes.Length);
        bytes.CopyTo(room.Span);
        return room;
    }

    private IoVec Bytes(int length)
    {
        IoVec room = Room(length);
        _random.NextBytes(room.Span);
        return room;
    }

    private IoVec Room(int length)
    {
        if (_used + length > _memory.Length) { _used = 0; }
        IoVec room = _memory.Slice(_used, length);
        _used += length;
        return room;
    }
}

/// <summary>One pool, as bytes.</summary>
/// <param name="Clean">Closed.</param>
/// <param name="Crashed">Later; killed in the middle of work.</param>
/// <param name="History">Every content that a block had, by block, oldest first.</param>
internal sealed record BaseImages(byte[] Clean, byte[] Crashed, IReadOnlyDictionary<int, List<byte[]>> History);
