using VhostFs.Linux;
using VhostFs.Reactor;

namespace VhostFs.Blobstore;

internal enum BlockChangeKind : byte
{
    /// <summary>Existing block, new content: through the log and in place later; on a memory device in place when the record is there.</summary>
    Overwrite,

    /// <summary>New block; replaces a hole or an old block.</summary>
    New,

    /// <summary>Preallocated block that now has content.</summary>
    FillUnwritten,

    /// <summary>New block for a hole, content stays undefined: reads as zero.</summary>
    Preallocate,
}

/// <summary>What changes about one block of a blob.</summary>
internal struct BlockChange
{
    public ulong Logical;
    public ulong Physical;
    public uint Crc;
    public BlockChangeKind Kind;
    public Page? Page;

    /// <summary>The content goes through the log and is written in place later; else it has been written before the record, or is with it.</summary>
    public bool IsLogged;

    /// <summary>Where a partial block's old content is; 0: it had none.</summary>
    public ulong OldPhysical;
    public uint OldCrc;
}

/// <summary>A prepared change of a blob's content: data written or in memory, blocks reserved, nothing visible yet. Pooled.</summary>
public sealed class BlobChange
{
    /// <summary>1 MiB and two ragged ends.</summary>
    internal const int MaxBlocks = 258;

    private readonly BlockChange[] _blocks = new BlockChange[MaxBlocks];

    internal BlobChange()
    {
    }

    /// <summary>Blocks to add to the blob's count of mapped blocks; known after staging.</summary>
    public long BlocksDelta { get; internal set; }

    /// <summary>How far a preallocation got: the first block not looked at.</summary>
    public long LimitBlock { get; internal set; }

    internal ulong Blob { get; set; }

    /// <summary>The block after that of the blob's block before the first one here; 0: it has none.</summary>
    internal ulong Near { get; set; }

    internal int Count { get; private set; }

    internal bool IsCommitted { get; set; }

    internal IoVecList Vecs { get; } = new();

    internal IoTask<IoResult>[] Tasks { get; } = new IoTask<IoResult>[MaxBlocks];

    internal ref BlockChange this[int index] => ref _blocks[index];

    internal ref BlockChange Add(ulong logical)
    {
        Invariant.That(Count < MaxBlocks);
        ref BlockChange added = ref _blocks[Count++];
        added = default;
        added.Logical = logical;
        return ref added;
    }

    internal void Clear()
    {
        Array.Clear(_blocks, 0, Count);
        Count = 0;
        BlocksDelta = 0;
        LimitBlock = 0;
        Near = 0;
        IsCommitted = false;
        Vecs.Clear();
    }
}
