using System.Text;
using VhostFs.Bdev;
using VhostFs.Blobfs;
using VhostFs.Blobstore;
using VhostFs.Fuse;
using VhostFs.Linux;
using VhostFs.Reactor;
using IoReactor = VhostFs.Reactor.Reactor;

namespace VhostFs.Crash.Tests.Explorer;

/// <summary>Short sequences of file operations over a few names, each possibly made durable, after the manner of ACE (CrashMonkey).</summary>
/// <remarks>Before each sequence the disk holds /a, /a/x (one block and a bit), /a/y (inline), /b, /b/z (20 blocks), all durable.</remarks>
public sealed class FileSystemWorkload : IDisposable
{
    private const ulong Root = 1;
    private const uint FileMode = 0x81A4, DirectoryMode = 0x1ED;

    private static readonly (string Name, Func<FileSystemWorkload, IoTask<Errno>> Run)[] s_operations =
    [
        ("create /a/n", w => w.CreateAsync("a", "n")),
        ("mkdir /a/d", w => w.Errno(w._session.MakeDirectoryAsync(w.Context, w.Directory("a"), w.Name("d"), DirectoryMode))),
        ("symlink /b/s", w => w.Errno(w._session.SymlinkAsync(w.Context, w.Directory("b"), w.Name("s"), w.Name("../a/x")))),
        ("link /a/x /b/x", w => w.Errno(w._session.LinkAsync(w.File("x"), w.Directory("b"), w.Name("x")))),
        ("unlink /a/x", w => w._session.UnlinkAsync(w.Directory("a"), w.Name("x"))),
        ("unlink /b/z", w => w._session.UnlinkAsync(w.Directory("b"), w.Name("z"))),
        ("rename /a/x /b/x", w => w._session.RenameAsync(default, w.Directory("a"), w.Name("x"), w.Directory("b"), w.Name("x"), 0)),
        ("rename /a/x over /a/y", w => w._session.RenameAsync(default, w.Directory("a"), w.Name("x"), w.Directory("a"), w.Name("y"), 0)),
        ("rename /a/y over /b/z", w => w._session.RenameAsync(default, w.Directory("a"), w.Name("y"), w.Directory("b"), w.Name("z"), 0)),
        ("exchange /a/x and /b/z", w => w._session.RenameAsync(default, w.Directory("a"), w.Name("x"), w.Directory("b"), w.Name("z"), 2)),
        ("rename /a /b/c", w => w._session.RenameAsync(default, Root, w.Name("a"), w.Directory("b"), w.Name("c"), 0)),
        ("rmdir /b/e", w => w._session.RemoveDirectoryAsync(w.Directory("b"), w.Name("e"))),
        ("overwrite in /a/x", w => w.WriteAsync("x", 1000, 2000)),
        ("append to /a/x", w => w.WriteAsync("x", 5000, 9000)),
        ("append to /a/y, out of line", w => w.WriteAsync("y", 100, 6000)),
        ("overwrite all of /b/z", w => w.WriteAsync("z", 0, 80_000)),
        ("write far behind the end of /a/x", w => w.WriteAsync("x", 200_001, 10)),
        ("truncate /b/z to 10,001", w => w.TruncateAsync("z", 10_001)),
        ("truncate /a/x to 0", w => w.TruncateAsync("x", 0)),
        ("extend /a/y to 7,000", w => w.TruncateAsync("y", 7_000)),
        ("punch /b/z", w => w._session.FallocateAsync(default, w.File("z"), 0, 3, 6000, 30_000)),
        ("preallocate /a/x", w => w._session.FallocateAsync(default, w.File("x"), 0, 1, 0, 40_000)),
        ("setxattr /a/x", w => w._session.SetXattrAsync(w.File("x"), w.Name("user.k"), w.Bytes(5000), 0, false)),
        ("chmod /b/z", w => w.Errno(w._session.SetAttributesAsync(default, w.File("z"), new SetAttributes(Mode: 0x81C0)))),
    ];

    private readonly Random _random;
    private readonly NativeBuffer _memory = new(1 << 20);
    private readonly IoVecList _list = new(1);
    private readonly Dictionary<string, ulong> _inodes = [];
    private BlobfsSession _session = null!;
    private int _used;
    private long _clockNs = 1_000_000_000;

    private FileSystemWorkload(int seed) => _random = new Random(seed);

    public static int OperationCount => s_operations.Length;

    private CreateContext Context => new(new FuseCaller(0, 0, 1), 0);

    public static string Describe(IReadOnlyList<int> operations) => string.Join(", ", operations.Select(i => s_operations[i].Name));

    /// <summary>The disk that every sequence begins with.</summary>
    public static byte[] Format(long sizeBytes)
    {
        var image = new DiskImage(RawWorkload.Format(sizeBytes, dataChecksums: true));
        using var workload = new FileSystemWorkload(0);
        using var bdev = new ImageBdev(image);
        using var reactor = new IoReactor(new SimulatedDriver(), "format");
        Check(reactor.RunUntilComplete(() => workload.WithSessionAsync(bdev, null, workload.PrepareAsync)), "preparing the disk");
        return image.ToArray();
    }

    /// <summary>Runs the operations, with a sync after those whose bit is set in <paramref name="syncs"/>, and records.</summary>
    public static CrashTrace Run(byte[] disk, IReadOnlyList<int> operations, int syncs, int seed)
    {
        using var workload = new FileSystemWorkload(seed);
        using var bdev = new RecordingBdev(new JitterBdev(new ImageBdev(new DiskImage(disk)), workload._random));
        var trace = new CrashTrace(bdev, disk);
        using var reactor = new IoReactor(new SimulatedDriver(), "workload");
        Check(reactor.RunUntilComplete(() => workload.WithSessionAsync(bdev, trace, volume => workload.RunAsync(volume, trace, operations, syncs))), "the workload");
        return trace;
    }

    public void Dispose()
    {
        _memory.Dispose();
        _list.Dispose();
    }

    private static void Check(string? problem, string what)
    {
        if (problem is not null) { throw new InvalidOperationException($"{what}: {problem}"); }
    }

    private async IoTask<string?> WithSessionAsync(IBdev bdev, CrashTrace? trace, Func<Volume, IoTask<string?>> work)
    {
        OpenResult<Pool> pool = await Pool.OpenAsync(bdev, new PoolOptions());
        if (pool.Value is null) { return pool.Error; }
        OpenResult<Volume> volume = await pool.Value.OpenVolumeAsync(RawWorkload.VolumeName);
        if (volume.Value is null) { return volume.Error; }
        FsResult<VhostFs.Blobfs.Blobfs> mounted = await VhostFs.Blobfs.Blobfs.MountAsync(volume.Value, new BlobfsOptions { Clock = Now });
        if (mounted.IsError) { return $"mounting: {mounted.Errno}"; }
        if (trace is not null)
        {
            (ulong hash, string? unreadable) = await FileSystemContent.HashAsync(volume.Value);
            if (unreadable is not null) { return unreadable; }
            trace.AddVersion(hash);
        }
        _session = mounted.Value.OpenSession();
        if (await work(volume.Value) is { } problem) { return problem; }
        _session.EndSession();
        Errno closed = await mounted.Value.CloseAsync();
        if (closed == Linux.Errno.None) { closed = await pool.Value.CloseAsync(); }
        trace?.Durable(trace.CurrentVersion);
        return closed == Linux.Errno.None ? null : $"closing: {closed}";
    }

    private async IoTask<string?> PrepareAsync(Volume volume)
    {
        foreach ((string directory, ulong parent) in new[] { ("a", Root), ("b", Root), ("e", 0UL) })
        {
            FsResult<InodeAttributes> made = await _session.MakeDirectoryAsync(Context, parent == 0 ? _inodes["b"] : parent, Name(directory), DirectoryMode);
            if (made.IsError) { return $"mkdir {directory}: {made.Errno}"; }
            _inodes[directory] = made.Value.Inode;
        }
        foreach ((string directory, string file, int size) in new[] { ("a", "x", 5000), ("a", "y", 100), ("b", "z", 80_000) })
        {
            FsResult<InodeAttributes> made = await _session.MakeNodeAsync(Context, _inodes[directory], Name(file), FileMode, 0);
            if (made.IsError) { return $"creating {file}: {made.Errno}"; }
            _inodes[file] = made.Value.Inode;
            Errno written = await WriteAsync(file, 0, size);
            if (written != Linux.Errno.None) { return $"writing {file}: {written}"; }
        }
        return null;
    }

    private async IoTask<string?> RunAsync(Volume volume, CrashTrace trace, IReadOnlyList<int> operations, int syncs)
    {
        foreach ((string name, string parent) in new[] { ("a", ""), ("b", ""), ("e", "b"), ("x", "a"), ("y", "a"), ("z", "b") })
        {
            FsResult<InodeAttributes> found = await _session.LookupAsync(parent.Length == 0 ? Root : _inodes[parent], Name(name));
            if (found.IsError) { return $"looking up {name}: {found.Errno}"; }
            _inodes[name] = found.Value.Inode;
        }
        for (int i = 0; i < operations.Count; i++)
        {
            // An operation may be refused because of the one before: that is a result like any other.
            Errno done = await s_operations[operations[i]].Run(this);
            if (done == Linux.Errno.EIO) { return $"{s_operations[operations[i]].Name}: {done}"; }
            (ulong hash, string? problem) = await FileSystemContent.HashAsync(volume);
            if (problem is not null) { return problem; }
            trace.AddVersion(hash);
            trace.Replied(trace.CurrentVersion);
            if ((syncs & (1 << i)) == 0) { continue; }
            Errno synced = await _session.SyncFsAsync();
            if (synced != Linux.Errno.None) { return $"syncing: {synced}"; }
            trace.Durable(trace.CurrentVersion);
        }
        return null;
    }

    private FsTime Now()
    {
        _clockNs += 1_000_001;
        return new FsTime(_clockNs / 1_000_000_000, (uint)(_clockNs % 1_000_000_000));
    }

    private async IoTask<Errno> Errno(IoTask<FsResult<InodeAttributes>> operation) => (await operation).Errno;

    private IoTask<Errno> CreateAsync(string directory, string name) => Errno(_session.MakeNodeAsync(Context, Directory(directory), Name(name), FileMode, 0));

    private async IoTask<Errno> WriteAsync(string file, long offset, int length)
    {
        IoVec bytes = Bytes(length);
        _list.Clear();
        _list.Add(bytes);
        return (await _session.WriteAsync(File(file), 0, offset, _list.View(), 1, false, false)).Errno;
    }

    private IoTask<Errno> TruncateAsync(string file, long size) => Errno(_session.SetAttributesAsync(default, File(file), new SetAttributes(SizeBytes: size)));

    private ulong Directory(string name) => _inodes[name];

    private ulong File(string name) => _inodes[name];

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
