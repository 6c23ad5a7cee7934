using VhostFs.Fuse;
using VhostFs.Linux;
using VhostFs.Reactor;

namespace VhostFs.VhostUser.Tests;

/// <summary>A root directory and one file; GETATTR of <see cref="HeldNode"/> waits until the test lets it go.</summary>
internal sealed class FakeFs : IFileSystem, IFileLocks
{
    public const ulong HeldNode = 99;
    private readonly Queue<IoCompletion<FsResult<InodeAttributes>>> _held = new();

    public int HeldCount => Volatile.Read(ref _heldCount);
    private int _heldCount;

    public int SessionsEnded { get; private set; }

    public int ForgetCount => Volatile.Read(ref _forgets);
    private int _forgets;

    /// <summary>On the reactor.</summary>
    public void LetGo()
    {
        while (_held.TryDequeue(out IoCompletion<FsResult<InodeAttributes>>? held)) { Volatile.Write(ref _heldCount, _held.Count); held.Complete(Attr(1)); }
    }

    static readonly FsTime T = new(1700000000, 0);
    static InodeAttributes Attr(ulong ino) => new(ino, 1, ino == 1 ? 0x41EDu : 0x81A4u, ino == 1 ? 2u : 1u, 0, 0, 0, ino == 1 ? 4096 : 1 << 20, 8, T, T, T, T, 0);
    static IoTask<FsResult<InodeAttributes>> A(FsResult<InodeAttributes> r) => new(r);
    static IoTask<Errno> E(Errno e = Errno.None) => new(e);
    static IoTask<IoResult> R(IoResult r) => new(r);
    public IoTask<FsResult<InodeAttributes>> LookupAsync(ulong parent, IoVec name) => A(name.Span.SequenceEqual("."u8) || name.Span.SequenceEqual(".."u8) ? Attr(1) : name.Length < 4 ? Errno.ENOENT : Attr(2));
    public void Forget(ulong node, ulong count) => Interlocked.Increment(ref _forgets);
    public IoTask<FsResult<InodeAttributes>> GetAttributesAsync(ulong node)
    {
        if (node != HeldNode) { return A(node > 2 ? Errno.ESTALE : Attr(node)); }
        var held = new IoCompletion<FsResult<InodeAttributes>>();
        _held.Enqueue(held);
        Volatile.Write(ref _heldCount, _held.Count);
        return held.Task;
    }

    public IoTask<FsResult<InodeAttributes>> SetAttributesAsync(FuseCaller caller, ulong node, SetAttributes changes) => A(Attr(node));
    public IoTask<IoResult> ReadLinkAsync(ulong node, IoVec target) => R(Errno.EINVAL);
    public IoTask<FsResult<InodeAttributes>> SymlinkAsync(CreateContext c, ulong parent, IoVec name, IoVec t) => A(Attr(2));
    public IoTask<FsResult<InodeAttributes>> MakeNodeAsync(CreateContext c, ulong parent, IoVec name, uint mode, uint dev) => A(Attr(2));
    public IoTask<FsResult<InodeAttributes>> MakeDirectoryAsync(CreateContext c, ulong parent, IoVec name, uint mode) => A(Attr(2));
    public IoTask<Errno> UnlinkAsync(ulong parent, IoVec name) => E();
    public IoTask<Errno> RemoveDirectoryAsync(ulong parent, IoVec name) => E();
    public IoTask<Errno> RenameAsync(FuseCaller caller, ulong parent, IoVec name, ulong np, IoVec nn, uint flags) => E();
    public IoTask<FsResult<InodeAttributes>> LinkAsync(ulong node, ulong newParent, IoVec newName) => A(Attr(2));
    public IoTask<FsResult<ulong>> OpenAsync(ulong node, uint openFlags, bool kill) => new((FsResult<ulong>)7UL);
    public IoTask<FsResult<CreatedFile>> CreateAsync(CreateContext c, ulong parent, IoVec name, uint mode, uint of, bool k) => new((FsResult<CreatedFile>)new CreatedFile(Attr(2), 7));
    public IoTask<FsResult<CreatedFile>> TemporaryFileAsync(CreateContext c, ulong parent, uint mode, uint of) => new((FsResult<CreatedFile>)new CreatedFile(Attr(2), 7));
    /// <summary>Where READs come from, through the ring and straight into guest memory; null: zeros.</summary>
    public SafeFd? Content { get; set; }

    private readonly byte[] _written = new byte[1 << 20];

    public IoTask<IoResult> ReadAsync(ulong node, ulong handle, long off, IoVecs target)
    {
        if (Content is { } content) { return ReadContentAsync(content, off, target); }
        if (off >= 1 << 20) return R(new IoResult(0));
        long n = Math.Min(target.LengthBytes, (1 << 20) - off);
        target.Clear(0, n);
        return R(new IoResult((int)n));
    }
    /// <summary>As the engine does: whatever the device says is EIO.</summary>
    private static async IoTask<IoResult> ReadContentAsync(SafeFd content, long off, IoVecs target)
    {
        IoResult read = await Reactor.Reactor.Current.Ring.ReadAsync(content, target, off);
        return read.IsError ? Errno.EIO : read;
    }

    public IoTask<IoResult> WriteAsync(ulong node, ulong handle, long off, IoVecs source, uint f, bool c, bool k) => R(new IoResult(source.CopyTo(0, _written)));
    public IoTask<Errno> FlushAsync(ulong node, ulong handle, ulong lockOwner) => E();
    public IoTask<Errno> ReleaseAsync(ulong node, ulong handle) => E();
    public IoTask<Errno> FsyncAsync(ulong node, ulong handle, bool d) => E();
    public IoTask<FsResult<ulong>> OpenDirectoryAsync(ulong node, uint of) => new((FsResult<ulong>)3UL);
    public IoTask<Errno> ReadDirectoryAsync(ulong node, ulong handle, ulong cookie, DirectoryWriter w)
    {
        if (cookie < 1 && !w.TryAdd("."u8, 1, 1, 4)) return E();
        if (cookie < 2 && !w.TryAdd(".."u8, 1, 2, 4)) return E();
        if (cookie < 3 && !(w.WantsAttributes ? w.TryAdd("file"u8, Attr(2), 3) : w.TryAdd("file"u8, 2, 3, 8))) return E();
        return E();
    }
    public IoTask<Errno> ReleaseDirectoryAsync(ulong node, ulong handle) => E();
    public IoTask<Errno> FsyncDirectoryAsync(ulong node, ulong handle, bool d) => E();
    public IoTask<IoResult> GetXattrAsync(ulong node, IoVec name, IoVec target) => R(Errno.ENODATA);
    public IoTask<IoResult> ListXattrAsync(FuseCaller caller, ulong node, IoVec target) => R(new IoResult(0));
    public IoTask<Errno> SetXattrAsync(ulong node, IoVec name, IoVec value, uint flags, bool k) => E();
    public IoTask<Errno> RemoveXattrAsync(ulong node, IoVec name) => E();
    public IoTask<FsResult<FsStatistics>> StatFsAsync() => new((FsResult<FsStatistics>)new FsStatistics(1000, 900, 900, 100, 90, 4096, 255));
    public IoTask<Errno> FallocateAsync(FuseCaller caller, ulong node, ulong handle, uint mode, long o, long l) => E();
    public IoTask<FsResult<long>> SeekAsync(ulong node, ulong handle, long o, uint whence) => new((FsResult<long>)o);
    public IoTask<IoResult> CopyFileRangeAsync(ulong sn, ulong sh, long so, ulong tn, ulong th, long to, long l) => R(new IoResult(0));
    public IoTask<Errno> SetFlagsAsync(FuseCaller caller, ulong node, FsFlags flags, FsFlags changeable) => E();

    public IoTask<Errno> SyncFsAsync() => E();

    // One lock per node, first come first served; on the reactor.
    private readonly Dictionary<ulong, ulong> _lockOwners = [];
    private readonly List<(ulong Ticket, ulong Node, ulong Owner, IoCompletion<Errno> Wait)> _lockWaits = [];
    private int _lockWaitCount, _lockCount;

    public int LockWaitCount => Volatile.Read(ref _lockWaitCount);

    public int LockCount => Volatile.Read(ref _lockCount);

    public IFileLocks? Locks => this;

    public IoTask<Errno> SetLockAsync(ulong node, ulong handle, LockRequest request, ulong ticket)
    {
        if (request.Kind == LockKind.Unlock)
        {
            Unlock(node, request.Owner);
            return E();
        }
        if (_lockOwners.TryAdd(node, request.Owner))
        {
            Count();
            return E();
        }
        if (ticket == 0) { return E(Errno.EAGAIN); }
        var wait = new IoCompletion<Errno>();
        _lockWaits.Add((ticket, node, request.Owner, wait));
        Count();
        return wait.Task;
    }

    public HeldLock FindConflict(ulong node, LockRequest request) => new(LockKind.Unlock, 0, 0, 0);

    public void CancelWait(ulong ticket)
    {
        int at = _lockWaits.FindIndex(w => w.Ticket == ticket);
        if (at >= 0) { End(at, Errno.EINTR); }
    }

    public void Unlock(ulong node, ulong owner)
    {
        if (!_lockOwners.TryGetValue(node, out ulong holder) || holder != owner) { return; }
        _lockOwners.Remove(node);
        int next = _lockWaits.FindIndex(w => w.Node == node);
        if (next >= 0)
        {
            _lockOwners[node] = _lockWaits[next].Owner;
            End(next, Errno.None);
        }
        Count();
    }

    public void EndSession()
    {
        SessionsEnded++;
        _lockOwners.Clear();
        while (_lockWaits.Count > 0) { End(0, Errno.EINTR); }
        Count();
    }

    private void End(int at, Errno result)
    {
        IoCompletion<Errno> wait = _lockWaits[at].Wait;
        _lockWaits.RemoveAt(at);
        Count();
        wait.Complete(result);
    }

    private void Count()
    {
        Volatile.Write(ref _lockWaitCount, _lockWaits.Count);
        Volatile.Write(ref _lockCount, _lockOwners.Count);
    }
}
