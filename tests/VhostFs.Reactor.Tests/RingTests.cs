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

    [Fact]
    public void A_command_reaches_the_driver_of_its_descriptor()
    {
        const uint SOCKET_URING_OP_SIOCINQ = 0; // Linux 6.7: how many bytes wait
        Assert.True(_reactor.Ring.HasCommands);
        Assert.Equal(Errno.None, UnixSocket.CreatePair(out SafeFd one, out SafeFd other));
        using (one)
        using (other)
        {
            Assert.Equal(5, FileCalls.Write(one, "bytes"u8).Value);
            IoResult asked = _reactor.RunUntilComplete(() => _reactor.Ring.CommandAsync(other, SOCKET_URING_OP_SIOCINQ, default, (0, 0), 0));
            Assert.True(asked.Value == 5 || asked.Errno == Errno.EOPNOTSUPP, asked.ToString());
            Assert.True(_reactor.RunUntilComplete(() => _reactor.Ring.CommandAsync(other, 77, default, (0, 0), 0)).IsError);
            Assert.Equal(Errno.EOPNOTSUPP, _reactor.RunUntilComplete(() => _reactor.Ring.CommandAsync(_file, 0, default, (0, 0), 0)).Errno);
        }
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

    [Fact]
    public void Far_more_operations_than_ring_entries_all_complete()
    {
        const int Count = 5000;
        Random.Shared.NextBytes(_buffer.Slice(0, BlockBytes).Span);
        Assert.Equal(BlockBytes, _reactor.RunUntilComplete(() => _reactor.Ring.WriteAsync(_file, _buffer.Slice(0, BlockBytes), 0)).Value);
        var reads = new IoTask<IoResult>[Count];
        for (int i = 0; i < Count; i++) { reads[i] = _reactor.Ring.ReadAsync(_file, _buffer.Slice((1 + i % 63) * BlockBytes, BlockBytes), 0); }
        Assert.True(_reactor.Ring.InKernelCount <= _reactor.Ring.SlotCount);
        foreach (IoTask<IoResult> read in reads) { Assert.Equal(BlockBytes, _reactor.RunUntilComplete(read).Value); }
        Assert.Equal(0, _reactor.Ring.InKernelCount);
        Assert.True(_reactor.Ring.EnterCount < Count / 3, $"{_reactor.Ring.EnterCount} system calls for {Count} reads");
    }

    [Fact]
    public void A_device_begins_before_the_turn_ends()
    {
        _reactor.RunOnce(wait: false);
        long before = _reactor.Ring.EnterCount;
        var reads = new IoTask<IoResult>[8];
        for (int i = 0; i < reads.Length; i++) { reads[i] = _reactor.Ring.ReadAsync(_file, _buffer.Slice(i * BlockBytes, BlockBytes), 0); }
        Assert.Equal(5, _reactor.Ring.EnterCount - before); // the first four alone, the others together
        Assert.DoesNotContain(reads, read => read.IsCompleted); // never inside of a submission
        foreach (IoTask<IoResult> read in reads) { _reactor.RunUntilComplete(read); }
    }

    /// <summary>Neighbours that are submitted together would become one request of the device.</summary>
    [Theory, InlineData(4096), InlineData(65536)]
    public void Large_reads_wait_for_no_others(int segmentBytes)
    {
        const int Count = 8, Bytes = 65536;
        using var large = new NativeBuffer(Count * Bytes);
        using var segments = new IoVecList();
        for (int at = 0; at < large.Length; at += segmentBytes) { segments.Add(large.Slice(at, segmentBytes)); }
        large.Span.Clear();
        Assert.Equal(large.Length, _reactor.RunUntilComplete(() => _reactor.Ring.WriteAsync(_file, large.Slice(0, large.Length), 0)).Value);
        long before = _reactor.Ring.EnterCount;
        var reads = new IoTask<IoResult>[Count];
        for (int i = 0; i < Count; i++) { reads[i] = _reactor.Ring.ReadAsync(_file, segments.View(i * (Bytes / segmentBytes), Bytes / segmentBytes), i * Bytes); }
        Assert.Equal(Count, _reactor.Ring.EnterCount - before);
        foreach (IoTask<IoResult> read in reads) { Assert.Equal(Bytes, _reactor.RunUntilComplete(read).Value); }
    }

    [Fact]
    public void A_waiting_operation_can_be_cancelled()
    {
        Assert.Equal(Errno.None, EventFd.Create(out SafeFd fd));
        using (fd)
        {
            IoTask<IoResult> read = _reactor.Ring.ReadEventFdAsync(fd, out IoHandle handle);
            _reactor.RunOnce(wait: false);
            Assert.Equal(0, _reactor.RunUntilComplete(() => _reactor.Ring.CancelAsync(handle)).Value);
            Assert.Equal(Errno.ECANCELED, _reactor.RunUntilComplete(read).Errno);
            Assert.Equal(Errno.ENOENT, _reactor.RunUntilComplete(() => _reactor.Ring.CancelAsync(handle)).Errno);
        }
    }

    [Fact]
    public void An_operation_that_has_no_slot_yet_can_be_cancelled()
    {
        Assert.Equal(Errno.None, EventFd.Create(out SafeFd fd));
        using (fd)
        {
            for (int i = 0; i < _reactor.Ring.SlotCount; i++)
            {
                _reactor.Ring.ReadEventFdAsync(fd).Detach();
                _reactor.RunOnce(wait: false);
            }
            Assert.Equal(_reactor.Ring.SlotCount, _reactor.Ring.InKernelCount);
            IoTask<IoResult> last = _reactor.Ring.ReadEventFdAsync(fd, out IoHandle handle);
            Assert.Equal(0, _reactor.RunUntilComplete(_reactor.Ring.CancelAsync(handle)).Value);
            Assert.Equal(Errno.ECANCELED, _reactor.RunUntilComplete(last).Errno);
        }
    }

    [Fact]
    public void More_waits_than_slots_keep_no_transfer_from_the_kernel_and_can_all_be_cancelled()
    {
        Assert.Equal(Errno.None, EventFd.Create(out SafeFd fd));
        using (fd)
        {
            var waits = new IoTask<IoResult>[_reactor.Ring.SlotCount * 3];
            var handles = new IoHandle[waits.Length];
            for (int i = 0; i < waits.Length; i++) { waits[i] = _reactor.Ring.PollAsync(fd, 1 /* POLLIN */, out handles[i]); }
            while (_reactor.Ring.InKernelCount < waits.Length) { _reactor.RunOnce(wait: false); }

            Assert.Equal(BlockBytes, _reactor.RunUntilComplete(() => _reactor.Ring.WriteAsync(_file, _buffer.Slice(0, BlockBytes), 0)).Value);
            foreach (IoHandle handle in handles) { _reactor.Ring.CancelAsync(handle).Detach(); }
            foreach (IoTask<IoResult> wait in waits) { Assert.Equal(Errno.ECANCELED, _reactor.RunUntilComplete(wait).Errno); }
        }
    }

    [Fact]
    public void A_watch_reports_each_event_until_it_is_disposed()
    {
        Assert.Equal(Errno.None, EventFd.Create(out SafeFd fd));
        using (fd)
        {
            int events = 0;
            RingPoll watch = _reactor.Ring.Watch(fd, 1 /* POLLIN */, ready =>
            {
                Assert.False(ready.IsError);
                if (EventFd.TryConsume(fd, out _)) { events++; }
            });
            for (int i = 1; i <= 5; i++)
            {
                EventFd.Signal(fd);
                while (events < i) { _reactor.RunOnce(wait: true); }
            }
            watch.Dispose();
            EventFd.Signal(fd);
            for (int i = 0; i < 5; i++) { _reactor.RunOnce(wait: false); }
            Assert.Equal(5, events);
        }
    }

    [Fact]
    public void A_read_allocates_nothing_in_steady_state()
    {
        Assert.Equal(BlockBytes, _reactor.RunUntilComplete(() => _reactor.Ring.WriteAsync(_file, _buffer.Slice(0, BlockBytes), 0)).Value);
        for (int i = 0; i < 500; i++) { Read(); }
        long before = GC.GetAllocatedBytesForCurrentThread();
        for (int i = 0; i < 500; i++) { Read(); }
        Assert.Equal(0, GC.GetAllocatedBytesForCurrentThread() - before);

        void Read()
        {
            if (_reactor.RunUntilComplete(ReadOnceAsync()).Value != BlockBytes) { throw new InvalidOperationException("short read"); }
        }
    }

    [Fact]
    public void Timers_of_a_real_ring_fire_not_before_their_time()
    {
        long start = _reactor.Driver.NowNs;
        Assert.Equal(Errno.None, _reactor.RunUntilComplete(() => _reactor.DelayAsync(2_000_000)));
        Assert.True(_reactor.Driver.NowNs - start >= 2_000_000);
    }

    [Fact]
    public void A_failed_operation_is_an_errno()
    {
        using SafeFd readOnly = TemporaryFile.OpenReadOnly();
        Assert.Equal(Errno.EBADF, _reactor.RunUntilComplete(() => _reactor.Ring.WriteAsync(readOnly, _buffer.Slice(0, 512), 0)).Errno);
    }

    [Theory, InlineData(Errno.ENOSYS, "CONFIG_IO_URING"), InlineData(Errno.EPERM, "kernel.io_uring_disabled"), InlineData(Errno.ENOMEM, "LimitMEMLOCK")]
    public void A_ring_that_cannot_be_made_says_what_to_enable(Errno errno, string hint) => Assert.Contains(hint, Ring.Explain(errno), StringComparison.Ordinal);

    [Fact]
    public void Accept_gives_a_connection_that_carries_descriptors()
    {
        string path = TemporaryFile.NewPath();
        Assert.Equal(Errno.None, UnixSocket.Listen(path, out SafeFd listener));
        using (listener)
        {
            IoTask<IoResult> accept = _reactor.Ring.AcceptAsync(listener);
            Assert.Equal(Errno.None, UnixSocket.Connect(path, out SafeFd client));
            using var server = new SafeFd(_reactor.RunUntilComplete(accept).Value);
            using (client)
            {
                Assert.Equal(3, UnixSocket.Send(client, [1, 2, 3], [_file.Fd, client.Fd]).Value);
                Span<byte> data = stackalloc byte[8];
                Span<int> fds = stackalloc int[4];
                Assert.Equal(3, UnixSocket.Receive(server, data, fds, out int count).Value);
                Assert.Equal(2, count);
                Assert.Equal([1, 2, 3], data[..3].ToArray());
                using var first = new SafeFd(fds[0]);
                using var second = new SafeFd(fds[1]);
                FileCalls.Status(first, out FileStatus received);
                FileCalls.Status(_file, out FileStatus sent);
                Assert.Equal(sent, received);
                Assert.Equal(Errno.EAGAIN, UnixSocket.Receive(server, data, fds, out _).Errno);
                Assert.Equal(1, UnixSocket.Send(client, [9], [_file.Fd, client.Fd]).Value);
                Assert.Equal(Errno.EMSGSIZE, UnixSocket.Receive(server, data, fds[..1], out count).Errno);
                Assert.Equal(0, count);
            }
        }
        // The listener is gone, its name is not: the next one takes it over. A live listener and a plain file are left alone.
        Assert.Equal(Errno.None, UnixSocket.Listen(path, out SafeFd next));
        Assert.Equal(Errno.EADDRINUSE, UnixSocket.Listen(path, out _));
        next.Dispose();
        FileCalls.Unlink(path);
        File.WriteAllText(path, "keep");
        Assert.Equal(Errno.EADDRINUSE, UnixSocket.Listen(path, out _));
        Assert.Equal("keep", File.ReadAllText(path));
        FileCalls.Unlink(path);
    }

    private async IoTask<IoResult> ReadOnceAsync() => await _reactor.Ring.ReadAsync(_file, _buffer.Slice(0, BlockBytes), 0);

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

    public static SafeFd OpenReadOnly()
    {
        string path = NewPath();
        File.WriteAllText(path, "");
        Assert.Equal(Errno.None, FileCalls.Open(path, FileCalls.O_RDONLY, 0, out SafeFd fd));
        FileCalls.Unlink(path);
        return fd;
    }

    public static string NewPath() => Path.Combine(Path.GetTempPath(), $"vhostfs-{Guid.NewGuid():N}");
}
