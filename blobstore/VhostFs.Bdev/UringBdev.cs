using VhostFs.Linux;
using VhostFs.Reactor;

namespace VhostFs.Bdev;

/// <summary>A regular file or a block device, read and written with io_uring.</summary>
/// <remarks>The file is locked (flock) while it is open: a second opener, in this or another process, is refused. On tmpfs, where io_uring
/// would hand every request to a worker thread, transfers complete at once: a copy from or to the mapped file where its pages are known to exist, a plain system call
/// elsewhere. (A store to a page that tmpfs has no room for is a signal, where the call has an errno; and a mere look at a hole would make it take memory.)</remarks>
public sealed class UringBdev : IBdev
{
    private const int MaxVectors = 1024; // IOV_MAX
    private const int Hole = FileCalls.FALLOC_FL_PUNCH_HOLE | FileCalls.FALLOC_FL_KEEP_SIZE;
    private const int ZeroRange = FileCalls.FALLOC_FL_ZERO_RANGE | FileCalls.FALLOC_FL_KEEP_SIZE;
    private const int ZeroChunkBytes = BouncePool.BufferBytes;
    private readonly Ring _ring;
    private readonly SafeFd _fd;
    private readonly bool _isBlockDevice;
    private readonly bool _isMemory;
    private readonly int _alignment;
    private readonly BdevClaim _claim = new();
    private readonly BouncePool _bounce = new();
    private readonly Stack<IoVecList> _lists = new();
    private FileView? _view;
    private WrittenPages? _written;
    private bool _canZeroRange = true;
    private int _inFlight;

    private UringBdev(Ring ring, SafeFd fd, UringBdevOptions options, in FileStatus status, long sizeBytes, int blockSize, int alignment, bool isMemory)
    {
        _ring = ring;
        _fd = fd;
        _isBlockDevice = status.IsBlockDevice;
        _isMemory = isMemory;
        // Device numbers of disks may change with a reboot, and identities need not survive one.
        Identity = status.IsBlockDevice ? $"dev{status.RdevMajor}.{status.RdevMinor}" : $"file{status.DeviceMajor}.{status.DeviceMinor}.{status.Inode}";
        IsReadOnly = options.ReadOnly;
        _alignment = alignment;
        Name = options.Name;
        Path = options.Path;
        BlockSize = blockSize;
        SizeBytes = sizeBytes;
        MapView();
        SupportsUnmap = !options.ReadOnly && (!_isBlockDevice || BlockDevice.CanWriteZeroes(status));
    }

    public event Action<long>? Resized;

    public string Name { get; }

    public string Path { get; }

    public int BlockSize { get; }

    public long SizeBytes { get; private set; }

    /// <summary>Any buffer is taken; those that O_DIRECT refuses are copied.</summary>
    public int BufferAlignment => 1;

    public int OptimalBufferAlignment => _alignment;

    public bool IsDirect => _alignment > 1;

    public string Identity { get; }

    public bool HasWriteCache => !_isMemory;

    public bool CompletesAtOnce => _isMemory;

    public bool SupportsUnmap { get; private set; }

    public bool IsReadOnly { get; }

    /// <summary>A hole in a file reads as zeroes, and so does one in a device: the kernel refuses where it cannot promise that.</summary>
    public bool UnmapReadsZero => true;

    public BdevStatistics Statistics { get; } = new();

    /// <summary>Requests copied through an aligned buffer so far.</summary>
    public long BouncedOperations { get; private set; }

    /// <exception cref="BdevException">The file cannot be used; the message says why.</exception>
    public static UringBdev Open(Ring ring, UringBdevOptions options)
    {
        SafeFd fd = OpenFile(options, out FileStatus status);
        try
        {
            Errno locked = FileLock.TryLock(fd, exclusive: !options.ReadOnly, out int owner);
            if (locked == Errno.EBUSY)
            {
                string who = owner == 0 ? "another process" : owner == ProcessCalls.ProcessId ? $"this process ({owner})" : $"process {owner}";
                throw new BdevException(locked, $"{options.Path} is in use by {who}");
            }
            Require(locked, options, "cannot lock");
            long size = SizeOf(fd, status, options);
            Require(FileCalls.FileSystemType(fd, out long type), options, "cannot stat");
            bool isMemory = status.IsRegularFile && type is FileCalls.TMPFS_MAGIC or FileCalls.RAMFS_MAGIC or FileCalls.HUGETLBFS_MAGIC;
            int alignment = isMemory || options.Cache == UringCacheMode.Buffered ? 1 : MakeDirect(fd, options);
            if (isMemory && options.Cache == UringCacheMode.Direct)
            {
                throw new BdevException(Errno.EINVAL, $"{options.Path} lies in memory (tmpfs), which has no O_DIRECT; use cache=buffered or cache=auto");
            }
            int blockSize = ChooseBlockSize(fd, status, options, alignment);
            if (alignment > blockSize) { throw new BdevException(Errno.EINVAL, $"{options.Path} needs blocks of {alignment} bytes for O_DIRECT; a block size of {blockSize} needs cache=buffered"); }
            return new UringBdev(ring, fd, options, status, size & -(long)blockSize, blockSize, alignment, isMemory);
        }
        catch
        {
            fd.Dispose();
            throw;
        }
    }

    public IoTask<IoResult> ReadAsync(long offsetBytes, IoVecs target)
    {
        Errno refused = BdevChecks.Read(this, offsetBytes, target);
        if (refused != Errno.None) { return new(Statistics.Error(refused)); }
        return _isMemory ? new(TransferNow(write: false, offsetBytes, target)) : TransferAsync(write: false, offsetBytes, target);
    }

    public IoTask<IoResult> WriteAsync(long offsetBytes, IoVecs source)
    {
        Errno refused = IsReadOnly ? Errno.EROFS : BdevChecks.Write(this, offsetBytes, source);
        if (refused != Errno.None) { return new(Statistics.Error(refused)); }
        return _isMemory ? new(TransferNow(write: true, offsetBytes, source)) : TransferAsync(write: true, offsetBytes, source);
    }

    public async IoTask<Errno> FlushAsync()
    {
        Statistics.FlushOperations++;
        if (_isMemory) { return Errno.None; } // it ends with the host, whatever we do
        _inFlight++;
        IoResult synced = await _ring.FsyncAsync(_fd, dataOnly: true);
        _inFlight--;
        return synced.IsError ? Statistics.Error(synced.Errno).Errno : Errno.None;
    }

    public async IoTask<Errno> UnmapAsync(long offsetBytes, long lengthBytes)
    {
        Errno refused = RefuseRange(offsetBytes, lengthBytes, SupportsUnmap);
        if (refused != Errno.None) { return Statistics.Error(refused).Errno; }
        if (lengthBytes == 0) { return Errno.None; }
        Errno punched = await FallocateAsync(Hole, offsetBytes, lengthBytes);
        if (punched == Errno.None) { Statistics.Unmapped(lengthBytes); }
        else
        {
            Statistics.Error(punched);
            if (punched == Errno.EOPNOTSUPP) { SupportsUnmap = false; }
        }
        return punched;
    }

    public async IoTask<Errno> WriteZeroesAsync(long offsetBytes, long lengthBytes)
    {
        Errno refused = RefuseRange(offsetBytes, lengthBytes, supported: true);
        if (refused != Errno.None) { return Statistics.Error(refused).Errno; }
        if (lengthBytes == 0) { return Errno.None; }
        Errno zeroed = Errno.EOPNOTSUPP;
        if (_isMemory) { zeroed = await FallocateAsync(Hole, offsetBytes, lengthBytes); }
        else if (_canZeroRange)
        {
            zeroed = await FallocateAsync(ZeroRange, offsetBytes, lengthBytes);
            _canZeroRange = zeroed != Errno.EOPNOTSUPP;
        }
        if (zeroed == Errno.EOPNOTSUPP) { zeroed = await WriteZeroBlocksAsync(offsetBytes, lengthBytes); }
        if (zeroed == Errno.None) { Statistics.Written(lengthBytes); }
        else { Statistics.Error(zeroed); }
        return zeroed;
    }

    /// <summary>Files only; a device is resized elsewhere, and <see cref="Rescan"/> sees it.</summary>
    public IoTask<Errno> ResizeAsync(long newSizeBytes)
    {
        if (_isBlockDevice) { return new(Errno.EOPNOTSUPP); }
        if (IsReadOnly) { return new(Errno.EROFS); }
        if (newSizeBytes < 0 || newSizeBytes % BlockSize != 0) { return new(Errno.EINVAL); }
        Errno truncated = FileCalls.Truncate(_fd, newSizeBytes);
        return new(truncated == Errno.None ? Rescan() : truncated);
    }

    /// <summary>Looks at the size again, and raises <see cref="Resized"/> when it has changed.</summary>
    public Errno Rescan()
    {
        long size;
        Errno errno;
        if (_isBlockDevice) { errno = BlockDevice.SizeBytes(_fd, out size); }
        else
        {
            errno = FileCalls.Status(_fd, out FileStatus status);
            size = status.SizeBytes;
        }
        if (errno != Errno.None) { return errno; }
        size &= -(long)BlockSize;
        if (size == SizeBytes) { return Errno.None; }
        SizeBytes = size;
        MapView();
        Resized?.Invoke(size);
        return Errno.None;
    }

    public bool TryGetMemory(long offsetBytes, int lengthBytes, out IoVec memory)
    {
        memory = default;
        return false;
    }

    public bool TryView(long offsetBytes, int lengthBytes, out IoVec memory)
    {
        bool isThere = IsInView(offsetBytes, lengthBytes);
        memory = isThere ? _view!.Slice(offsetBytes, lengthBytes) : default;
        if (isThere) { Statistics.Read(lengthBytes); }
        return isThere;
    }

    /// <summary>Only what was written before, so has pages: for a hole the file system may have none, which only a call can say.</summary>
    public bool TryGetPlace(long offsetBytes, int lengthBytes, out IoVec place)
    {
        bool isThere = lengthBytes > 0 && IsInView(offsetBytes, lengthBytes) && _written!.Contains(offsetBytes, lengthBytes);
        place = isThere ? _view!.Slice(offsetBytes, lengthBytes) : default;
        return isThere;
    }

    public Errno EndInPlace(long lengthBytes)
    {
        if (_view is not { IsLost: false }) { return Statistics.Error(Errno.EIO).Errno; }
        Statistics.Written(lengthBytes);
        return Errno.None;
    }

    public bool TryClaim(string claimant, out string owner) => _claim.TryTake(claimant, out owner);

    public void ReleaseClaim() => _claim.Release();

    /// <summary>Nothing may be in flight.</summary>
    public void Dispose()
    {
        Invariant.That(_inFlight == 0, "a bdev is closed when nothing is in flight");
        _view?.Dispose();
        _fd.Dispose();
        _bounce.Dispose();
        while (_lists.TryPop(out IoVecList? list)) { list.Dispose(); }
    }

    private bool IsInView(long offsetBytes, int lengthBytes) => _view is { IsLost: false } view && offsetBytes >= 0 && offsetBytes <= view.LengthBytes - lengthBytes;

    private void MapView()
    {
        _view?.Dispose();
        _view = _isMemory ? FileView.TryMap(_fd, SizeBytes, isWritable: !IsReadOnly) : null;
        _written = _view is null ? null : new WrittenPages(SizeBytes);
    }

    private static SafeFd OpenFile(UringBdevOptions options, out FileStatus status)
    {
        int flags = options.ReadOnly ? FileCalls.O_RDONLY : FileCalls.O_RDWR;
        if (options.CreateSizeBytes > 0 && !options.ReadOnly && !File.Exists(options.Path)) { flags |= FileCalls.O_CREAT; }
        // O_EXCL on a device: the kernel refuses one that is mounted or part of another device.
        else if (!options.ReadOnly && IsDevice(options.Path)) { flags |= FileCalls.O_EXCL; }
        Errno opened = FileCalls.Open(options.Path, flags, 0x180, out SafeFd fd);
        if (opened == Errno.EBUSY) { throw new BdevException(opened, $"{options.Path} is in use: mounted, or part of another device"); }
        Require(opened, options, "cannot open");
        Errno stat = FileCalls.Status(fd, out status);
        if (stat == Errno.None && !status.IsRegularFile && !status.IsBlockDevice) { stat = Errno.ENOTBLK; }
        if (stat != Errno.None)
        {
            fd.Dispose();
            throw new BdevException(stat, stat == Errno.ENOTBLK ? $"{options.Path} is neither a regular file nor a block device" : $"cannot stat {options.Path}: {stat}");
        }
        return fd;
    }

    private static bool IsDevice(string path)
    {
        if (FileCalls.Open(path, FileCalls.O_PATH, 0, out SafeFd probe) != Errno.None) { return false; }
        using (probe) { return FileCalls.Status(probe, out FileStatus status) == Errno.None && status.IsBlockDevice; }
    }

    private static long SizeOf(SafeFd fd, in FileStatus status, UringBdevOptions options)
    {
        if (status.IsBlockDevice)
        {
            Require(BlockDevice.SizeBytes(fd, out long size), options, "cannot get the size of");
            return size;
        }
        if (options.CreateSizeBytes <= 0 || status.SizeBytes == options.CreateSizeBytes) { return status.SizeBytes; }
        if (status.SizeBytes != 0) { throw new BdevException(Errno.EEXIST, $"{options.Path} exists with {status.SizeBytes} bytes, not {options.CreateSizeBytes}"); }
        Require(FileCalls.Truncate(fd, options.CreateSizeBytes), options, "cannot set the size of");
        return options.CreateSizeBytes;
    }

    // Returns the alignment that O_DIRECT asks for, or 1 where it is not used.
    private static int MakeDirect(SafeFd fd, UringBdevOptions options)
    {
        IoResult flags = FileCalls.GetFlags(fd);
        Errno set = flags.IsError ? flags.Errno : FileCalls.SetFlags(fd, flags.Value | FileCalls.O_DIRECT);
        if (set != Errno.None)
        {
            if (options.Cache == UringCacheMode.Auto) { return 1; }
            throw new BdevException(set, $"the file system of {options.Path} refuses O_DIRECT ({set}); use cache=buffered or cache=auto");
        }
        if (FileCalls.DirectIoAlignment(fd, out int memory, out int offset) != Errno.None || offset == 0) { return 512; }
        return Math.Max(memory, offset);
    }

    private static int ChooseBlockSize(SafeFd fd, in FileStatus status, UringBdevOptions options, int alignment)
    {
        int blockSize = options.BlockSize;
        if (status.IsBlockDevice)
        {
            Require(BlockDevice.LogicalBlockSize(fd, out int logical), options, "cannot get the block size of");
            if (blockSize == 0) { blockSize = Math.Max(logical, alignment); }
        }
        if (blockSize == 0) { blockSize = 4096; }
        return BdevChecks.IsBlockSize(blockSize) ? blockSize : throw new BdevException(Errno.EINVAL, $"{options.Path}: the block size is 512 or 4096, not {blockSize}");
    }

    private static void Require(Errno errno, UringBdevOptions options, string what)
    {
        if (errno != Errno.None) { throw new BdevException(errno, $"{what} {options.Path}: {errno}"); }
    }

    private Errno RefuseRange(long offsetBytes, long lengthBytes, bool supported)
    {
        if (IsReadOnly) { return Errno.EROFS; }
        return supported ? BdevChecks.Range(this, offsetBytes, lengthBytes) : Errno.EOPNOTSUPP;
    }

    private async IoTask<IoResult> TransferAsync(bool write, long offset, IoVecs vectors)
    {
        _inFlight++;
        int total = (int)vectors.LengthBytes;
        IoResult result;
        if (_alignment > 1 && !BdevChecks.IsAligned(vectors, _alignment)) { result = await BounceAsync(write, offset, vectors, total); }
        else if (vectors.Count > MaxVectors) { result = await ContinueAsync(write, offset, vectors, 0, total); }
        else
        {
            result = await SubmitAsync(write, offset, vectors);
            if (result.Value != total && (result.Value > 0 || result.Errno == Errno.EINTR))
            {
                result = await ContinueAsync(write, offset, vectors, Math.Max(result.Value, 0), total);
            }
        }
        _inFlight--;
        return Finish(write, result, total);
    }

    private IoTask<IoResult> SubmitAsync(bool write, long offset, IoVecs vectors) =>
        write ? _ring.WriteAsync(_fd, vectors, offset) : _ring.ReadAsync(_fd, vectors, offset);

    // The rest of a transfer: more segments than one system call takes, or a short one.
    private async IoTask<IoResult> ContinueAsync(bool write, long offset, IoVecs vectors, int done, int total)
    {
        IoVecList rest = _lists.TryPop(out IoVecList? pooled) ? pooled : new IoVecList();
        IoResult result = new(done);
        while (done < total)
        {
            rest.Clear();
            rest.AddSlice(vectors, done, total - done);
            result = await SubmitAsync(write, offset + done, rest.View(0, Math.Min(rest.Count, MaxVectors)));
            if (result.Errno == Errno.EINTR) { continue; }
            if (result.Value <= 0) { break; }
            done += result.Value;
            result = new IoResult(done);
        }
        _lists.Push(rest);
        return result;
    }

    private async IoTask<IoResult> BounceAsync(bool write, long offset, IoVecs vectors, int total)
    {
        BouncedOperations++;
        NativeBuffer buffer = await _bounce.RentAsync();
        int done = 0;
        IoResult result = new(0);
        while (done < total)
        {
            IoVec chunk = buffer.Slice(0, Math.Min(total - done, buffer.Length));
            if (write) { vectors.CopyTo(done, chunk.Span); }
            result = await (write ? _ring.WriteAsync(_fd, chunk, offset + done) : _ring.ReadAsync(_fd, chunk, offset + done));
            if (result.Errno == Errno.EINTR) { continue; }
            if (result.Value <= 0) { break; }
            if (!write) { vectors.CopyFrom(done, chunk.Span[..result.Value]); }
            done += result.Value;
            result = new IoResult(done);
        }
        _bounce.Return(buffer);
        return result;
    }

    private IoResult TransferNow(bool write, long offset, IoVecs vectors)
    {
        int total = (int)vectors.LengthBytes;
        if (TryCopy(write, offset, vectors, total)) { return Finish(write, new IoResult(total), total); }
        IoResult result = vectors.Count <= MaxVectors ? Call(write, offset, vectors) : new IoResult(0);
        if (result.Value >= 0 && result.Value != total && (result.Value > 0 || vectors.Count > MaxVectors))
        {
            IoVecList rest = _lists.TryPop(out IoVecList? pooled) ? pooled : new IoVecList();
            int done = result.Value;
            while (done < total)
            {
                rest.Clear();
                rest.AddSlice(vectors, done, total - done);
                result = Call(write, offset + done, rest.View(0, Math.Min(rest.Count, MaxVectors)));
                if (result.Value <= 0) { break; }
                done += result.Value;
                result = new IoResult(done);
            }
            _lists.Push(rest);
        }
        if (write && result.Value == total && total > 0) { _written?.Add(offset, total); }
        return Finish(write, result, total);
    }

    private bool TryCopy(bool write, long offset, IoVecs vectors, int total)
    {
        if (_view is not { IsLost: false } view || total == 0 || !_written!.Contains(offset, total)) { return false; }
        Span<byte> place = view.Slice(offset, total).Span;
        if (write) { vectors.StreamTo(place); }
        else { vectors.CopyFrom(0, place); }
        return !view.IsLost;
    }

    private IoResult Call(bool write, long offset, IoVecs vectors) => write ? FileCalls.WriteAt(_fd, offset, vectors) : FileCalls.ReadAt(_fd, offset, vectors);

    // Never short: a transfer that stopped early met the end of a file that shrank under us.
    private IoResult Finish(bool write, IoResult result, int total)
    {
        if (result.IsError) { return Statistics.Error(result.Errno); }
        if (result.Value != total) { return Statistics.Error(Errno.EIO); }
        if (write) { Statistics.Written(total); }
        else { Statistics.Read(total); }
        return result;
    }

    private async IoTask<Errno> FallocateAsync(int mode, long offset, long length)
    {
        if (_isMemory)
        {
            _written?.Remove(offset, length);
            return FileCalls.Fallocate(_fd, mode, offset, length);
        }
        _inFlight++;
        IoResult result;
        do { result = await _ring.FallocateAsync(_fd, mode, offset, length); }
        while (result.Errno == Errno.EINTR);
        _inFlight--;
        return result.Errno;
    }

    private async IoTask<Errno> WriteZeroBlocksAsync(long offset, long length)
    {
        _inFlight++;
        NativeBuffer zeroes = await _bounce.RentAsync();
        zeroes.Span.Clear();
        Errno errno = Errno.None;
        for (long done = 0; done < length && errno == Errno.None;)
        {
            IoResult written = await _ring.WriteAsync(_fd, zeroes.Slice(0, (int)Math.Min(length - done, ZeroChunkBytes)), offset + done);
            if (written.Errno == Errno.EINTR) { continue; }
            if (written.Value <= 0) { errno = written.IsError ? written.Errno : Errno.EIO; }
            else { done += written.Value; }
        }
        _bounce.Return(zeroes);
        _inFlight--;
        return errno;
    }
}
