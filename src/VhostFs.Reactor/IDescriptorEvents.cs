using VhostFs.Linux;

namespace VhostFs.Reactor;

/// <summary>Waiting for descriptors, for whoever talks to other processes: sockets, eventfds. <see cref="Ring"/> in production; in simulation a driver that looks at the
/// descriptors whenever its virtual time stands still.</summary>
/// <remarks>Operations complete only inside the driver's <see cref="IReactorDriver.Poll"/>, never inside these calls. A descriptor stays open until
/// what was asked of it has completed or, for a watch, until that is disposed.</remarks>
public interface IDescriptorEvents
{
    /// <summary>Watches a descriptor until the result is disposed: the callback runs on each event (POLLIN...), or gets the error that ended the watch.</summary>
    /// <remarks>Edge-like: each write to an eventfd is an event, also when nobody reads it.</remarks>
    IDisposable Watch(SafeFd fd, short events, Action<IoResult> onReady);

    /// <summary>One event of <paramref name="events"/>; the result is the events seen.</summary>
    IoTask<IoResult> PollAsync(SafeFd fd, short events, out IoHandle handle);

    /// <summary>The result is the new descriptor (close-on-exec, non-blocking), owned by the caller.</summary>
    IoTask<IoResult> AcceptAsync(SafeFd listener, out IoHandle handle);

    /// <summary>Writes to something without offsets: an eventfd, a socket.</summary>
    IoTask<IoResult> WriteStreamAsync(SafeFd fd, IoVec source, out IoHandle handle);

    /// <summary>Asks for the end of an operation, which completes with ECANCELED if it had not gone too far. None: found; ENOENT: it has completed; EALREADY: it is running.</summary>
    IoTask<IoResult> CancelAsync(IoHandle handle);
}

/// <summary>Names one operation for <see cref="IDescriptorEvents.CancelAsync"/>; harmless when it has completed.</summary>
public readonly struct IoHandle(IoOperation<IoResult> operation)
{
    private readonly uint _version = operation.Version;

    /// <summary>Null when it has completed.</summary>
    public IoOperation<IoResult>? Operation => operation is not null && operation.Version == _version && !operation.IsCompleted ? operation : null;
}
