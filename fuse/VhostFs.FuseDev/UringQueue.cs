using VhostFs.Linux;
using VhostFs.Reactor;

namespace VhostFs.FuseDev;

/// <summary>The queue of one core: the kernel puts a request where its caller runs.</summary>
/// <remarks>
/// It begins with a few entries and gets more when the kernel has few left. The kernel gives an entry that comes late to the next request, and what waits already
/// moves when a request of this core is answered. So whatever comes this way must be answered by itself: no waiting for locks.
/// </remarks>
internal sealed class UringQueue(UringQueues queues, int index)
{
    private const uint FUSE_IO_URING_CMD_REGISTER = 1;
    private const uint FUSE_IO_URING_CMD_COMMIT_AND_FETCH = 2;
    private const int FirstEntries = 2;
    private const int FewEntries = 2;
    private const int MaxEntries = 16; // further requests wait in the kernel

    private int _entries;
    private int _inKernel;

    public UringQueues Queues => queues;

    /// <summary>The kernel uses the queues when each core has an entry.</summary>
    public void Open()
    {
        for (int i = 0; i < FirstEntries; i++) { AddEntry(); }
    }

    /// <summary>An entry's request is answered: the reply goes to the kernel, which puts the next request there.</summary>
    public void Finish(UringEntry entry)
    {
        queues.Answered();
        CommitAsync(entry).Detach();
    }

    private void AddEntry()
    {
        if (UringEntry.TryCreate(this, queues.PayloadBytes) is not { } entry) { return; } // those there are go on
        _entries++;
        queues.EntryCount++;
        RegisterAsync(entry).Detach();
    }

    private async IoTask<bool> RegisterAsync(UringEntry entry)
    {
        _inKernel++;
        IoResult arrived = await queues.Ring.CommandAsync(queues.Device, FUSE_IO_URING_CMD_REGISTER, entry.Segments.View(), (0, 0), (ulong)index);
        return Arrived(entry, arrived);
    }

    private async IoTask<bool> CommitAsync(UringEntry entry)
    {
        _inKernel++;
        if (queues.UsedBytes > UringQueues.MaxUsedBytes) { entry.GiveBackPayload(); }
        IoResult arrived = await queues.Ring.CommandAsync(queues.Device, FUSE_IO_URING_CMD_COMMIT_AND_FETCH, default, (0, entry.CommitId), (ulong)index);
        return Arrived(entry, arrived);
    }

    private bool Arrived(UringEntry entry, IoResult arrived)
    {
        _inKernel--;
        if (arrived.IsError)
        {
            _entries--;
            entry.Dispose();
            queues.EntryEnded(arrived.Errno);
            return true;
        }
        bool isSound = entry.Arrange();
        if (_inKernel < FewEntries && _entries < MaxEntries) { AddEntry(); }
        queues.Handle(entry, isSound);
        return true;
    }
}
