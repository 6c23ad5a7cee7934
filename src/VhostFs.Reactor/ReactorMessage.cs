namespace VhostFs.Reactor;

/// <summary>Something that one reactor hands to another (<see cref="Reactor.Send"/>). Made once and sent again and again: on its way at most once at a time.</summary>
public abstract class ReactorMessage
{
    internal ReactorMessage? Next { get; set; }

    /// <summary>Runs on the reactor that it was sent to.</summary>
    protected internal abstract void Receive();
}

/// <summary>Messages on their way to one reactor: any thread adds, the reactor takes all of them at once.</summary>
/// <remarks>The messages are the list, so nothing is allocated and nobody waits; it is as long as what the senders own.</remarks>
internal sealed class MessageList
{
    private ReactorMessage? _newest;
    private ReactorMessage? _oldest; // taken and not yet received; the reactor's own

    /// <summary>On the reactor. A hint that needs no barrier: who adds wakes the reactor afterwards.</summary>
    public bool IsEmpty => _oldest is null && Volatile.Read(ref _newest) is null;

    /// <summary>True: it is the first since the reactor last took them, and somebody must wake it.</summary>
    public bool Add(ReactorMessage message)
    {
        ReactorMessage? seen = Volatile.Read(ref _newest);
        while (true)
        {
            message.Next = seen;
            ReactorMessage? found = Interlocked.CompareExchange(ref _newest, message, seen);
            if (found == seen) { return seen is null; }
            seen = found;
        }
    }

    /// <summary>Receives what has come so far, in the order in which it was sent; what that sends in turn comes next time. Returns how many.</summary>
    public int ReceiveAll()
    {
        if (_oldest is null) { Take(); }
        int count = 0;
        while (_oldest is { } message)
        {
            _oldest = message.Next; // first: an exception must not lose those behind it
            message.Next = null;    // from here on it may be sent again
            count++;
            message.Receive();
        }
        return count;
    }

    private void Take()
    {
        for (ReactorMessage? next, message = Interlocked.Exchange(ref _newest, null); message is not null; message = next)
        {
            next = message.Next;
            message.Next = _oldest;
            _oldest = message;
        }
    }
}
