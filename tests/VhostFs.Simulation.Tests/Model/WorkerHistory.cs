namespace VhostFs.Simulation.Tests.Model;

/// <summary>What one change of a worker may have left behind.</summary>
/// <param name="Issued">Moment (of one counter for the whole simulation) of the request.</param>
/// <param name="Replied">Moment of the reply; <see cref="long.MaxValue"/>: none came.</param>
/// <param name="IsAcknowledged">The reply said that it was done.</param>
internal readonly record struct HistoryEntry(IReadOnlyList<ModelState> Possible, long Issued, long Replied, bool IsAcknowledged, string What);

/// <summary>All states that one worker's directory has had, or may have had, since it was last looked at as a whole; and which of them were promised to last.</summary>
internal sealed class WorkerHistory
{
    private readonly List<HistoryEntry> _entries = [];
    private readonly HashSet<ulong> _ever = [];

    public WorkerHistory(ModelState start) => Reset(start);

    /// <summary>What may be there now; one state, unless an answer is missing.</summary>
    public IReadOnlyList<ModelState> Current => _entries[^1].Possible;

    public int Last => _entries.Count - 1;

    /// <summary>The newest state that a power cut must not take.</summary>
    public int Durable { get; private set; }

    public HistoryEntry this[int index] => _entries[index];

    /// <summary>A disk that lies may bring any of these back.</summary>
    public bool EverHad(ModelState state) => _ever.Contains(state.Hash);

    public void Reset(ModelState state)
    {
        _ever.Add(state.Hash);
        _entries.Clear();
        _entries.Add(new HistoryEntry([state], 0, 0, true, "the start of this life"));
        Durable = 0;
    }

    public void Add(IReadOnlyList<ModelState> possible, long issued, long replied, bool isAcknowledged, string what)
    {
        foreach (ModelState state in possible) { _ever.Add(state.Hash); }
        _entries.Add(new HistoryEntry(Distinct(possible), issued, replied, isAcknowledged, what));
    }

    /// <summary>Somebody looked, and only these are left.</summary>
    public void Narrow(IReadOnlyList<ModelState> possible) => _entries[^1] = _entries[^1] with { Possible = Distinct(possible) };

    /// <summary>A sync that was asked for at this moment was answered: what had been answered before is durable.</summary>
    public void Synced(long issued)
    {
        for (int i = Last; i > Durable; i--)
        {
            if (_entries[i].IsAcknowledged && _entries[i].Replied < issued)
            {
                Durable = i;
                return;
            }
        }
    }

    /// <summary>The newest change that was answered: the death of the process must not take it.</summary>
    public int Acknowledged()
    {
        for (int i = Last; i >= 0; i--)
        {
            if (_entries[i].IsAcknowledged) { return i; }
        }
        return 0;
    }

    /// <summary>Which of the states from <paramref name="least"/> on have this content.</summary>
    public List<int> Matches(ModelState found, int least)
    {
        var matches = new List<int>();
        for (int i = least; i < _entries.Count; i++)
        {
            if (_entries[i].Possible.Any(state => state.Hash == found.Hash)) { matches.Add(i); }
        }
        return matches;
    }

    private static List<ModelState> Distinct(IReadOnlyList<ModelState> states)
    {
        var distinct = new List<ModelState>();
        foreach (ModelState state in states)
        {
            if (!distinct.Exists(other => other.Hash == state.Hash)) { distinct.Add(state); }
        }
        return distinct;
    }
}
