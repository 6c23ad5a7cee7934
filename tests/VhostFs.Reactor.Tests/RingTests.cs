using VhostFs.Linux;
using Xunit;
using VhostFs.Reactor;

namespace VhostFs.Reactor.Tests;

public sealed class RingTests : IDisposable
{
    private const int BlockBytes = 4096;
    private readonly Reactor _reactor = new(Ring.Create(32), "test");
    private readonly SafeFd _file = TemporaryFile.Open();
    private readonly NativeBuffer _buffer = new(64 * BlockBytes, zeroed: true);

    public void Dispose()
    {
        _reactor.Dispose();
        _file.Dispose();
        _buffer.Dispose();
    }

    [Fact]
    public void A_write_is_read_back_after_a_sync()
    {
        Assert.Equal(BlockBytes, _reactor.RunUntilComplete(WriteSyncReadAsync).Value);
        Assert.True(_buffer.Slice(0, BlockBytes).Span.SequenceEqual(_buffer.Slice(BlockBytes, BlockBytes).Span));
    }

    [Fact]
    public void Many_segments_are_read_and_written_in_one_operation()
    {
        using var source = new IoVecList();
        using var target = new IoVecList();
        Random.Shared.NextBytes(_buffer.Slice(0, 32 * BlockBytes).Span);
        for (int i = 0; i < 32; i++)
        {
            source.Add(_buffer.Slice(i * BlockBytes, BlockBytes));
            target.Add(_buffer.Slice((32 + i) * BlockBytes, BlockBytes));
        }
        Assert.Equal(32 * BlockBytes, _reactor.RunUntilComplete(() => _reactor.Ring.WriteAsync(_file, source.View(), 8192)).Value);
        Assert.Equal(32 * BlockBytes, _reactor.RunUntilComplete(() => _reactor.Ring.ReadAsync(_file, target.View(), 8192)).Value);
        Assert.True(_buffer.Slice(0, 32 * BlockBytes).Span.SequenceEqual(_buffer.Slice(32 * BlockBytes, 32 * BlockBytes).Span));
    }

    [Theory, InlineData(true), InlineData(false)]
    public void An_eventfd_read_completes_when_another_thread_signals(bool nonBlocking)
    {
        Assert.Equal(Errno.None, EventFd.Create(out SafeFd fd, nonBlocking));
        using (fd)
        {
            IoTask<IoResult> read = _reactor.Ring.ReadEventFdAsync(fd);
            _reactor.RunOnce(wait: false);
            Assert.False(read.IsCompleted);
            ThreadPool.QueueUserWorkItem(_ => EventFd.Signal(fd));
            Assert.Equal(8, _reactor.RunUntilComplete(read).Value);
        }
    }

    private async IoTask<IoResult> WriteSyncReadAsync()
    {
        Random.Shared.NextBytes(_buffer.Slice(0, BlockBytes).Span);
        IoResult written = await _reactor.Ring.WriteAsync(_file, _buffer.Slice(0, BlockBytes), 0);
        if (written.IsError) { return written; }
        IoResult synced = await _reactor.Ring.FsyncAsync(_file, dataOnly: true);
        if (synced.IsError) { return synced; }
        return await _reactor.Ring.ReadAsync(_file, _buffer.Slice(BlockBytes, BlockBytes), 0);
    }
}

internal static class TemporaryFile
{
    /// <summary>A file without a name, in the directory for temporary files.</summary>
    public static SafeFd Open()
    {
        string path = NewPath();
        Assert.Equal(Errno.None, FileCalls.Open(path, FileCalls.O_RDWR | FileCalls.O_CREAT | FileCalls.O_EXCL, 0x180, out SafeFd fd));
        FileCalls.Unlink(path);
        return fd;
    }

    public static string NewPath() => Path.Combine(Path.GetTempPath(), $"vhostfs-{Guid.NewGuid():N}");
}
