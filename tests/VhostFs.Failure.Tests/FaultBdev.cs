using VhostFs.Bdev;
using VhostFs.Linux;
using VhostFs.Reactor;
using IoReactor = VhostFs.Reactor.Reactor;

namespace VhostFs.Failure.Tests;

/// <summary>Counts the operations of a bdev and makes the Nth fail: <see cref="FaultPlan"/>.</summary>
/// <remarks>Unlike <see cref="ErrorBdev"/> it counts all kinds as one sequence, knows what a failed operation does to the disk, and can take back what was not flushed.</remarks>
public sealed class FaultBdev(IBdev inner) : BdevDecorator(inner, "fault")
{
    private const int SectorBytes = 512;
    private readonly List<(long Offset, byte[] Old)> _unflushed = [];
    private FaultPlan _plan = FaultPlan.Never;

    /// <summary>Operations since <see cref="Arm"/>.</summary>
    public long Count { get; private set; }

    public int InFlight { get; private set; }

    public List<InjectedFault> Injected { get; } = [];

    /// <summary>Operations neither count nor fail: the test looks at something.</summary>
    public bool IsPaused { get; set; }

    /// <summary>How long an operation takes; null: it completes at once.</summary>
    public Func<BdevOperations, long>? DelayNs { get; set; }

    /// <summary>Remembers what was there before each change since the last flush.</summary>
    public bool RemembersUnflushed { get; set; }

    public void Arm(FaultPlan plan)
    {
        _plan = plan;
        Count = 0;
        Injected.Clear();
    }

    /// <summary>A power cut: what no flush covers is as it was.</summary>
    public void LoseUnflushed()
    {
        for (int i = _unflushed.Count - 1; i >= 0; i--) { Put(_unflushed[i].Offset, _unflushed[i].Old); }
        _unflushed.Clear();
    }

    protected override async IoTask<IoResult> ReadCoreAsync(long offsetBytes, IoVecs target)
    {
        bool fails = Begin(BdevOperations.Read, offsetBytes, target.LengthBytes);
        IoResult result = fails ? IoResult.FromErrno(_plan.Errno) : await Inner.ReadAsync(offsetBytes, target);
        await EndAsync(BdevOperations.Read);
        return result;
    }

    protected override async IoTask<IoResult> WriteCoreAsync(long offsetBytes, IoVecs source)
    {
        bool fails = Begin(BdevOperations.Write, offsetBytes, source.LengthBytes);
        Remember(offsetBytes, source.LengthBytes);
        IoResult result = IoResult.FromErrno(_plan.Errno);
        if (!fails || _plan.Effect == FaultEffect.Done)
        {
            IoResult written = await Inner.WriteAsync(offsetBytes, source);
            if (!fails) { result = written; }
        }
        else if (_plan.Effect == FaultEffect.Half)
        {
            byte[] half = new byte[source.LengthBytes / 2 / SectorBytes * SectorBytes];
            source.CopyTo(0, half);
            Put(offsetBytes, half, source.LengthBytes);
        }
        await EndAsync(BdevOperations.Write);
        return result;
    }

    protected override async IoTask<Errno> FlushCoreAsync()
    {
        bool fails = Begin(BdevOperations.Flush, 0, 0);
        Errno result = fails ? _plan.Errno : await Inner.FlushAsync();
        if (!fails) { _unflushed.Clear(); }
        else if (_plan.Effect == FaultEffect.LosesUnflushed) { LoseUnflushed(); }
        await EndAsync(BdevOperations.Flush);
        return result;
    }

    protected override async IoTask<Errno> UnmapCoreAsync(long offsetBytes, long lengthBytes)
    {
        bool fails = Begin(BdevOperations.Unmap, offsetBytes, lengthBytes);
        Remember(offsetBytes, lengthBytes);
        Errno result = _plan.Errno;
        if (!fails || _plan.Effect == FaultEffect.Done)
        {
            Errno done = await Inner.UnmapAsync(offsetBytes, lengthBytes);
            if (!fails) { result = done; }
        }
        await EndAsync(BdevOperations.Unmap);
        return result;
    }

    protected override async IoTask<Errno> WriteZeroesCoreAsync(long offsetBytes, long lengthBytes)
    {
        bool fails = Begin(BdevOperations.WriteZeroes, offsetBytes, lengthBytes);
        Remember(offsetBytes, lengthBytes);
        Errno result = _plan.Errno;
        if (!fails || _plan.Effect == FaultEffect.Done)
        {
            Errno done = await Inner.WriteZeroesAsync(offsetBytes, lengthBytes);
            if (!fails) { result = done; }
        }
        await EndAsync(BdevOperations.WriteZeroes);
        return result;
    }

    private bool Begin(BdevOperations operation, long offset, long length)
    {
        InFlight++;
        if (IsPaused) { return false; }
        Count++;
        if (Count != _plan.Nth && (Count < _plan.Nth || (_plan.Afterwards & operation) == 0)) { return false; }
        Injected.Add(new InjectedFault(Count, operation, offset, length));
        return true;
    }

    private async IoTask<Errno> EndAsync(BdevOperations operation)
    {
        long delay = DelayNs?.Invoke(operation) ?? 0;
        if (delay > 0) { await IoReactor.Current.DelayAsync(delay); }
        InFlight--;
        return Errno.None;
    }

    private void Remember(long offset, long length)
    {
        if (!RemembersUnflushed) { return; }
        using var memory = new NativeBuffer((int)Math.Max(length, 1));
        using var list = new IoVecList(1);
        list.Add(memory.Slice(0, (int)length));
        _ = Inner.ReadAsync(offset, list.View()).GetAwaiter().GetResult(); // a disk in memory answers at once
        _unflushed.Add((offset, memory.Span[..(int)length].ToArray()));
    }

    /// <summary>Puts bytes on the disk; of the last block only the sectors given.</summary>
    private void Put(long offset, byte[] bytes, long lengthBytes = 0)
    {
        int whole = (int)Math.Max(lengthBytes, bytes.Length);
        if (whole == 0) { return; }
        using var memory = new NativeBuffer(whole);
        using var list = new IoVecList(1);
        list.Add(memory.Slice(0, whole));
        if (bytes.Length < whole) { _ = Inner.ReadAsync(offset, list.View()).GetAwaiter().GetResult(); }
        bytes.CopyTo(memory.Span);
        _ = Inner.WriteAsync(offset, list.View()).GetAwaiter().GetResult();
    }
}
