using VhostFs.Bdev;
using VhostFs.Linux;
using VhostFs.Reactor;

namespace VhostFs.Blobstore;

/// <summary>Reads nodes and believes nothing: checksum against the parent's pointer, own address, volume, level, shape.</summary>
internal sealed class NodeReader(IBdev bdev, ulong volumeId, Func<ulong, bool> ownsAddress, Action<string> report)
{
    private readonly Stack<IoVecList> _lists = new();

    public async IoTask<Errno> ReadAsync(NodePointer pointer, int level, bool isRoot, KeyBounds bounds, IoVec page)
    {
        if (!ownsAddress(pointer.Address))
        {
            report($"node pointer to block {pointer.Address}, which is not in a node cluster of this volume");
            return Errno.EIO;
        }
        IoVecList list = _lists.TryPop(out IoVecList? pooled) ? pooled : new IoVecList(1);
        list.Clear();
        list.Add(page);
        IoResult read = await bdev.ReadAsync((long)pointer.Address * BlobData.BlockBytes, list.View());
        _lists.Push(list);
        if (!read.IsError) { return Check(pointer, level, isRoot, bounds, page); }
        // A device's own word would be taken for the answer of whatever operation needs the node: ENODATA, the kernel's for a medium error, for "no such xattr".
        report($"node at block {pointer.Address} cannot be read: {read.Errno}");
        return Errno.EIO;
    }

    private unsafe Errno Check(NodePointer pointer, int level, bool isRoot, KeyBounds bounds, IoVec page)
    {
        var node = new NodePage((byte*)page.Address);
        string problem = "";
        if (node.Crc != pointer.Crc || node.ComputeCrc() != pointer.Crc) { problem = "checksum differs from the parent's"; }
        else if (node.BirthEpoch != pointer.BirthEpoch) { problem = "birth epoch differs from the parent's"; }
        else if (node.IsWellFormed(volumeId, level, pointer.Address, isRoot, out problem))
        {
            // Whoever goes from key to key would be led back by a key below the bound, and never come to an end.
            if (node.KeysLieIn(bounds)) { return Errno.None; }
            problem = "keys outside of the bounds that its parents give";
        }
        report($"node at block {pointer.Address}: {problem}");
        return Errno.EIO;
    }
}
