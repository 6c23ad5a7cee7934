using System.Buffers.Binary;
using VhostFs.Linux;

namespace VhostFs.Blobstore;

/// <summary>How many extents name a block, of those that more than one names (docs/blobstore-format.md, section 5). All synchronous.</summary>
/// <remarks>Invariants: a shared block is never written, neither in place nor through an image, since each owner has its checksum; it is free when the last
/// reference goes, and its bit is set until then. A block that is not shared costs nothing: there is no count of one.</remarks>
internal sealed class SharedBlocks(Volume volume)
{
    public const int GroupBlocks = 128;
    public const int ValueBytes = GroupBlocks * sizeof(ushort);

    /// <summary>A block with so many references gets no more: its content is copied instead.</summary>
    public const int MaxReferences = ushort.MaxValue;

    /// <summary>False: no block of this volume is shared, and nobody has to look. Set by the first share, and by a mount that finds an item.</summary>
    public bool Any { get; set; }

    public static TreeKey FirstKey => Key(0);

    public static TreeKey LimitKey => new(0, (ItemType)((int)ItemType.SharedBlocks + 1), 0);

    public static TreeKey Key(ulong block) => new(0, ItemType.SharedBlocks, block / GroupBlocks);

    public Errno TryIsShared(ulong block, out bool isShared)
    {
        isShared = false;
        if (!Any || block == 0) { return Errno.None; } // 0: a hole
        Errno found = volume.TryGet(Key(block), out ReadOnlySpan<byte> counts);
        if (found != Errno.None) { return found == Errno.ENOENT ? Errno.None : found; }
        if (counts.Length != ValueBytes) { return Errno.EIO; }
        isShared = Count(counts, IndexOf(block)) > 1;
        return Errno.None;
    }

    /// <summary>Adds a reference to each block from the first on, as far as their item goes. They are in use and named by an extent.</summary>
    /// <param name="shared">How many got one; the next has as many as it can have, or lies in another item or cluster.</param>
    public Errno TryStageShare(Transaction transaction, BlockRun run, out int shared)
    {
        shared = 0;
        if (!volume.Allocator.Owns(run.First, 1)) { return Errno.EIO; }
        int count = Math.Min(Math.Min(run.Count, GroupBlocks - IndexOf(run.First)), volume.Allocator.LeftInCluster(run.First));
        run = run with { Count = count };
        // Who names a free block is a damaged or hostile map; sharing it would give it to two owners later.
        Errno found = volume.TryGet(volume.AllocationKey(run.First), out ReadOnlySpan<byte> bitmap);
        if (found == Errno.ENOENT || (found == Errno.None && (!volume.IsAllocated(bitmap, run) || transaction.Frees(run)))) { return Errno.EIO; }
        if (found != Errno.None) { return found; }
        Span<byte> counts = stackalloc byte[ValueBytes];
        found = TryLoad(transaction, run.First, counts);
        if (found is not (Errno.None or Errno.ENOENT)) { return found; }
        int first = IndexOf(run.First);
        for (; shared < run.Count; shared++)
        {
            int references = Math.Max(Count(counts, first + shared), 1);
            if (references == MaxReferences) { break; }
            SetCount(counts, first + shared, references + 1);
        }
        if (shared == 0) { return Errno.None; }
        Any = true;
        return found == Errno.ENOENT
            ? transaction.Put(Key(run.First), counts)
            : transaction.Patch(Key(run.First), first * sizeof(ushort), counts.Slice(first * sizeof(ushort), shared * sizeof(ushort)));
    }

    /// <summary>One reference to each block is gone: frees those that nobody else has. The run lies in one cluster.</summary>
    public Errno TryStageRelease(Transaction transaction, BlockRun run)
    {
        if (!Any) { return transaction.Free(run); }
        while (run.Count > 0)
        {
            int count = Math.Min(run.Count, GroupBlocks - IndexOf(run.First));
            Errno staged = StageReleaseInGroup(transaction, run with { Count = count });
            if (staged != Errno.None) { return staged; }
            run = new BlockRun(run.First + (ulong)count, run.Count - count);
        }
        return Errno.None;
    }

    private Errno StageReleaseInGroup(Transaction transaction, BlockRun run)
    {
        Span<byte> counts = stackalloc byte[ValueBytes];
        Errno found = TryLoad(transaction, run.First, counts);
        if (found != Errno.None) { return found == Errno.ENOENT ? transaction.Free(run) : found; }
        int first = IndexOf(run.First);
        bool changed = false;
        for (int i = 0; i < run.Count;)
        {
            int alone = 0;
            while (i + alone < run.Count && Count(counts, first + i + alone) < 2) { alone++; }
            Errno freed = alone == 0 ? Errno.None : transaction.Free(new BlockRun(run.First + (ulong)i, alone));
            if (freed != Errno.None) { return freed; }
            i += alone;
            for (; i < run.Count && Count(counts, first + i) is > 1 and int references; i++)
            {
                SetCount(counts, first + i, references == 2 ? 0 : references - 1);
                changed = true;
            }
        }
        if (!changed) { return Errno.None; }
        return counts.ContainsAnyExcept((byte)0)
            ? transaction.Patch(Key(run.First), first * sizeof(ushort), counts.Slice(first * sizeof(ushort), run.Count * sizeof(ushort)))
            : transaction.Delete(Key(run.First));
    }

    /// <summary>The counts of a block's group as the transaction has them; ENOENT: all zero.</summary>
    private static Errno TryLoad(Transaction transaction, ulong block, Span<byte> counts)
    {
        Errno found = transaction.TryGet(Key(block), out ReadOnlySpan<byte> value);
        if (found != Errno.None) { return found; }
        if (value.Length != ValueBytes) { return Errno.EIO; }
        value.CopyTo(counts);
        return Errno.None;
    }

    private static int IndexOf(ulong block) => (int)(block % GroupBlocks);

    private static int Count(ReadOnlySpan<byte> counts, int index) => BinaryPrimitives.ReadUInt16LittleEndian(counts[(index * sizeof(ushort))..]);

    private static void SetCount(Span<byte> counts, int index, int references) => BinaryPrimitives.WriteUInt16LittleEndian(counts[(index * sizeof(ushort))..], (ushort)references);
}
