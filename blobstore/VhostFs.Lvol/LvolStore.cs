using System.Text;
using VhostFs.Bdev;
using VhostFs.Blobfs;
using VhostFs.Blobstore;
using VhostFs.Fuse;
using VhostFs.Linux;
using VhostFs.Reactor;

namespace VhostFs.Lvol;

/// <summary>A store of logical volumes on a bdev: a pool with one file system, in which every logical volume is a file in the root directory.</summary>
/// <remarks>
/// <para>So a logical volume has everything that a file has: no space for what was never written, checksums, one log for all of them, a checker; and
/// <c>vhostfs mount</c> shows them on a host when no process serves the store.</para>
/// <para>On disk (docs/blobfs.md, "Logical volumes"): a bit in the superblock; the volume <see cref="VolumeName"/>; at its root the xattr <c>trusted.lvolstore</c> with the store's name; at each file <c>trusted.lvol</c>
/// with its UUID, 16 bytes. A file without one was being made when the process died, and goes. A read-only volume's file has no write permission.</para>
/// <para>Lives on the bdev's reactor, one call at a time; I/O of its volumes goes on meanwhile.</para>
/// </remarks>
public sealed class LvolStore
{
    public const string VolumeName = "lvols";

    /// <summary>Of a store's or a volume's name.</summary>
    public const int MaxNameBytes = 63;

    /// <summary>Before the name of a volume that is being made: a name that nobody can ask for.</summary>
    private const string Unfinished = ".lvol-being-made-";

    private const uint TypeMask = 0xF000, RegularFile = 0x8000; // S_IFMT, S_IFREG
    private const uint ReadWriteMode = 0x180, ReadOnlyMode = 0x100, OwnerWrites = 0x80; // 0600, 0400, 0200
    private const int UuidBytes = 16, ScratchBytes = 4096;
    private const ulong RootNode = 1;
    private const uint NoReplace = 1;

    private static readonly byte[] s_storeMark = "trusted.lvolstore"u8.ToArray(), s_lvolMark = "trusted.lvol"u8.ToArray();

    private readonly IBdev _bdev;
    private readonly Pool _pool;
    private readonly Blobfs.Blobfs _fileSystem;
    private readonly BlobfsSession _session;
    private readonly NativeBuffer _scratch = new(ScratchBytes);
    private readonly List<Lvol> _lvols = [];

    private LvolStore(IBdev bdev, Pool pool, Blobfs.Blobfs fileSystem)
    {
        _bdev = bdev;
        _pool = pool;
        _fileSystem = fileSystem;
        _session = fileSystem.OpenSession(accessTimes: AccessTimeMode.Off);
    }

    public Guid Uuid => _pool.Uuid;

    public string Name { get; private set; } = "";

    /// <summary>The bdev that it is on.</summary>
    public IBdev Bdev => _bdev;

    /// <summary>Bytes of the unit in which sizes are shown.</summary>
    public int ClusterBytes => _pool.ClusterBytes;

    public long TotalBytes => _fileSystem.Volume.Space.TotalBlocks * BlobData.BlockBytes;

    public long FreeBytes => Math.Max(_fileSystem.Volume.Space.AvailableBlocks, 0) * BlobData.BlockBytes;

    /// <summary>In the order of their making, or of the directory after a start.</summary>
    public IReadOnlyList<Lvol> Lvols => _lvols;

    internal static FuseCaller Root => new(0, 0, 0);

    /// <summary>Makes a store on a bdev that holds no pool; everything on it is lost.</summary>
    /// <param name="clusterBytes">0: as a pool has them.</param>
    public static async IoTask<OpenResult<LvolStore>> FormatAsync(IBdev bdev, string name, int clusterBytes, PoolOptions options)
    {
        if (NameError(name) is { } error) { return error; }
        OpenResult<Pool> formatted = await Pool.FormatAsync(bdev, new FormatOptions { ClusterBytes = clusterBytes, ForLogicalVolumes = true });
        if (formatted.Value is null) { return formatted.Error!; }
        // Closed and opened once more: formatting knows nothing of how we want it open.
        Errno closed = await formatted.Value.CloseAsync();
        if (closed != Errno.None) { return $"formatting {bdev.Name} failed: {closed}"; }
        OpenResult<Pool> opened = await Pool.OpenAsync(bdev, options);
        if (opened.Value is not { } pool) { return opened.Error!; }
        OpenResult<Volume> volume = await pool.CreateVolumeAsync(VolumeName, new VolumeOptions());
        if (volume.Value is null)
        {
            await pool.CloseAsync();
            return volume.Error!;
        }
        return await MountAsync(bdev, pool, name);
    }

    /// <summary>The store on a bdev; neither a value nor an error: there is none.</summary>
    public static async IoTask<OpenResult<LvolStore>> OpenAsync(IBdev bdev, PoolOptions options)
    {
        if (!await Pool.HoldsLogicalVolumesAsync(bdev)) { return new OpenResult<LvolStore>(null, null); }
        OpenResult<Pool> opened = await Pool.OpenAsync(bdev, options);
        if (opened.Value is not { } pool) { return opened.Error!; }
        if (pool.VolumeNames.Contains(VolumeName)) { return await MountAsync(bdev, pool, newName: null); }
        Errno closed = await pool.CloseAsync(); // the process that was making it died
        return new OpenResult<LvolStore>(null, closed == Errno.None ? null : $"the pool on {bdev.Name} could not be closed: {closed}");
    }

    /// <summary>Null, or what is wrong with a name for a store or a volume.</summary>
    public static string? NameError(string name)
    {
        byte[] bytes = Encoding.UTF8.GetBytes(name);
        return bytes.Length <= MaxNameBytes && FileLimits.IsName(bytes) && bytes[0] != '.' ? null : $"'{name}' is no name: 1 to {MaxNameBytes} bytes, no '/', and no '.' in front";
    }

    /// <param name="isThin">Space is taken when something is written; otherwise now.</param>
    /// <param name="uuid">Empty: a new one.</param>
    public async IoTask<FsResult<Lvol>> CreateAsync(string name, long sizeBytes, bool isThin, Guid uuid = default)
    {
        if (uuid == default) { uuid = Guid.NewGuid(); }
        string unfinished = Unfinished + name;
        FsResult<InodeAttributes> made = await _session.MakeNodeAsync(new CreateContext(Root, 0), RootNode, Put(Encoding.UTF8.GetBytes(unfinished)), RegularFile | ReadWriteMode, 0);
        if (made.IsError) { return made.Errno; }
        FsResult<InodeAttributes> finished = await FinishAsync(made.Value.Inode, unfinished, name, sizeBytes, isThin, uuid);
        if (!finished.IsError) { return Add(name, uuid, finished.Value); }
        await RemoveFileAsync(unfinished, made.Value.Inode);
        return finished.Errno;
    }

    /// <summary>Nobody uses its bdev any more. Its space comes back in the background.</summary>
    public async IoTask<Errno> DeleteAsync(Lvol lvol)
    {
        Errno removed = await RemoveFileAsync(lvol.Name, lvol.Node);
        if (removed == Errno.None) { removed = await SyncAsync(); }
        if (removed != Errno.None) { return removed; }
        _lvols.Remove(lvol);
        return Errno.None;
    }

    /// <summary>EEXIST: there is one of that name.</summary>
    public async IoTask<Errno> RenameAsync(Lvol lvol, string newName)
    {
        Errno renamed = await RenameFileAsync(lvol.Name, newName);
        if (renamed == Errno.None) { renamed = await SyncAsync(); }
        if (renamed != Errno.None) { return renamed; }
        lvol.Name = newName;
        lvol.Bdev.Alias = $"{Name}/{newName}";
        return Errno.None;
    }

    public async IoTask<Errno> RenameAsync(string newName)
    {
        Errno renamed = await SetMarkAsync(RootNode, s_storeMark, Encoding.UTF8.GetBytes(newName));
        if (renamed == Errno.None) { renamed = await SyncAsync(); }
        if (renamed != Errno.None) { return renamed; }
        Name = newName;
        foreach (Lvol lvol in _lvols) { lvol.Bdev.Alias = $"{newName}/{lvol.Name}"; }
        return Errno.None;
    }

    /// <inheritdoc cref="Pool.GrowAsync"/>
    public IoTask<Errno> GrowAsync() => _pool.GrowAsync();

    /// <summary>For good: nothing makes it writable again.</summary>
    public async IoTask<Errno> SetReadOnlyAsync(Lvol lvol)
    {
        FsResult<InodeAttributes> set = await _session.SetAttributesAsync(Root, lvol.Node, new SetAttributes(Mode: ReadOnlyMode));
        Errno done = set.IsError ? set.Errno : await SyncAsync();
        if (done == Errno.None) { lvol.Bdev.IsReadOnly = true; }
        return done;
    }

    /// <summary>Bytes that the volume takes of the store.</summary>
    public async IoTask<long> AllocatedBytesAsync(Lvol lvol)
    {
        FsResult<InodeAttributes> found = await _session.GetAttributesAsync(lvol.Node);
        return found.IsError ? 0 : found.Value.Blocks512 * 512;
    }

    /// <summary>Makes everything durable and lets go of the bdev. No volume is used any more.</summary>
    public async IoTask<Errno> CloseAsync()
    {
        _session.EndSession();
        Errno closed = await _fileSystem.CloseAsync();
        Errno pool = await _pool.CloseAsync();
        _scratch.Dispose();
        return closed == Errno.None ? pool : closed;
    }

    /// <summary>Closes it, and nothing on the bdev says any more that it was there.</summary>
    public async IoTask<Errno> DestroyAsync()
    {
        Errno closed = await CloseAsync();
        return closed == Errno.None ? await Pool.EraseAsync(_bdev) : closed;
    }

    /// <summary>One without a mark, whose making was not finished, is closed, and null.</summary>
    /// <param name="newName">Of a store that is being made.</param>
    private static async IoTask<OpenResult<LvolStore>> MountAsync(IBdev bdev, Pool pool, string? newName)
    {
        OpenResult<Volume> volume = await pool.OpenVolumeAsync(VolumeName);
        string? problem = volume.Error;
        if (volume.Value is { } opened)
        {
            FsResult<Blobfs.Blobfs> mounted = await Blobfs.Blobfs.MountAsync(opened, new BlobfsOptions());
            if (mounted.IsError) { problem = $"its file system cannot be mounted ({mounted.Errno})"; }
            else
            {
                var store = new LvolStore(bdev, pool, mounted.Value);
                Errno loaded = newName is null ? await store.LoadAsync() : await store.MarkAsync(newName);
                if (loaded == Errno.None) { return store; }
                await store.CloseAsync();
                return loaded == Errno.ENODATA ? new OpenResult<LvolStore>(null, null) : $"the logical volumes on {bdev.Name} cannot be read: {loaded}";
            }
        }
        await pool.CloseAsync();
        return $"the logical volumes on {bdev.Name} cannot be read: {problem}";
    }

    // The mark is what makes it a store, and is durable before anybody hears of it.
    private async IoTask<Errno> MarkAsync(string name)
    {
        Name = name;
        Errno marked = await SetMarkAsync(RootNode, s_storeMark, Encoding.UTF8.GetBytes(name));
        return marked == Errno.None ? await SyncAsync() : marked;
    }

    private async IoTask<Errno> LoadAsync()
    {
        (Errno found, byte[] name) = await GetMarkAsync(RootNode, s_storeMark);
        if (found != Errno.None) { return found; }
        Name = Encoding.UTF8.GetString(name);
        if (NameError(Name) is not null) { return Errno.EIO; }
        var names = new NameCollector();
        for (int known = -1; known < names.All.Count;)
        {
            known = names.All.Count;
            Errno read = await _session.ReadDirectoryAsync(RootNode, 0, names.Cookie, names);
            if (read != Errno.None) { return read; }
        }
        foreach (byte[] file in names.All)
        {
            Errno loaded = await LoadAsync(file);
            if (loaded != Errno.None) { return loaded; }
        }
        return Errno.None;
    }

    private async IoTask<Errno> LoadAsync(byte[] file)
    {
        FsResult<InodeAttributes> found = await _session.LookupAsync(RootNode, Put(file));
        if (found.IsError) { return found.Errno; }
        ulong node = found.Value.Inode;
        string name = Encoding.UTF8.GetString(file);
        if (name.StartsWith(Unfinished, StringComparison.Ordinal)) { return await RemoveFileAsync(name, node); }
        (Errno marked, byte[] uuid) = await GetMarkAsync(node, s_lvolMark);
        if (marked == Errno.None && uuid.Length == UuidBytes && IsDisk(found.Value))
        {
            Add(name, new Guid(uuid), found.Value);
            return Errno.None;
        }
        // What somebody else has put there is his.
        _session.Forget(node, 1);
        return marked == Errno.ENODATA ? Errno.None : marked;
    }

    private bool IsDisk(in InodeAttributes attributes) => (attributes.Mode & TypeMask) == RegularFile && attributes.SizeBytes > 0 && attributes.SizeBytes % _bdev.BlockSize == 0;

    // Complete under a name that nobody can ask for, then renamed: whoever finds a volume finds all of it.
    private async IoTask<FsResult<InodeAttributes>> FinishAsync(ulong node, string unfinished, string name, long sizeBytes, bool isThin, Guid uuid)
    {
        Errno done = await SetMarkAsync(node, s_lvolMark, uuid.ToByteArray());
        if (done == Errno.None) { done = (await _session.SetAttributesAsync(Root, node, new SetAttributes(SizeBytes: sizeBytes))).Errno; }
        if (done == Errno.None && !isThin) { done = await _session.FallocateAsync(Root, node, 0, 0, 0, sizeBytes); }
        if (done == Errno.None) { done = await RenameFileAsync(unfinished, name); }
        if (done == Errno.None) { done = await SyncAsync(); }
        return done == Errno.None ? await _session.GetAttributesAsync(node) : done;
    }

    private Lvol Add(string name, Guid uuid, in InodeAttributes attributes)
    {
        bool isReadOnly = (attributes.Mode & OwnerWrites) == 0;
        var bdev = new LvolBdev(_session, attributes.Inode, $"{Name}/{name}", uuid, _bdev.BlockSize, attributes.SizeBytes, isReadOnly, _bdev.HasWriteCache);
        var lvol = new Lvol(name, attributes.Inode, bdev);
        _lvols.Add(lvol);
        return lvol;
    }

    private async IoTask<Errno> RemoveFileAsync(string name, ulong node)
    {
        Errno removed = await _session.UnlinkAsync(RootNode, Put(Encoding.UTF8.GetBytes(name)));
        if (removed == Errno.None) { _session.Forget(node, 1); }
        return removed;
    }

    private IoTask<Errno> RenameFileAsync(string name, string newName)
    {
        byte[] from = Encoding.UTF8.GetBytes(name), to = Encoding.UTF8.GetBytes(newName);
        IoVec first = Put(from), second = Put(to, from.Length);
        return _session.RenameAsync(Root, RootNode, first, RootNode, second, NoReplace);
    }

    private IoTask<Errno> SetMarkAsync(ulong node, byte[] name, byte[] value) => _session.SetXattrAsync(node, Put(name), Put(value, name.Length), 0, killSgid: false);

    private async IoTask<(Errno Errno, byte[] Value)> GetMarkAsync(ulong node, byte[] name)
    {
        IoResult read = await _session.GetXattrAsync(node, Put(name), _scratch.Slice(ScratchBytes / 2, ScratchBytes / 2));
        return read.IsError ? (read.Errno, []) : (Errno.None, _scratch.Span.Slice(ScratchBytes / 2, read.Bytes).ToArray());
    }

    private IoTask<Errno> SyncAsync() => _session.SyncFsAsync();

    private IoVec Put(byte[] bytes, int at = 0)
    {
        bytes.CopyTo(_scratch.Span[at..]);
        return _scratch.Slice(at, bytes.Length);
    }

    /// <summary>Takes names only, as many as there are.</summary>
    private sealed class NameCollector : DirectoryWriter
    {
        public List<byte[]> All { get; } = [];

        public ulong Cookie { get; private set; }

        public override bool WantsAttributes => false;

        public override bool TryAdd(ReadOnlySpan<byte> name, ulong inode, ulong cookie, uint type)
        {
            Cookie = cookie;
            if (FileLimits.IsName(name)) { All.Add(name.ToArray()); }
            return true;
        }

        public override bool TryAdd(ReadOnlySpan<byte> name, in InodeAttributes attributes, ulong cookie) => TryAdd(name, attributes.Inode, cookie, 0);
    }
}

/// <summary>A volume of a store.</summary>
public sealed class Lvol
{
    internal Lvol(string name, ulong node, LvolBdev bdev)
    {
        Name = name;
        Node = node;
        Bdev = bdev;
    }

    public string Name { get; internal set; }

    public LvolBdev Bdev { get; }

    internal ulong Node { get; }
}
