using System.Text;
using VhostFs.Bdev;
using VhostFs.Blobstore;
using VhostFs.Blobstore.Check;
using VhostFs.Fuse;
using VhostFs.Linux;
using VhostFs.Reactor;
using Xunit;
using IoReactor = VhostFs.Reactor.Reactor;

namespace VhostFs.Blobfs.Tests;

/// <summary>A blobfs on a memory bdev and a simulated reactor, with the operations in a form tests can read.</summary>
internal sealed class BlobfsHarness : IDisposable
{
    public const ulong Root = 1;
    public const uint Regular = FileMode.S_IFREG;
    private readonly MallocBdev _data;
    private readonly long _delayNs;
    private IBdev _bdev;
    private readonly NativeBuffer _memory = new(16 << 20);
    private readonly IoVecList _list = new();
    private readonly BlobfsOptions _options;
    private readonly long _cacheBytes;
    private IoReactor _reactor = new(new SimulatedDriver(), "test");
    private Pool _pool = null!;
    private int _used;
    private long _clock = 1_000_000_000_000;

    public BlobfsHarness(long poolBytes = 64L << 20, long cacheBytes = 256L << 20, BlobfsOptions? options = null, long delayNs = 0, bool canFail = false)
    {
        _data = new MallocBdev("malloc0", poolBytes);
        _delayNs = delayNs;
        Faults = canFail ? new ErrorBdev(_data) : null;
        _bdev = Bdev();
        _cacheBytes = cacheBytes;
        _options = (options ?? new BlobfsOptions()) with { Clock = () => { _clock += 1_000_001; return Now; } };
        Run(FormatAsync);
        Session = Fs.OpenSession();
    }

    public Blobfs Fs { get; private set; } = null!;

    public Volume Volume { get; private set; } = null!;

    /// <summary>Makes the bdev fail, in a harness that can.</summary>
    public ErrorBdev? Faults { get; }

    /// <summary>The session that the short forms use.</summary>
    public BlobfsSession Session { get; set; }

    public FuseCaller Caller { get; set; } = new(0, 0, 1);

    public uint Umask { get; set; }

    public FsTime Now => new(_clock / 1_000_000_000, (uint)(_clock % 1_000_000_000));

    public void AdvanceSeconds(long seconds) => _clock += seconds * 1_000_000_000;

    public T Run<T>(Func<IoTask<T>> work) => _reactor.RunUntilComplete(work);

    public void EndSession(BlobfsSession session) => Do(session.EndSession);

    public void Forget(ulong node, ulong count = 1) => Do(() => Session.Forget(node, count));

    public void Do(Action work) => Run(() =>
    {
        work();
        return new IoTask<int>(0);
    });

    public void Turn() => _reactor.RunOnce(wait: true);

    public void RunUntil(Func<bool> done)
    {
        for (int turn = 0; !done(); turn++)
        {
            Assert.True(turn < 10_000_000, "it never ends");
            _reactor.RunOnce(wait: true);
        }
    }

    /// <summary>Lets background work go on until it waits for time to pass.</summary>
    public void Settle()
    {
        for (int i = 0; i < 200; i++) { _reactor.RunOnce(wait: false); }
    }

    public void Remount(bool clean)
    {
        if (clean)
        {
            EndSession(Session);
            Assert.Equal(Errno.None, Run(Fs.CloseAsync));
            Assert.Equal(Errno.None, Run(_pool.CloseAsync));
        }
        else
        {
            // The process dies: what has been replied to is on the bdev, nothing else happens any more.
            _reactor.Dispose();
            _reactor = new IoReactor(new SimulatedDriver(), "test");
            _data.ReleaseClaim();
            _bdev = Bdev();
        }
        Check();
        Run(OpenAsync);
        Session = Fs.OpenSession();
    }

    /// <summary>What "vhostfs check" says of the bdev as it is now, the pool being closed or dead.</summary>
    private void Check()
    {
        if (_options.NameHash is not null) { return; } // the checker knows SipHash only
        CheckReport report = Run(() => PoolChecker.CheckAsync(_data, CheckOptions.Default));
        Assert.True(report.IsClean, string.Join("\n", report.Findings.Take(10)));
    }

    public void SetQuota(long blocks = 0, long inodes = 0) => Assert.Equal(Errno.None, Run(() => _pool.SetQuotaAsync("v", new VolumeQuota(blocks, inodes))));

    public IoVec Bytes(ReadOnlySpan<byte> bytes)
    {
        IoVec room = Room(bytes.Length);
        bytes.CopyTo(room.Span);
        return room;
    }

    public IoVec Bytes(string text) => Bytes(Encoding.UTF8.GetBytes(text));

    public IoVec Room(int length)
    {
        if (_used + length > _memory.Length) { _used = 0; }
        IoVec room = _memory.Slice(_used, length);
        _used += (length + 7) & ~7;
        return room;
    }

    public IoVecs Vecs(IoVec vec)
    {
        _list.Clear();
        _list.Add(vec);
        return _list.View();
    }

    public CreateContext Context => new(Caller, Umask);

    public FsResult<InodeAttributes> Lookup(ulong parent, string name) => Run(() => Session.LookupAsync(parent, Bytes(name)));

    public FsResult<InodeAttributes> Stat(ulong node) => Run(() => Session.GetAttributesAsync(node));

    public FsResult<InodeAttributes> Set(ulong node, SetAttributes changes) => Run(() => Session.SetAttributesAsync(Caller, node, changes));

    public FsResult<InodeAttributes> MakeFile(ulong parent, string name, uint mode = 0x1A4) => Run(() => Session.MakeNodeAsync(Context, parent, Bytes(name), Regular | mode, 0));

    public FsResult<InodeAttributes> MakeDirectory(ulong parent, string name, uint mode = 0x1ED) => Run(() => Session.MakeDirectoryAsync(Context, parent, Bytes(name), mode));

    public FsResult<InodeAttributes> Symlink(ulong parent, string name, string target) => Run(() => Session.SymlinkAsync(Context, parent, Bytes(name), Bytes(target)));

    public FsResult<CreatedFile> Create(ulong parent, string name, uint openFlags = 0, uint mode = 0x1A4) =>
        Run(() => Session.CreateAsync(Context, parent, Bytes(name), mode, openFlags, false));

    public FsResult<CreatedFile> Temporary(ulong parent) => Run(() => Session.TemporaryFileAsync(Context, parent, 0x180, 0));

    public FsResult<InodeAttributes> Link(ulong node, ulong parent, string name) => Run(() => Session.LinkAsync(node, parent, Bytes(name)));

    public Errno Unlink(ulong parent, string name) => Run(() => Session.UnlinkAsync(parent, Bytes(name)));

    public Errno RemoveDirectory(ulong parent, string name) => Run(() => Session.RemoveDirectoryAsync(parent, Bytes(name)));

    public Errno Rename(ulong parent, string name, ulong newParent, string newName, uint flags = 0) =>
        Run(() => Session.RenameAsync(Caller, parent, Bytes(name), newParent, Bytes(newName), flags));

    public Errno Open(ulong node, uint flags = 0) => Run(() => Session.OpenAsync(node, flags, false)).Errno;

    public IoResult Write(ulong node, long offset, ReadOnlySpan<byte> data, uint flags = 0, bool kill = false)
    {
        IoVecs source = Vecs(Bytes(data));
        return Run(() => Session.WriteAsync(node, 0, offset, source, flags, false, kill));
    }

    public byte[] Read(ulong node, long offset, int length)
    {
        IoVec room = Room(length);
        IoVecs target = Vecs(room);
        IoResult read = Run(() => Session.ReadAsync(node, 0, offset, target));
        Assert.False(read.IsError, read.ToString());
        return room.Span[..read.Bytes].ToArray();
    }

    public Errno Truncate(ulong node, long size) => Set(node, new SetAttributes(SizeBytes: size)).Errno;

    public Errno Fallocate(ulong node, uint mode, long offset, long length) => Run(() => Session.FallocateAsync(default, node, 0, mode, offset, length));

    public Errno SetXattr(ulong node, string name, ReadOnlySpan<byte> value, uint flags = 0, bool killSgid = false)
    {
        IoVec bytes = Bytes(value);
        return Run(() => Session.SetXattrAsync(node, Bytes(name), bytes, flags, killSgid));
    }

    public (Errno Errno, byte[] Value) GetXattr(ulong node, string name, int room = 65536)
    {
        IoVec target = Room(room);
        IoResult got = Run(() => Session.GetXattrAsync(node, Bytes(name), target));
        return (got.Errno, got.IsError ? [] : target.Span[..Math.Min(got.Bytes, room)].ToArray());
    }

    public Errno RemoveXattr(ulong node, string name) => Run(() => Session.RemoveXattrAsync(node, Bytes(name)));

    public string[] ListXattr(ulong node)
    {
        IoVec target = Room(65536);
        IoResult got = Run(() => Session.ListXattrAsync(default, node, target));
        Assert.False(got.IsError, got.ToString());
        return Encoding.UTF8.GetString(target.Span[..got.Bytes]).Split('\0', StringSplitOptions.RemoveEmptyEntries).Order(StringComparer.Ordinal).ToArray();
    }

    /// <summary>All entries, by calls that take <paramref name="perCall"/> each.</summary>
    public List<ListedEntry> List(ulong node, int perCall = 100, bool plus = false)
    {
        var all = new List<ListedEntry>();
        ulong cookie = 0;
        while (true)
        {
            var writer = new ListWriter(perCall, plus);
            Assert.Equal(Errno.None, Run(() => Session.ReadDirectoryAsync(node, 0, cookie, writer)));
            if (writer.Entries.Count == 0) { return all; }
            all.AddRange(writer.Entries);
            cookie = writer.Entries[^1].Cookie;
        }
    }

    public void Dispose()
    {
        _reactor.Dispose();
        _data.Dispose();
        _memory.Dispose();
        _list.Dispose();
    }

    /// <summary>The data, behind delays that make operations overlap and overtake each other.</summary>
    private IBdev Bdev()
    {
        IBdev bottom = Faults is { } faults ? faults : _data;
        if (_delayNs == 0) { return bottom; }
        var random = new Random(5);
        return new DelayBdev(bottom, _reactor) { Jitter = _ => random.NextInt64(_delayNs) };
    }

    private async IoTask<int> FormatAsync()
    {
        Pool pool = Value(await Pool.FormatAsync(_bdev, new FormatOptions()));
        Assert.Equal(Errno.None, await pool.CloseAsync());
        _pool = Value(await Pool.OpenAsync(_bdev, new PoolOptions { NodeCache = new NodeCache(_cacheBytes) }));
        Volume = Value(await _pool.CreateVolumeAsync("v", new VolumeOptions()));
        return await MountAsync();
    }

    private async IoTask<int> OpenAsync()
    {
        _pool = Value(await Pool.OpenAsync(_bdev, new PoolOptions { NodeCache = new NodeCache(_cacheBytes) }));
        Volume = Value(await _pool.OpenVolumeAsync("v"));
        return await MountAsync();
    }

    private async IoTask<int> MountAsync()
    {
        FsResult<Blobfs> mounted = await Blobfs.MountAsync(Volume, _options);
        Assert.Equal(Errno.None, mounted.Errno);
        Fs = mounted.Value;
        return 0;
    }

    private static T Value<T>(OpenResult<T> result)
        where T : class
    {
        Assert.Null(result.Error);
        return result.Value!;
    }
}

internal sealed record ListedEntry(string Name, ulong Inode, ulong Cookie, uint Type);

internal sealed class ListWriter(int capacity, bool plus) : DirectoryWriter
{
    public List<ListedEntry> Entries { get; } = [];

    public override bool WantsAttributes => plus;

    public override bool TryAdd(ReadOnlySpan<byte> name, ulong inode, ulong cookie, uint type)
    {
        if (Entries.Count == capacity) { return false; }
        Entries.Add(new ListedEntry(Encoding.UTF8.GetString(name), inode, cookie, type));
        return true;
    }

    public override bool TryAdd(ReadOnlySpan<byte> name, in InodeAttributes attributes, ulong cookie) =>
        TryAdd(name, attributes.Inode, cookie, attributes.Mode >> 12);
}
