using VhostFs.Reactor;

namespace VhostFs.VhostUser;

/// <summary>The commands under way on one logical unit, of all its initiators (SAM-5, 8).</summary>
/// <remarks>I/O that a bdev has begun cannot be called back, and its buffers are guest memory: a task is aborted by waiting until it has ended. Who waits does so for
/// what began before him, and so never for ever on account of others who come later, or wait as well.</remarks>
internal sealed class ScsiTaskSet
{
    private readonly List<IoCompletion<bool>> _waiting = [];
    private ScsiCommand? _newest;
    private ulong _sequence;

    public void Add(ScsiCommand command)
    {
        command.Sequence = ++_sequence;
        command.Older = _newest;
        if (_newest is not null) { _newest.Newer = command; }
        _newest = command;
    }

    public void Remove(ScsiCommand command)
    {
        if (command.Older is { } older) { older.Newer = command.Newer; }
        if (command.Newer is { } newer) { newer.Older = command.Older; }
        else { _newest = command.Older; }
        command.Older = command.Newer = null;
    }

    /// <summary>After <see cref="Remove"/>, when the guest has the answer: who waits looks again.</summary>
    public void Wake()
    {
        if (_waiting.Count == 0) { return; }
        IoCompletion<bool>[] waiting = [.. _waiting];
        _waiting.Clear();
        foreach (IoCompletion<bool> waiter in waiting) { waiter.Complete(true); }
    }

    public bool Any(ScsiTaskFilter filter) => Any(filter, ulong.MaxValue);

    /// <summary>Completes when none is left of those that have begun and that <paramref name="filter"/> lets through.</summary>
    public async IoTask<bool> WaitAsync(ScsiTaskFilter filter)
    {
        for (ulong limit = _sequence; Any(filter, limit);)
        {
            var ended = new IoCompletion<bool>();
            _waiting.Add(ended);
            await ended.Task;
        }
        return true;
    }

    private bool Any(ScsiTaskFilter filter, ulong limit)
    {
        for (ScsiCommand? command = _newest; command is not null; command = command.Older)
        {
            if (command.Sequence <= limit && filter.Takes(command)) { return true; }
        }
        return false;
    }
}

/// <summary>Which commands of a logical unit are meant.</summary>
/// <param name="Of">Of this initiator alone; null: of all.</param>
/// <param name="Except">Not this one.</param>
/// <param name="Id">The driver's identifier; null: any.</param>
internal readonly record struct ScsiTaskFilter(ScsiNexus? Of = null, ScsiCommand? Except = null, ulong? Id = null)
{
    public bool Takes(ScsiCommand command) => (Of is null || command.Nexus == Of) && command != Except && (Id is null || command.Id == Id);
}
