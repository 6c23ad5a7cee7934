using VhostFs.Linux;
using VhostFs.Reactor;
using Xunit;

namespace VhostFs.Blobstore.Tests;

public sealed class ParallelWritesTests : VolumeFixture
{
    [Fact]
    public void On_a_disk_that_is_done_at_once_others_have_a_turn_now_and_then()
    {
        const int Blocks = 256; // 1 MiB, none beside another
        int turns = 0;
        bool isDone = false;
        Run(async () =>
        {
            CountAsync().Detach();
            using var content = new NativeBuffer(BlobData.BlockBytes);
            using var writes = new ParallelWrites(Disk, 32);
            for (ulong i = 0; i < Blocks; i++) { Assert.Equal(Errno.None, await writes.AddAsync(2 * i, content.Vec)); }
            Assert.Equal(Errno.None, await writes.FinishAsync());
            isDone = true;
            return 0;
        });
        Assert.InRange(turns, 6, 12);

        async IoTask<int> CountAsync()
        {
            while (!isDone)
            {
                await VhostFs.Reactor.Reactor.Current.DelayAsync(0);
                turns++;
            }
            return 0;
        }
    }
}
