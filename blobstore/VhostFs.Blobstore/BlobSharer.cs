using VhostFs.Linux;

namespace VhostFs.Blobstore;

/// <summary>Makes blocks of one blob blocks of another one too. Synchronous, in steps that one transaction can hold.</summary>
/// <remarks>The caller holds range locks on both: a change under way that was planned when a block had one owner must not be staged after it has two.</remarks>
internal sealed class BlobSharer(Volume volume, ExtentGroupEditor editor)
{
    /// <summary>Room that the rest of the transaction and one more run, of which every target block was somewhere else, can take.</summary>
    private const int MinRoomBytes = 12 * 1024;

    /// <summary>Nodes that one step makes dirty, or a few more: what admission reserves.</summary>
    private const int MaxNodes = 12;

    /// <summary>Looking a key up among what is staged takes as long as there is staged: a file that is one block over and over must not hold up the reactor.</summary>
    private const int MaxOperations = 512;

    public Errno TryStage(Transaction transaction, ulong source, long sourceBlock, ulong target, long targetBlock, long count, out long done, out long blocksDelta)
    {
        done = 0;
        blocksDelta = 0;
        // Without checksums a late read through a reference that is gone could not tell what another owner wrote to the block meanwhile.
        if (!volume.HasDataChecksums) { return Errno.None; }
        while (done < count && (done == 0 || HasRoom(transaction)))
        {
            ulong block = (ulong)(targetBlock + done);
            var place = new GroupPlace(ExtentGroup.Key(target, block / ExtentGroup.Blocks), (int)(block % ExtentGroup.Blocks));
            int wanted = (int)Math.Min(count - done, ExtentGroup.Blocks - place.First);
            Errno staged = StageGroup(transaction, source, sourceBlock + done, place, wanted, out int inGroup, ref blocksDelta);
            if (staged != Errno.None) { return staged; }
            done += inGroup;
            if (inGroup < wanted) { break; }
        }
        return Errno.None;
    }

    private static bool HasRoom(Transaction transaction) =>
        transaction.RoomBytes >= MinRoomBytes && transaction.TouchedNodes < MaxNodes && transaction.OperationCount < MaxOperations;

    private Errno StageGroup(Transaction transaction, ulong source, long sourceBlock, GroupPlace place, int wanted, out int done, ref long blocksDelta)
    {
        done = 0;
        Errno result = editor.Load(transaction, place.Key, hasCrcs: true);
        var released = new BlockRunBuilder(volume);
        bool changed = false;
        while (result == Errno.None && done < wanted && (done == 0 || HasRoom(transaction)))
        {
            result = TryFind(source, sourceBlock + done, wanted - done, out ReadOnlySpan<byte> value, out ExtentPart part);
            if (result != Errno.None) { return result; }
            int count = part.Count, same = CountSame(part, place.First + done);
            if (same > 0)
            {
                done += same;
                continue;
            }
            if (part.IsWritten)
            {
                result = volume.Shared.TryStageShare(transaction, new BlockRun(part.Physical, part.Count), out count);
                if (result != Errno.None) { return result; }
                if (count == 0) { break; }
            }
            for (int i = 0; i < count && result == Errno.None; i++)
            {
                int index = place.First + done + i;
                ulong old = editor.Physical(index);
                if (old != 0) { result = released.Add(old, transaction, isFree: true); }
                if (part.IsWritten) { editor.Set(index, part.Physical + (ulong)i, unwritten: false, ExtentGroup.Crc(value, part.CrcIndex + i), part.Birth); }
                else { editor.Clear(index); }
                blocksDelta += (part.IsWritten ? 1 : 0) - (old != 0 ? 1 : 0);
                changed |= part.IsWritten || old != 0;
            }
            done += count;
        }
        if (result == Errno.None) { result = released.Finish(transaction, isFree: true); }
        if (result != Errno.None || !changed) { return result; }
        return editor.IsEmpty ? transaction.Delete(place.Key) : transaction.Put(place.Key, editor.Encode(hasCrcs: true));
    }

    /// <summary>Blocks that the target has in common with the source already.</summary>
    private int CountSame(in ExtentPart part, int index)
    {
        int same = 0;
        while (part.IsWritten && same < part.Count && editor.Physical(index + same) == part.Physical + (ulong)same && !editor.IsUnwritten(index + same)) { same++; }
        return same;
    }

    private Errno TryFind(ulong blob, long block, int count, out ReadOnlySpan<byte> value, out ExtentPart part)
    {
        part = default;
        int first = (int)((ulong)block % ExtentGroup.Blocks);
        Errno found = volume.TryGet(ExtentGroup.Key(blob, (ulong)block / ExtentGroup.Blocks), out value);
        if (found is not (Errno.None or Errno.ENOENT)) { return found; }
        return ExtentGroup.TryFind(value, first, Math.Min(first + count, ExtentGroup.Blocks), hasCrcs: true, out part) ? Errno.None : Errno.EIO;
    }

    private readonly record struct GroupPlace(TreeKey Key, int First);
}
