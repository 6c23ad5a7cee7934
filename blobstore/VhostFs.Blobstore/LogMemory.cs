using System.Buffers.Binary;
using System.Runtime.InteropServices;
using VhostFs.Linux;

namespace VhostFs.Blobstore;

/// <summary>Where the log memory of pools comes from, and where it is found again.</summary>
public interface ILogMemoryStore
{
    /// <summary>Memory for a pool that is being opened, with what lives before this one left in theirs. Null: the pool does without.</summary>
    /// <param name="pool">The pool's uuid.</param>
    /// <param name="bdev">Which bdev holds it (<see cref="Bdev.IBdev.Identity"/>): copies of a pool have its uuid too.</param>
    /// <param name="epoch">Of this opening.</param>
    /// <param name="report">Takes a line when something is in the way.</param>
    LogMemory? Open(Guid pool, string? bdev, ulong epoch, Action<string> report);
}

/// <summary>Memory that outlives the process: the batches of a pool's logs lie in it until the bdev has them, so that a change survives <c>kill -9</c> from the moment of its commit
/// and its reply need not wait for the device.</summary>
/// <remarks>
/// Shared memory keeps what a process stored, in the order of the program, whenever it is killed: a batch's bytes are stored before the number that tells how many of them count
/// (<see cref="BatchDescriptor"/>). A power cut takes all of it, as it takes what the device had not flushed. Chunks of one size: the first page of each describes the batch in
/// the rest of it; or the rest is pages, which batches name as their images. Layout: docs/blobstore-format.md, section 8.
/// </remarks>
public sealed unsafe class LogMemory : IDisposable
{
    internal const int ChunkBytes = BatchDescriptor.Bytes + LogBatch.BufferBytes;
    internal const int HeaderBytes = 4096;

    /// <summary>260 MiB: much more than the rings of a reactor's busy volumes and the requests under way need.</summary>
    internal const int MaxChunks = 1024;

    private const ulong Magic = 0x4D474F4C53464856; // "VHFSLOGM"
    private const int Version = 1;
    private const int VersionOffset = 8;
    private const int PoolOffset = 16;
    private const int EpochOffset = 32;
    private const int CountOffset = 40;

    private readonly nuint _address;
    private readonly int _maxChunks;
    private readonly Func<int, bool> _commit;
    private readonly Action<bool> _release;
    private readonly Action _forgetLeft;
    private readonly Stack<int> _free = new();
    private int _count;
    private bool _isDisposed;

    /// <param name="address">Zeroes: a header, and chunks behind it.</param>
    /// <param name="maxChunks">How many.</param>
    /// <param name="commit">Makes sure that there is memory for one more chunk; false: there is none.</param>
    /// <param name="release">The end; true: nothing in it counts any more.</param>
    /// <param name="left">What earlier lives left in theirs.</param>
    /// <param name="forgetLeft">Removes that.</param>
    internal LogMemory(nuint address, int maxChunks, Guid pool, ulong epoch, Func<int, bool> commit, Action<bool> release, IReadOnlyList<StagedBatch> left, Action forgetLeft)
    {
        Left = left;
        _forgetLeft = forgetLeft;
        _address = address;
        _maxChunks = maxChunks;
        _commit = commit;
        _release = release;
        var header = new Span<byte>((void*)address, HeaderBytes);
        BinaryPrimitives.WriteInt32LittleEndian(header[VersionOffset..], Version);
        pool.TryWriteBytes(header[PoolOffset..]);
        BinaryPrimitives.WriteUInt64LittleEndian(header[EpochOffset..], epoch);
        BinaryPrimitives.WriteUInt64LittleEndian(header, Magic);
    }

    /// <summary>Batches of earlier lives that their bdev may not have, the oldest first.</summary>
    public IReadOnlyList<StagedBatch> Left { get; private set; }

    /// <summary>Memory of this process alone, for tests: they play what comes after it.</summary>
    public static LogMemory InProcess(Guid pool, ulong epoch, int chunks, IReadOnlyList<StagedBatch> left, Action forgetLeft)
    {
        var memory = new NativeBuffer(HeaderBytes + (chunks * ChunkBytes), zeroed: true);
        return new LogMemory(memory.Address, chunks, pool, epoch, static _ => true, _ => memory.Dispose(), left, forgetLeft);
    }

    /// <summary>What would be found if the process ended now; nothing once it is disposed of.</summary>
    public List<StagedBatch> Staged() => _isDisposed ? [] : ReadAll(new ReadOnlySpan<byte>((void*)_address, HeaderBytes + (_count * ChunkBytes)), out _);

    /// <summary>The batches that count in memory of whatever origin.</summary>
    /// <param name="pool">Whose memory it says it is.</param>
    internal static List<StagedBatch> ReadAll(ReadOnlySpan<byte> memory, out Guid pool)
    {
        var found = new List<StagedBatch>();
        pool = default;
        if (memory.Length < HeaderBytes || BinaryPrimitives.ReadUInt64LittleEndian(memory) != Magic || BinaryPrimitives.ReadInt32LittleEndian(memory[VersionOffset..]) != Version) { return found; }
        pool = new Guid(memory.Slice(PoolOffset, 16));
        ReadOnlySpan<byte> chunks = memory[HeaderBytes..Math.Min(UsedBytes(memory), memory.Length)];
        for (int i = 0; i < chunks.Length / ChunkBytes; i++)
        {
            if (StagedBatch.TryRead(chunks, i, out StagedBatch? batch)) { found.Add(batch); }
        }
        found.Sort(static (a, b) => a.FirstLsn.CompareTo(b.FirstLsn));
        return found;
    }

    /// <summary>Up to the end of the last chunk that was ever used, as the header says.</summary>
    internal static int UsedBytes(ReadOnlySpan<byte> header) => HeaderBytes + ((int)Math.Min(BinaryPrimitives.ReadUInt32LittleEndian(header[CountOffset..]), MaxChunks) * ChunkBytes);

    /// <summary>Log memory, but not as this program lays it out.</summary>
    internal static bool IsOfAnotherVersion(ReadOnlySpan<byte> header) =>
        BinaryPrimitives.ReadUInt64LittleEndian(header) == Magic && BinaryPrimitives.ReadInt32LittleEndian(header[VersionOffset..]) != Version;

    /// <summary>A chunk that describes nothing; its content is anything.</summary>
    internal bool TryRent(out LogChunk chunk)
    {
        chunk = default;
        if (!_free.TryPop(out int index))
        {
            if (_count == _maxChunks || !_commit(_count)) { return false; }
            index = _count++;
            // Only now, when there is memory behind it: who reads it later reads no further.
            BinaryPrimitives.WriteInt32LittleEndian(new Span<byte>((void*)(_address + CountOffset), sizeof(int)), _count);
        }
        chunk = new LogChunk(index, _address + HeaderBytes + ((nuint)index * ChunkBytes));
        return true;
    }

    internal void Return(LogChunk chunk) => _free.Push(chunk.Index);

    /// <summary>The bdev has what counts of <see cref="Left"/>.</summary>
    internal void ForgetLeft()
    {
        Left = [];
        _forgetLeft();
    }

    /// <summary>The bdev has what a volume that had failed left here.</summary>
    internal void Forget(Guid volume)
    {
        for (int i = 0; i < _count; i++)
        {
            var descriptor = new BatchDescriptor(_address + HeaderBytes + ((nuint)i * ChunkBytes));
            if (descriptor.Describes(volume)) { descriptor.Clear(); }
        }
    }

    /// <summary>Nobody uses it any more. What still counts is kept for who opens the pool next.</summary>
    public void Dispose()
    {
        if (_isDisposed) { return; }
        bool isEmpty = Staged().Count == 0;
        _isDisposed = true;
        _release(isEmpty);
    }
}

/// <summary>A batch's descriptor and the memory behind it.</summary>
internal readonly record struct LogChunk(int Index, nuint Address)
{
    /// <summary>Pages of the memory, counted through all chunks: a number that is never 0.</summary>
    public const int Pages = LogMemory.ChunkBytes / BlobData.BlockBytes;

    public BatchDescriptor Descriptor => new(Address);

    public IoVec Memory => new(Address + BatchDescriptor.Bytes, LogBatch.BufferBytes);

    /// <summary>The number of a page of <see cref="Memory"/>.</summary>
    public int PageNumber(int page) => (Index * Pages) + 1 + page;
}
