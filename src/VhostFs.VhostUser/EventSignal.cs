using VhostFs.Linux;
using VhostFs.Reactor;

namespace VhostFs.VhostUser;

/// <summary>A front-end's eventfd that we signal (call, err).</summary>
/// <remarks>The descriptor is hostile: it may be full, set back to blocking, or no eventfd. So it is written through the ring, never by a system call
/// that could block the reactor, with at most one write under way; signals meanwhile become one more. The write goes out with the reactor's next submission: no
/// system call of its own. A descriptor is closed only when no write on it is under way.</remarks>
internal sealed class EventSignal(IDescriptorEvents descriptors) : IoContinuation
{
    private static readonly NativeBuffer s_one = MakeOne();
    private IoTask<IoResult>.Awaiter _awaiter;
    private IoHandle _handle;
    private SafeFd? _fd;
    private SafeFd? _retired;
    private bool _again;

    /// <summary>A write is under way.</summary>
    public bool IsBusy { get; private set; }

    /// <summary>Takes ownership of the new descriptor; null: none, signals are remembered until there is one.</summary>
    public void Replace(SafeFd? fd)
    {
        SafeFd? old = _fd;
        _fd = fd;
        if (old is not null)
        {
            if (IsBusy && _retired is null)
            {
                _retired = old;
                Cancel();
            }
            else { old.Dispose(); } // at most one write is under way, and it is on the retired one
        }
        if (fd is null) { return; }
        IoResult flags = FileCalls.GetFlags(fd);
        if (!flags.IsError) { FileCalls.SetFlags(fd, flags.Value | FileCalls.O_NONBLOCK); }
        if (_again) { Signal(); }
    }

    public void Signal()
    {
        if (IsBusy || _fd is null)
        {
            _again = true;
            return;
        }
        _again = false;
        IsBusy = true;
        IoTask<IoResult> task = descriptors.WriteStreamAsync(_fd, s_one.Vec, out _handle);
        _awaiter = task.GetAwaiter();
        Invariant.That(!_awaiter.IsCompleted);
        _awaiter.OnCompleted(this);
    }

    /// <summary>Ends a write that does not end by itself; an ordinary one was done at its submission and is not touched.</summary>
    public void Cancel()
    {
        if (IsBusy) { descriptors.CancelAsync(_handle).Detach(); }
    }

    /// <summary>Forgets a signal that waits for a descriptor or for its turn.</summary>
    public void Forget() => _again = false;

    protected override void Continue()
    {
        // EAGAIN: full, so the other side has a wake-up pending. Any other error is the front-end's own loss.
        _ = _awaiter.GetResult();
        _awaiter = default;
        IsBusy = false;
        _retired?.Dispose();
        _retired = null;
        if (_again) { Signal(); }
    }

    private static NativeBuffer MakeOne()
    {
        var buffer = new NativeBuffer(sizeof(ulong), zeroed: true);
        buffer.Span[0] = 1;
        return buffer;
    }
}
