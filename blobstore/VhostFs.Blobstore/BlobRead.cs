using VhostFs.Linux;
using VhostFs.Reactor;

namespace VhostFs.Blobstore;

/// <summary>One block to be read from the device.</summary>
/// <param name="TargetOffset">Byte of the caller's target where its content goes.</param>
/// <param name="InBlock">First byte of the block that is wanted.</param>
/// <param name="Page">Where it is read to when not straight to the target: partial blocks, and the repetition after a mismatch.</param>
internal readonly record struct BlobReadBlock(ulong Physical, uint Crc, int TargetOffset, int InBlock, int Count, Page? Page);

/// <summary>Blocks that are neighbours on the device: one read into consecutive entries of the list.</summary>
internal readonly record struct BlobReadRun(ulong Physical, int FirstVec, int VecCount);

/// <summary>The plan of one read; pooled.</summary>
internal sealed class BlobRead
{
    private int _runFirstBlock;

    public List<BlobReadBlock> Blocks { get; } = [];

    public List<BlobReadRun> Runs { get; } = [];

    public List<IoTask<IoResult>> Tasks { get; } = [];

    public IoVecList Vecs { get; } = new();

    /// <summary>Lays out the memory of all blocks, and joins neighbours on the device.</summary>
    public void BuildRuns(IoVecs target)
    {
        var cursor = new IoVecsCursor(target);
        int at = 0, firstVec = 0;
        for (int i = 0; i < Blocks.Count; i++)
        {
            BlobReadBlock block = Blocks[i];
            bool begins = i == 0 || block.Physical != Blocks[i - 1].Physical + 1;
            if (begins && i > 0) { EndRun(i, ref firstVec); }
            cursor.Skip(block.TargetOffset - at);
            at = block.TargetOffset;
            for (int left = BlobData.BlockBytes; left > 0;)
            {
                IoVec piece = block.Page?.Memory ?? cursor.NextVec(left);
                left -= piece.Length;
                at += block.Page is null ? piece.Length : 0;
                if (begins) { Vecs.Add(piece); }
                else { Vecs.Extend(piece); }
                begins = false;
            }
        }
        if (Blocks.Count > 0) { EndRun(Blocks.Count, ref firstVec); }
    }

    public void Clear()
    {
        Blocks.Clear();
        Runs.Clear();
        Tasks.Clear();
        Vecs.Clear();
        _runFirstBlock = 0;
    }

    private void EndRun(int limit, ref int firstVec)
    {
        Runs.Add(new BlobReadRun(Blocks[_runFirstBlock].Physical, firstVec, Vecs.Count - firstVec));
        _runFirstBlock = limit;
        firstVec = Vecs.Count;
    }
}
