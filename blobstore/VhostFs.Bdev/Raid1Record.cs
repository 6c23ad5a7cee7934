using VhostFs.Linux;
using VhostFs.Reactor;

namespace VhostFs.Bdev;

/// <summary>What a raid1 writes down on its legs: who belongs to it, and the regions that are being written. All of that is one round of writes at a time, for everybody who waits.</summary>
/// <remarks>
/// <para>Order: a region is marked, durably and on every leg, before any leg gets what is written there. That a leg is out is durable on all others before any change is answered that it
/// may not have. A leg is called complete when it durably has everything.</para>
/// <para>Marks are taken away in the background, of regions that nobody has used for long, when there are many of them; after a flush of all legs, and only while all slots are in sync: until
/// then they say what the leg that is missing has missed.</para>
/// </remarks>
/// <param name="isNew">Nothing of it is written yet.</param>
internal sealed class Raid1Record(Raid1Bdev array, Raid1Superblock superblock, Raid1Regions regions, bool isNew)
{
    private readonly Raid1Slot[] _slots = [.. superblock.Slots];
    private WaitQueue _waiting = new();
    private WaitQueue _served = new();
    private ulong _sequence = superblock.Sequence;
    private ulong _writtenSequence = isNew ? 0 : superblock.Sequence;
    private bool _isChanged;
    private bool _isWriting;
    private bool _isUnmarking;

    /// <summary>What is to be written, or is.</summary>
    public Raid1Superblock Superblock => superblock with { Sequence = _sequence, Slots = [.. _slots] };

    public Raid1Regions Regions => regions;

    /// <summary>Something goes on that is not over when its requests are.</summary>
    public bool IsBusy => _isWriting || _isUnmarking;

    // What is in memory only does not count: a leg that is still called out must find what it has missed.
    private bool MayUnmark => array.IsWhole && IsSettled;

    private bool IsSettled => !_isChanged && _writtenSequence == _sequence;

    /// <summary>Before a range is written. An error: no leg that is left could be told.</summary>
    public async IoTask<Errno> BeginWriteAsync(long offset, long length)
    {
        regions.BeginWrite(offset, length);
        if (regions.IsDurable(offset, length)) { return Errno.None; }
        Errno errno = Errno.None;
        while (errno == Errno.None && !regions.IsDurable(offset, length)) { errno = await WriteAsync(); }
        if (errno != Errno.None) { regions.EndWrite(offset, length); }
        else if (regions.MarkedCount > regions.MostIdle && !_isUnmarking && MayUnmark) { UnmarkIdleAsync().Detach(); }
        return errno;
    }

    public void EndWrite(long offset, long length) => regions.EndWrite(offset, length);

    /// <summary>Who belongs to the array has changed: nothing is answered until that is written (<see cref="SettledAsync"/>).</summary>
    public void Change(Raid1Leg leg)
    {
        _slots[leg.Slot] = _slots[leg.Slot] with { State = leg.IsComplete && !leg.IsOut ? Raid1SlotState.Complete : Raid1SlotState.Out };
        _isChanged = true;
    }

    /// <summary>These legs are the array, and all of them are complete; whoever is missing is out.</summary>
    public void Renew(Raid1Leg[] legs)
    {
        for (int i = 0; i < _slots.Length; i++)
        {
            if (_slots[i].State == Raid1SlotState.Complete && !Array.Exists(legs, leg => leg.Slot == i)) { _slots[i] = _slots[i] with { State = Raid1SlotState.Out }; }
        }
        _isChanged = true;
    }

    /// <summary>A leg that is to be rebuilt has the slot.</summary>
    /// <returns>It is the one that was there, as it was when it left: it lacks what is marked, and nothing else.</returns>
    public bool Take(Raid1Leg leg, Raid1Superblock? found)
    {
        Raid1Slot slot = _slots[leg.Slot];
        bool isBack = found is { } own && IsBack(own, leg.Slot);
        if (isBack) { leg.Recorded = found; }
        else { _slots[leg.Slot] = new Raid1Slot(Guid.NewGuid(), 0, Raid1SlotState.Out); }
        regions.SetAllDirty();
        Change(leg);
        return isBack;
    }

    /// <summary>Whether a leg that was out lacks only what is marked: it has not been written since, and no mark has been taken away.</summary>
    public bool IsBack(Raid1Superblock found, int slot) =>
        found.Array == superblock.Array && found.OwnSlot == slot && found.Sequence <= _sequence && found.Own.Leg == _slots[slot].Leg
        && _slots[slot] is { State: Raid1SlotState.Out, CompleteAt: > 0 } && found.Own.CompleteAt == _slots[slot].CompleteAt;

    /// <summary>Who belongs to the array is written down. An error: no leg that is left could be told.</summary>
    public async IoTask<Errno> SettledAsync()
    {
        Errno errno = Errno.None;
        while (errno == Errno.None && !IsSettled) { errno = await WriteAsync(); }
        return errno;
    }

    /// <summary>The end, with nothing under way: where all legs are equal, nothing is marked.</summary>
    public async IoTask<Errno> CloseAsync()
    {
        await SettledAsync();
        return MayUnmark ? await UnmarkAsync(regions.Idle()) : Errno.None;
    }

    /// <summary>A round of writes that begins after this call.</summary>
    private IoTask<Errno> WriteAsync()
    {
        IoTask<Errno> written = _waiting.WaitAsync();
        if (!_isWriting) { RunAsync().Detach(); }
        return written;
    }

    private async IoTask<bool> RunAsync()
    {
        _isWriting = true;
        while (!_waiting.IsEmpty)
        {
            (_waiting, _served) = (_served, _waiting);
            _served.CompleteAll(await WriteRoundAsync());
        }
        _isWriting = false;
        array.EndBackground();
        return true;
    }

    // A leg that comes or is lost meanwhile makes another superblock, and that is for the next round: whoever depends on it waits for that.
    private async IoTask<Errno> WriteRoundAsync()
    {
        Raid1Leg[] legs = array.PresentLegs();
        if (_isChanged) { Advance(); }
        using var pages = new Raid1Pages(array.Memory, regions, Superblock);
        Errno errno = Errno.None;
        for (int i = 0; i < legs.Length && errno == Errno.None; i++)
        {
            errno = await pages.WriteAsync(legs[i]);
            if (legs[i].IsOut || (errno != Errno.None && array.TryLose(legs[i], errno))) { errno = Errno.None; }
        }
        bool isWritten = errno == Errno.None && Array.Exists(legs, leg => !leg.IsOut);
        pages.Settle(isWritten);
        if (isWritten) { _writtenSequence = pages.Sequence; }
        return errno;
    }

    // One number for each round: a leg that the last round has not reached is one behind.
    private void Advance()
    {
        _isChanged = false;
        _sequence++;
        for (int i = 0; i < _slots.Length; i++)
        {
            if (_slots[i].State == Raid1SlotState.Complete) { _slots[i] = _slots[i] with { CompleteAt = _sequence }; }
        }
    }

    private async IoTask<bool> UnmarkIdleAsync()
    {
        _isUnmarking = true;
        int[] idle = regions.Idle();
        await UnmarkAsync(idle[..((idle.Length + 1) / 2)]);
        _isUnmarking = false;
        array.EndBackground();
        return true;
    }

    private async IoTask<Errno> UnmarkAsync(int[] idle)
    {
        long asOf = regions.Now;
        Errno errno = await array.FlushLegsAsync();
        if (errno != Errno.None || !MayUnmark) { return errno; }
        foreach (int region in idle) { regions.Unmark(region, asOf); }
        return regions.IsDirty ? await WriteAsync() : Errno.None;
    }
}
