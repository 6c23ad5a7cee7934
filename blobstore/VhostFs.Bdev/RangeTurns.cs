using VhostFs.Reactor;

namespace VhostFs.Bdev;

/// <summary>One who changes a range of bytes, and where he stands in the queue. Made once and used again; one range at a time.</summary>
internal sealed class RangeTurn
{
    public IoCompletion<bool> Begun { get; } = new();

    public long First { get; set; }

    public long Limit { get; set; }

    /// <summary>Earlier ones, still there, whose ranges overlap this one.</summary>
    public int Before { get; set; }

    public RangeTurn? Previous { get; set; }

    public RangeTurn? Next { get; set; }

    /// <summary>In the queue of those that may begin.</summary>
    public RangeTurn? NextReady { get; set; }

    public bool Overlaps(RangeTurn other) => First < other.Limit && other.First < Limit;
}

/// <summary>Whoever changes bytes that another is changing waits for him: ranges that overlap have their turns in the order in which they were asked for, all others at once.</summary>
/// <remarks>Looks at everybody who is there, which are as many as requests are in flight; where nobody waits, leaving looks at nothing.</remarks>
internal sealed class RangeTurns
{
    private RangeTurn? _first;
    private RangeTurn? _last;
    private RangeTurn? _firstReady;
    private RangeTurn? _lastReady;
    private int _waiting;
    private bool _isHandingOver;

    /// <summary>Completes when it is this one's turn; <see cref="Leave"/> ends it.</summary>
    public IoTask<bool> EnterAsync(RangeTurn turn, long firstByte, long lengthBytes)
    {
        (turn.First, turn.Limit, turn.Before) = (firstByte, firstByte + lengthBytes, 0);
        for (RangeTurn? earlier = _first; earlier is not null; earlier = earlier.Next)
        {
            if (earlier.Overlaps(turn)) { turn.Before++; }
        }
        turn.Previous = _last;
        if (_last is null) { _first = turn; }
        else { _last.Next = turn; }
        _last = turn;
        if (turn.Before == 0) { return new(true); }
        _waiting++;
        return turn.Begun.Task;
    }

    public void Leave(RangeTurn turn)
    {
        RangeTurn? later = turn.Next;
        if (turn.Previous is null) { _first = later; }
        else { turn.Previous.Next = later; }
        if (later is null) { _last = turn.Previous; }
        else { later.Previous = turn.Previous; }
        turn.Previous = turn.Next = null;
        if (_waiting == 0) { return; }
        for (; later is not null; later = later.Next)
        {
            if (!turn.Overlaps(later) || --later.Before > 0) { continue; }
            if (_lastReady is null) { _firstReady = later; }
            else { _lastReady.NextReady = later; }
            _lastReady = later;
        }
        HandOver();
    }

    // Who begins may be done at once and leave, which makes others ready: a loop, because a call within a call would be as deep as there are requests.
    private void HandOver()
    {
        if (_isHandingOver) { return; }
        _isHandingOver = true;
        while (_firstReady is { } ready)
        {
            _firstReady = ready.NextReady;
            if (_firstReady is null) { _lastReady = null; }
            ready.NextReady = null;
            _waiting--;
            ready.Begun.Complete(true);
        }
        _isHandingOver = false;
    }
}
