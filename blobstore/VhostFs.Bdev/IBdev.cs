using VhostFs.Linux;
using VhostFs.Reactor;

namespace VhostFs.Bdev;

/// <summary>A block device: an array of bytes addressed in multiples of <see cref="BlockSize"/>. Modules stack by decoration.</summary>
/// <remarks>
/// All operations are started on one reactor and complete there. Offsets and lengths are multiples of <see cref="BlockSize"/>, and
/// buffers are aligned to <see cref="BufferAlignment"/>; anything else is answered with EINVAL, a range beyond the end with ENOSPC (write)
/// or EIO (read). Other errors are the device's own words, any errno: who hands them on as answers of his own says EIO. Buffers and lists stay valid until the operation completes. A read or write is complete or an error: never short.
/// A completed write survives the end of the process; it survives a power cut only after a flush that was started after it completed.
/// </remarks>
public interface IBdev : IDisposable
{
    string Name { get; }

    /// <summary>512 or 4096.</summary>
    int BlockSize { get; }

    long SizeBytes { get; }

    /// <summary>Required alignment of buffer addresses and segment lengths in bytes (1: none).</summary>
    int BufferAlignment { get; }

    /// <summary>Buffers with this alignment (addresses and segment lengths) go to the device without a copy.</summary>
    int OptimalBufferAlignment => BufferAlignment;

    /// <summary>Completed writes may be lost in a power cut until flushed.</summary>
    bool HasWriteCache { get; }

    bool SupportsUnmap { get; }

    /// <summary>Everything that changes something is answered with EROFS.</summary>
    bool IsReadOnly => false;

    /// <summary>After an unmap, the range is guaranteed to read as zeroes.</summary>
    bool UnmapReadsZero { get; }

    BdevStatistics Statistics { get; }

    /// <summary>Raised on the reactor when the size has changed; the argument is the new size in bytes.</summary>
    event Action<long>? Resized;

    /// <summary>Tells the bytes of this bdev from all others on this host, also after the process has ended: what another process that opens them gets too. Null: nothing does that.</summary>
    string? Identity => null;

    IoTask<IoResult> ReadAsync(long offsetBytes, IoVecs target);

    IoTask<IoResult> WriteAsync(long offsetBytes, IoVecs source);

    /// <summary>Reads and writes are complete when their calls return; who makes content first then does best in small pieces.</summary>
    bool CompletesAtOnce => false;

    /// <summary>More has been asked of it than it may begin soon: who can leave requests where they are does better to.</summary>
    bool IsBehind => false;

    /// <summary>Makes every write that completed before this call durable.</summary>
    IoTask<Errno> FlushAsync();

    IoTask<Errno> UnmapAsync(long offsetBytes, long lengthBytes);

    IoTask<Errno> WriteZeroesAsync(long offsetBytes, long lengthBytes);

    /// <summary>Changes the size where the device can (EOPNOTSUPP otherwise); <see cref="Resized"/> is raised before it completes.</summary>
    IoTask<Errno> ResizeAsync(long newSizeBytes) => new(Errno.EOPNOTSUPP);

    /// <summary>Memory devices only: the bytes themselves, so that payload is copied once. The view is valid while the bdev is.</summary>
    bool TryGetMemory(long offsetBytes, int lengthBytes, out IoVec memory);

    /// <summary>The bytes to be read where they are, without a call, as they are at this moment; the view is valid until the caller returns to the reactor. It may show zeroes instead (a file
    /// that somebody cut): for who verifies, and reads again when in doubt.</summary>
    bool TryView(long offsetBytes, int lengthBytes, out IoVec memory) => TryGetMemory(offsetBytes, lengthBytes, out memory);

    /// <summary>Where the caller may put the bytes of a write itself, in whole blocks, instead of <see cref="WriteAsync"/>: the write is complete when <see cref="EndInPlace"/>, in the same
    /// turn, says so.</summary>
    bool TryGetPlace(long offsetBytes, int lengthBytes, out IoVec place) => TryGetMemory(offsetBytes, lengthBytes, out place);

    /// <summary>What has been put into places since the last time, so many bytes, is a completed write, or EIO: some of it is nowhere.</summary>
    Errno EndInPlace(long lengthBytes)
    {
        Statistics.Written(lengthBytes);
        return Errno.None;
    }

    /// <summary>Takes the exclusive right to write. False: <paramref name="owner"/> names who has it.</summary>
    bool TryClaim(string claimant, out string owner);

    void ReleaseClaim();
}
