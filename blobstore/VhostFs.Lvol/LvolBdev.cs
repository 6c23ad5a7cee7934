using VhostFs.Bdev;
using VhostFs.Blobstore;
using VhostFs.Blobfs;
using VhostFs.Fuse;
using VhostFs.Linux;
using VhostFs.Reactor;

namespace VhostFs.Lvol;

/// <summary>A logical volume: a file of its store (<see cref="LvolStore"/>) as a disk. Its name is its UUID.</summary>
/// <remarks>What is written survives the process when the write completes, and a power cut after a flush: the file system's promises (docs/blobfs.md). Blocks that were never
/// written take no space and read as zeroes. Owned by its store, on the store's reactor.</remarks>
public sealed class LvolBdev : IBdev
{
    private const uint KeepSize = 1, PunchHole = 2, ZeroRange = 0x10; // FALLOC_FL_*

    private readonly BlobfsSession _session;
    private readonly ulong _node;
    private readonly BdevClaim _claim = new();
    private readonly Stack<IoVecList> _lists = new();

    internal LvolBdev(BlobfsSession session, ulong node, string alias, Guid uuid, int blockSize, long sizeBytes, bool isReadOnly, bool hasWriteCache)
    {
        _session = session;
        _node = node;
        Alias = alias;
        Uuid = uuid;
        BlockSize = blockSize;
        SizeBytes = sizeBytes;
        IsReadOnly = isReadOnly;
        HasWriteCache = hasWriteCache;
    }

    public event Action<long>? Resized;

    public string Name => Uuid.ToString();

    public Guid Uuid { get; }

    /// <summary>STORE/NAME.</summary>
    public string Alias { get; internal set; }

    public int BlockSize { get; }

    public long SizeBytes { get; private set; }

    public int BufferAlignment => 1;

    public bool HasWriteCache { get; }

    public bool SupportsUnmap => true;

    public bool UnmapReadsZero => true;

    public bool IsReadOnly { get; internal set; }

    public BdevStatistics Statistics { get; } = new();

    public async IoTask<IoResult> ReadAsync(long offsetBytes, IoVecs target)
    {
        Errno refused = BdevChecks.Read(this, offsetBytes, target);
        if (refused != Errno.None) { return Statistics.Error(refused); }
        long length = target.LengthBytes;
        IoResult read = IsOnePiece(offsetBytes, length) ? await _session.ReadAsync(_node, 0, offsetBytes, target) : await TransferAsync(write: false, offsetBytes, target, length);
        if (!read.IsError && read.Bytes != length) { read = IoResult.FromErrno(Errno.EIO); } // somebody cut the file
        if (read.IsError) { return Statistics.Error(read.Errno); }
        Statistics.Read(length);
        return read;
    }

    public async IoTask<IoResult> WriteAsync(long offsetBytes, IoVecs source)
    {
        Errno refused = IsReadOnly ? Errno.EROFS : BdevChecks.Write(this, offsetBytes, source);
        if (refused != Errno.None) { return Statistics.Error(refused); }
        long length = source.LengthBytes;
        IoResult written = IsOnePiece(offsetBytes, length) ? await WritePieceAsync(offsetBytes, source) : await TransferAsync(write: true, offsetBytes, source, length);
        if (written.IsError) { return Statistics.Error(written.Errno); }
        Statistics.Written(length);
        return written;
    }

    public async IoTask<Errno> FlushAsync()
    {
        Statistics.FlushOperations++;
        Errno flushed = await _session.FsyncAsync(_node, 0, dataOnly: true);
        if (flushed != Errno.None) { Statistics.Error(flushed); }
        return flushed;
    }

    public async IoTask<Errno> UnmapAsync(long offsetBytes, long lengthBytes)
    {
        Errno unmapped = await FallocateAsync(PunchHole | KeepSize, offsetBytes, lengthBytes);
        if (unmapped == Errno.None) { Statistics.Unmapped(lengthBytes); }
        return unmapped;
    }

    /// <summary>The space stays the volume's.</summary>
    public async IoTask<Errno> WriteZeroesAsync(long offsetBytes, long lengthBytes)
    {
        Errno zeroed = await FallocateAsync(ZeroRange | KeepSize, offsetBytes, lengthBytes);
        if (zeroed == Errno.None) { Statistics.Written(lengthBytes); }
        return zeroed;
    }

    public async IoTask<Errno> ResizeAsync(long newSizeBytes)
    {
        if (newSizeBytes <= 0 || newSizeBytes % BlockSize != 0) { return Errno.EINVAL; }
        FsResult<InodeAttributes> resized = await _session.SetAttributesAsync(LvolStore.Root, _node, new SetAttributes(SizeBytes: newSizeBytes));
        if (resized.IsError) { return resized.Errno; }
        // The new size is announced when it is there to stay: a guest that grows its file system must find it after a power cut.
        Errno synced = await _session.FsyncAsync(_node, 0, dataOnly: false);
        if (synced != Errno.None) { return synced; }
        SizeBytes = newSizeBytes;
        Resized?.Invoke(newSizeBytes);
        return Errno.None;
    }

    public bool TryGetMemory(long offsetBytes, int lengthBytes, out IoVec memory)
    {
        memory = default;
        return false;
    }

    public bool TryClaim(string claimant, out string owner) => _claim.TryTake(claimant, out owner);

    public void ReleaseClaim() => _claim.Release();

    public void Dispose()
    {
        while (_lists.TryPop(out IoVecList? list)) { list.Dispose(); }
    }

    // The file system takes so much at once; pieces end where its own blocks do.
    private static bool IsOnePiece(long offset, long length) => length <= PieceAt(offset);

    private static long PieceAt(long offset) => BlobData.MaxWriteBytes - offset % BlobData.MaxWriteBytes;

    private async IoTask<IoResult> TransferAsync(bool write, long offset, IoVecs vectors, long total)
    {
        IoVecList piece = _lists.TryPop(out IoVecList? pooled) ? pooled : new IoVecList();
        IoResult result = new(0);
        for (long done = 0; done < total && !result.IsError;)
        {
            long length = Math.Min(PieceAt(offset + done), total - done);
            piece.Clear();
            piece.AddSlice(vectors, done, length);
            result = write ? await WritePieceAsync(offset + done, piece.View()) : await _session.ReadAsync(_node, 0, offset + done, piece.View());
            if (!result.IsError && result.Bytes != length) { result = IoResult.FromErrno(Errno.EIO); }
            done += length;
        }
        piece.Clear();
        _lists.Push(piece);
        return result.IsError ? result : new IoResult((int)total);
    }

    private IoTask<IoResult> WritePieceAsync(long offset, IoVecs source) => _session.WriteAsync(_node, 0, offset, source, openFlags: 0, fromCache: false, killPrivileges: false);

    private async IoTask<Errno> FallocateAsync(uint mode, long offset, long length)
    {
        Errno result = IsReadOnly ? Errno.EROFS : BdevChecks.Range(this, offset, length);
        if (result == Errno.None && length > 0) { result = await _session.FallocateAsync(LvolStore.Root, _node, 0, mode, offset, length); }
        if (result != Errno.None) { Statistics.Error(result); }
        return result;
    }
}
