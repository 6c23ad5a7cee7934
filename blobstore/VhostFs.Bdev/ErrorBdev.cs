using VhostFs.Linux;
using VhostFs.Reactor;

namespace VhostFs.Bdev;

/// <summary>Which operations fail: of these kinds, touching [FirstByte, LimitByte), after <paramref name="Skip"/> that pass, <paramref name="Count"/> times.</summary>
/// <remarks>A flush touches everything.</remarks>
public sealed record BdevFault(BdevOperations Operations, Errno Errno = Errno.EIO, long Skip = 0, long Count = 1)
{
    public const long Always = long.MaxValue;

    public long FirstByte { get; init; }

    public long LimitByte { get; init; } = long.MaxValue;
}

/// <summary>Fails operations as told; what fails does not reach the bdev below.</summary>
public sealed class ErrorBdev(IBdev inner, string name = "error") : BdevDecorator(inner, name)
{
    private readonly List<Active> _faults = [];

    /// <summary>Operations failed so far.</summary>
    public long InjectedErrors { get; private set; }

    public void Inject(BdevFault fault) => _faults.Add(new Active(fault));

    public void Clear() => _faults.Clear();

    protected override IoTask<IoResult> ReadCoreAsync(long offsetBytes, IoVecs target)
    {
        Errno fault = Check(BdevOperations.Read, offsetBytes, target.LengthBytes);
        return fault != Errno.None ? new(fault) : Inner.ReadAsync(offsetBytes, target);
    }

    protected override IoTask<IoResult> WriteCoreAsync(long offsetBytes, IoVecs source)
    {
        Errno fault = Check(BdevOperations.Write, offsetBytes, source.LengthBytes);
        return fault != Errno.None ? new(fault) : Inner.WriteAsync(offsetBytes, source);
    }

    protected override IoTask<Errno> FlushCoreAsync()
    {
        Errno fault = Check(BdevOperations.Flush, 0, long.MaxValue);
        return fault != Errno.None ? new(fault) : Inner.FlushAsync();
    }

    protected override IoTask<Errno> UnmapCoreAsync(long offsetBytes, long lengthBytes)
    {
        Errno fault = Check(BdevOperations.Unmap, offsetBytes, lengthBytes);
        return fault != Errno.None ? new(fault) : Inner.UnmapAsync(offsetBytes, lengthBytes);
    }

    protected override IoTask<Errno> WriteZeroesCoreAsync(long offsetBytes, long lengthBytes)
    {
        Errno fault = Check(BdevOperations.WriteZeroes, offsetBytes, lengthBytes);
        return fault != Errno.None ? new(fault) : Inner.WriteZeroesAsync(offsetBytes, lengthBytes);
    }

    private Errno Check(BdevOperations operation, long offset, long length)
    {
        foreach (Active active in _faults)
        {
            BdevFault fault = active.Fault;
            bool touches = offset < fault.LimitByte && (length > fault.FirstByte || offset > fault.FirstByte - length);
            if ((fault.Operations & operation) == 0 || !touches) { continue; }
            long seen = active.Seen++;
            if (seen < fault.Skip || seen - fault.Skip >= fault.Count) { continue; }
            InjectedErrors++;
            return fault.Errno;
        }
        return Errno.None;
    }

    private sealed class Active(BdevFault fault)
    {
        public BdevFault Fault { get; } = fault;

        public long Seen { get; set; }
    }
}
