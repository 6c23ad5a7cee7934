using System.Text;
using VhostFs.Bdev;
using VhostFs.Blobfs;
using VhostFs.Blobstore;
using VhostFs.Blobstore.Check;
using VhostFs.Crash.Tests.Explorer;
using VhostFs.Fuse;
using VhostFs.Linux;
using VhostFs.Reactor;
using IoReactor = VhostFs.Reactor.Reactor;
using MountedFs = VhostFs.Blobfs.Blobfs;

namespace VhostFs.Model.Tests;

/// <summary>How one sequence is run.</summary>
/// <param name="CacheBytes">Small: operations start over all the time.</param>
/// <param name="IsSlow">The bdev answers late and out of order.</param>
/// <param name="Collides">All names have one of four hashes.</param>
internal sealed record ModelSetting(int Seed, int Sessions, long CacheBytes, bool IsSlow, bool Collides);

/// <summary>The file system under test, on a disk in memory.</summary>
internal sealed class ModelHost : IDisposable
{
    private const int DiskBytes = 24 << 20;
    private const int MemoryBytes = 4 << 20;
    private static readonly Lazy<byte[]> s_empty = new(Format);

    /// <summary>For each thread, as a copy of the disk costs more than a sequence.</summary>
    [ThreadStatic] private static DiskImage? t_image;
    [ThreadStatic] private static NativeBuffer? t_memory;
    [ThreadStatic] private static Dictionary<long, NodeCache>? t_caches;

    private readonly ModelSetting _setting;
    private readonly Random _random;
    private readonly List<IoVecList> _lists = [];
    private readonly IFileSystem[] _sessions = new IFileSystem[Spec.MaxSessions];
    private readonly Func<IFileSystem, IFileSystem> _wrap;
    private readonly ImageBdev _disk;
    private IoReactor _reactor = new(new SimulatedDriver(), "model");
    private MountedFs _fileSystem = null!;
    private Pool _pool = null!;
    private int _used;
    private int _nextList;

    public ModelHost(ModelSetting setting, Func<IFileSystem, IFileSystem> wrap)
    {
        _setting = setting;
        _wrap = wrap;
        _random = new Random(setting.Seed);
        t_image ??= new DiskImage(s_empty.Value);
        t_image.Reset();
        t_memory ??= new NativeBuffer(MemoryBytes);
        t_caches ??= [];
        _disk = new ImageBdev(t_image);
        Mount();
    }

    public FsTime Now { get; set; } = new(1_000_000, 0);

    public int OrphanCount => _fileSystem.OrphanCount;

    public long FreeBlocks => _fileSystem.Volume.Space.FreeBlocks;

    public Outcome[] Run(IReadOnlyList<Command> commands)
    {
        var outcomes = new Outcome[commands.Count];
        if (commands.Count == 1)
        {
            outcomes[0] = _reactor.RunUntilComplete(() => RunAsync(commands[0], _sessions[commands[0].Session]));
            return outcomes;
        }
        var running = new IoTask<Outcome>[commands.Count];
        _reactor.RunUntilComplete(() =>
        {
            for (int i = 0; i < running.Length; i++) { running[i] = RunAsync(commands[i], _sessions[commands[i].Session]); }
            return new IoTask<int>(0);
        });
        for (int i = 0; i < running.Length; i++) { outcomes[i] = _reactor.RunUntilComplete(running[i]); }
        return outcomes;
    }

    /// <summary>Reads without leaving a trace.</summary>
    public Outcome Look(Command command) => _reactor.RunUntilComplete(() => RunAsync(command, _wrap(_fileSystem.OpenSession(isReadOnly: true))));

    public void EndSession(int session) => Do(() => _sessions[session].EndSession());

    /// <summary>Deletions go on in the background; they have to come to an end.</summary>
    public bool WaitForOrphans(int left)
    {
        for (int turn = 0; turn < 10_000 && OrphanCount != left; turn++) { _reactor.RunUntilComplete(() => IoReactor.Current.DelayAsync(1000)); }
        return OrphanCount == left;
    }

    /// <summary>Null, or what went wrong.</summary>
    public string? Remount(bool clean)
    {
        if (clean)
        {
            Do(() => { foreach (IFileSystem session in _sessions) { session.EndSession(); } });
            Errno closed = _reactor.RunUntilComplete(_fileSystem.CloseAsync);
            if (closed == Errno.None) { closed = _reactor.RunUntilComplete(_pool.CloseAsync); }
            if (closed != Errno.None) { return $"closing: {closed}"; }
        }
        _reactor.Dispose();
        _reactor = new IoReactor(new SimulatedDriver(), "model");
        _disk.ReleaseClaim();
        if (!clean) { t_caches![_setting.CacheBytes] = new NodeCache(_setting.CacheBytes); }
        if (!_setting.Collides)
        {
            CheckReport report = _reactor.RunUntilComplete(() => PoolChecker.CheckAsync(_disk, CheckOptions.Default));
            if (!report.IsClean) { return $"the checker: {string.Join("; ", report.Findings.Take(3))}"; }
        }
        Mount();
        return null;
    }

    public void Dispose()
    {
        _reactor.Dispose();
        foreach (IoVecList list in _lists) { list.Dispose(); }
        if (t_caches![_setting.CacheBytes].UsedBytes > 0) { t_caches.Remove(_setting.CacheBytes); }
    }

    private static byte[] Format()
    {
        var image = new DiskImage(new byte[DiskBytes]);
        using var bdev = new ImageBdev(image);
        using var reactor = new IoReactor(new SimulatedDriver(), "format");
        string? problem = reactor.RunUntilComplete(async IoTask<string?> () =>
        {
            OpenResult<Pool> pool = await Pool.FormatAsync(bdev, new FormatOptions { ClusterBytes = 128 << 10 });
            if (pool.Value is null) { return pool.Error; }
            OpenResult<Volume> volume = await pool.Value.CreateVolumeAsync("v", new VolumeOptions());
            if (volume.Value is null) { return volume.Error; }
            return await pool.Value.CloseAsync() == Errno.None ? null : "closing";
        });
        return problem is null ? image.ToArray() : throw new InvalidOperationException(problem);
    }

    private void Mount()
    {
        if (!t_caches!.TryGetValue(_setting.CacheBytes, out NodeCache? cache)) { t_caches[_setting.CacheBytes] = cache = new NodeCache(_setting.CacheBytes); }
        IBdev bdev = _setting.IsSlow ? new DelayBdev(_disk, _reactor) { Jitter = _ => _random.Next(200_000) } : _disk;
        string? problem = _reactor.RunUntilComplete(async IoTask<string?> () =>
        {
            OpenResult<Pool> pool = await Pool.OpenAsync(bdev, new PoolOptions { NodeCache = cache });
            if (pool.Value is null) { return pool.Error; }
            _pool = pool.Value;
            OpenResult<Volume> volume = await _pool.OpenVolumeAsync("v");
            if (volume.Value is null) { return volume.Error; }
            var options = new BlobfsOptions { Clock = () => Now, NameHash = _setting.Collides ? static name => (ulong)(name[^1] % 4) << 40 : null };
            FsResult<MountedFs> mounted = await MountedFs.MountAsync(volume.Value, options);
            _fileSystem = mounted.Value;
            return mounted.IsError ? $"mounting: {mounted.Errno}" : null;
        });
        if (problem is not null) { throw new InvalidOperationException(problem); }
        for (int i = 0; i < _sessions.Length; i++) { _sessions[i] = _wrap(_fileSystem.OpenSession()); }
    }

    private void Do(Action work) => _reactor.RunUntilComplete(() =>
    {
        work();
        return new IoTask<int>(0);
    });

    private async IoTask<Outcome> RunAsync(Command c, IFileSystem fs)
    {
        var context = new CreateContext(c.Caller, c.Umask);
        switch (c.Kind)
        {
            case CommandKind.Lookup: return Told(await fs.LookupAsync(c.Inode, Text(c.Name)));
            case CommandKind.Forget: fs.Forget(c.Inode, (ulong)c.Length); return Outcome.Ok;
            case CommandKind.GetAttributes: return Told(await fs.GetAttributesAsync(c.Inode));
            case CommandKind.SetAttributes or CommandKind.SetSize: return Told(await fs.SetAttributesAsync(c.Caller, c.Inode, c.Changes));
            case CommandKind.ReadLink: return await BytesAsync(4096, target => fs.ReadLinkAsync(c.Inode, target));
            case CommandKind.Symlink: return Told(await fs.SymlinkAsync(context, c.Inode, Text(c.Name), Copy(c.Data)));
            case CommandKind.MakeNode: return Told(await fs.MakeNodeAsync(context, c.Inode, Text(c.Name), c.Mode, c.Flags));
            case CommandKind.MakeDirectory: return Told(await fs.MakeDirectoryAsync(context, c.Inode, Text(c.Name), c.Mode));
            case CommandKind.Unlink: return await fs.UnlinkAsync(c.Inode, Text(c.Name));
            case CommandKind.RemoveDirectory: return await fs.RemoveDirectoryAsync(c.Inode, Text(c.Name));
            case CommandKind.Rename: return await fs.RenameAsync(c.Caller, c.Inode, Text(c.Name), c.Inode2, Text(c.Name2), c.Flags);
            case CommandKind.Link: return Told(await fs.LinkAsync(c.Inode, c.Inode2, Text(c.Name2)));
            case CommandKind.Open: return (await fs.OpenAsync(c.Inode, c.Flags, c.Kill)).Errno;
            case CommandKind.Create: return Told(await fs.CreateAsync(context, c.Inode, Text(c.Name), c.Mode, c.Flags, c.Kill));
            case CommandKind.Temporary: return Told(await fs.TemporaryFileAsync(context, c.Inode, c.Mode, c.Flags));
            case CommandKind.Read: return await BytesAsync((int)c.Length, target => fs.ReadAsync(c.Inode, 0, c.Offset, List(target)));
            case CommandKind.Write: return Number(await fs.WriteAsync(c.Inode, 0, c.Offset, List(Copy(c.Data)), c.Flags, false, c.Kill));
            case CommandKind.Release: return await fs.ReleaseAsync(c.Inode, 0);
            case CommandKind.Flush: return await fs.FlushAsync(c.Inode, 0, 0);
            case CommandKind.OpenDirectory: return (await fs.OpenDirectoryAsync(c.Inode, 0)).Errno;
            case CommandKind.ReleaseDirectory: return await fs.ReleaseDirectoryAsync(c.Inode, 0);
            case CommandKind.ReadDirectory: return await ListAsync(fs, c);
            case CommandKind.GetXattr:
                if (c.Length == 0) { return Number(await fs.GetXattrAsync(c.Inode, Text(c.Name), default)); }
                return await BytesAsync((int)c.Length, target => fs.GetXattrAsync(c.Inode, Text(c.Name), target));
            case CommandKind.ListXattr:
                if (c.Length == 0) { return Number(await fs.ListXattrAsync(c.Caller, c.Inode, default)); }
                Outcome listed = await BytesAsync((int)c.Length, target => fs.ListXattrAsync(c.Caller, c.Inode, target));
                return listed.Bytes is not { } names ? listed
                    : new Outcome(Errno.None, Names: [.. Encoding.UTF8.GetString(names).Split('\0', StringSplitOptions.RemoveEmptyEntries).Order(StringComparer.Ordinal)]);
            case CommandKind.SetXattr or CommandKind.SetAcl: return await fs.SetXattrAsync(c.Inode, Text(c.Name), Copy(c.Data), c.Flags, c.Kill);
            case CommandKind.RemoveXattr: return await fs.RemoveXattrAsync(c.Inode, Text(c.Name));
            case CommandKind.Fallocate: return await fs.FallocateAsync(c.Caller, c.Inode, 0, c.Mode, c.Offset, c.Length);
            case CommandKind.Seek:
                FsResult<long> found = await fs.SeekAsync(c.Inode, 0, c.Offset, c.Flags);
                return new Outcome(found.Errno, Number: found.Value);
            case CommandKind.Copy: return Number(await fs.CopyFileRangeAsync(c.Inode, 0, c.Offset, c.Inode2, 0, c.Offset2, c.Length));
            case CommandKind.Fsync: return await fs.FsyncAsync(c.Inode, 0, false);
            case CommandKind.SyncFs: return await fs.SyncFsAsync();
            case CommandKind.StatFs: return (await fs.StatFsAsync()).Errno;
            default: throw new InvalidOperationException($"{c.Kind}");
        }
    }

    private static async IoTask<Outcome> ListAsync(IFileSystem fs, Command c)
    {
        var names = new List<string>();
        for (ulong cookie = 0; ;)
        {
            var writer = new ModelWriter((int)c.Length, plus: c.Kill);
            Errno listed = await fs.ReadDirectoryAsync(c.Inode, 0, cookie, writer);
            foreach (ulong inode in writer.Referenced) { fs.Forget(inode, 1); }
            if (listed != Errno.None) { return listed; }
            if (writer.Names.Count == 0) { return new Outcome(Errno.None, Names: [.. names.Order(StringComparer.Ordinal)]); }
            names.AddRange(writer.Names);
            cookie = writer.LastCookie;
        }
    }

    private async IoTask<Outcome> BytesAsync(int length, Func<IoVec, IoTask<IoResult>> read)
    {
        IoVec target = Room(length);
        IoResult result = await read(target);
        return result.IsError ? result.Errno : new Outcome(Errno.None, Bytes: target.Span[..result.Bytes].ToArray());
    }

    private static Outcome Number(IoResult result) => result.IsError ? result.Errno : new Outcome(Errno.None, Number: result.Bytes);

    private static Outcome Told(FsResult<InodeAttributes> result) => result.IsError ? result.Errno : new Outcome(Errno.None, Attributes: result.Value);

    private static Outcome Told(FsResult<CreatedFile> result) => result.IsError ? result.Errno : new Outcome(Errno.None, Attributes: result.Value.Attributes);

    private IoVec Text(string text)
    {
        IoVec room = Room(Encoding.UTF8.GetByteCount(text));
        Encoding.UTF8.GetBytes(text, room.Span);
        return room;
    }

    private IoVec Copy(byte[] bytes)
    {
        IoVec room = Room(bytes.Length);
        bytes.CopyTo(room.Span);
        return room;
    }

    private IoVec Room(int length)
    {
        if (_used + length > MemoryBytes) { _used = 0; }
        IoVec room = t_memory!.Slice(_used, length);
        _used += (length + 7) & ~7;
        return room;
    }

    private IoVecs List(IoVec vec)
    {
        if (_lists.Count < 8) { _lists.Add(new IoVecList(1)); }
        IoVecList list = _lists[_nextList++ % _lists.Count];
        list.Clear();
        list.Add(vec);
        return list.View();
    }
}

/// <summary>Takes a few names per call.</summary>
internal sealed class ModelWriter(int capacity, bool plus) : DirectoryWriter
{
    public List<string> Names { get; } = [];

    public List<ulong> Referenced { get; } = [];

    public ulong LastCookie { get; private set; }

    public override bool WantsAttributes => plus;

    public override bool TryAdd(ReadOnlySpan<byte> name, ulong inode, ulong cookie, uint type)
    {
        if (Names.Count >= Math.Max(capacity, 1)) { return false; }
        Names.Add($"{Encoding.UTF8.GetString(name)}:{type}");
        LastCookie = cookie;
        return true;
    }

    public override bool TryAdd(ReadOnlySpan<byte> name, in InodeAttributes attributes, ulong cookie)
    {
        if (!TryAdd(name, attributes.Inode, cookie, attributes.Mode >> 12)) { return false; }
        Referenced.Add(attributes.Inode);
        return true;
    }
}
