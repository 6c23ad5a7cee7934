using VhostFs.Fuse;
using VhostFs.Linux;
using VhostFs.Reactor;
using Xunit;

namespace VhostFs.Blobfs.Tests;

/// <summary>0 bytes per request in steady state (DESIGN.md, section 11).</summary>
public sealed class AllocationTests : IDisposable
{
    private const int Rounds = 2000;
    private readonly BlobfsHarness _fs = new(256L << 20);
    private readonly ulong _file;
    private readonly IoVec _name;
    private readonly IoVecs _block;

    public AllocationTests()
    {
        _file = _fs.MakeFile(BlobfsHarness.Root, "file").Value.Inode;
        for (int i = 0; i < 64; i++) { _fs.Write(_file, i * 65536, new byte[65536]); }
        _name = _fs.Bytes("file");
        _block = _fs.Vecs(_fs.Room(4096));
    }

    public void Dispose() => _fs.Dispose();

    [Fact]
    public void Looking_up_allocates_nothing_and_completes_at_once() =>
        Measure(() => Done(_fs.Session.LookupAsync(BlobfsHarness.Root, _name)).Errno);

    [Fact]
    public void Getting_attributes_allocates_nothing_and_completes_at_once() =>
        Measure(() => Done(_fs.Session.GetAttributesAsync(_file)).Errno);

    [Fact]
    public void Reading_a_block_allocates_nothing_and_completes_at_once()
    {
        int i = 0;
        Measure(() => Done(_fs.Session.ReadAsync(_file, 0, (++i % 1000) * 4096, _block)).Errno);
    }

    [Fact]
    public void Writing_a_block_allocates_nothing()
    {
        int i = 0;
        Func<IoTask<IoResult>> write = () => _fs.Session.WriteAsync(_file, 0, (++i % 1000) * 4096, _block, 0, false, false);
        for (int round = 0; round < 6000; round++) { Assert.Equal(4096, _fs.Run(write).Value); } // past several checkpoints
        // Pools grow to the largest need once; what a write itself allocates shows in every stretch.
        long least = long.MaxValue;
        for (int stretch = 0; stretch < 10 && least > 0; stretch++)
        {
            long before = GC.GetAllocatedBytesForCurrentThread();
            for (int round = 0; round < Rounds; round++) { _fs.Run(write); }
            least = Math.Min(least, GC.GetAllocatedBytesForCurrentThread() - before);
        }
        Assert.Equal(0, least);
    }

    private static FsResult<T> Done<T>(IoTask<FsResult<T>> task)
    {
        Assert.True(task.IsCompleted);
        return task.GetAwaiter().GetResult();
    }

    private static IoResult Done(IoTask<IoResult> task)
    {
        Assert.True(task.IsCompleted);
        return task.GetAwaiter().GetResult();
    }

    private void Measure(Func<Errno> operation)
    {
        long bytes = 0;
        _fs.Do(() =>
        {
            for (int i = 0; i < Rounds; i++) { Assert.True(operation() == Errno.None); }
            long before = GC.GetAllocatedBytesForCurrentThread();
            for (int i = 0; i < Rounds; i++) { operation(); }
            bytes = GC.GetAllocatedBytesForCurrentThread() - before;
        });
        Assert.Equal(0, bytes);
    }
}
