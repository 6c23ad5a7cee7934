using VhostFs.Bdev;
using VhostFs.Linux;
using VhostFs.Reactor;

namespace VhostFs.VhostUser;

/// <summary>A target with one logical unit, LUN 0: a bdev as a disk (SBC-3).</summary>
/// <remarks>It outlives connections: reservations, and the mode that an initiator has set, are its own.</remarks>
internal sealed class ScsiTarget
{
    private readonly List<ScsiNexus> _nexuses = [];
    private readonly Action<long> _onResized;
    private readonly Action<ScsiTarget> _tellResized;

    /// <param name="resized">After the unit attention has been raised.</param>
    public ScsiTarget(int number, IBdev bdev, Guid uuid, Action<ScsiTarget> resized)
    {
        Number = number;
        Bdev = bdev;
        Uuid = uuid;
        Reservations = new ScsiReservations(this);
        _tellResized = resized;
        _onResized = _ => Resize();
        bdev.Resized += _onResized;
    }

    public int Number { get; }

    public IBdev Bdev { get; }

    public Guid Uuid { get; }

    public ScsiReservations Reservations { get; }

    public ScsiTaskSet Tasks { get; } = new();

    public bool CanWrite => !Bdev.IsReadOnly;

    public ulong BlockCount => (ulong)(Bdev.SizeBytes / Bdev.BlockSize);

    /// <summary>WCE as initiators set it; nothing to set where the bdev has no cache.</summary>
    public bool WantsWriteCache { get; private set; } = true;

    /// <summary>A write is answered before it is durable.</summary>
    public bool HasWriteCache => Bdev.HasWriteCache && WantsWriteCache;

    public ScsiNexus Attach(string initiator)
    {
        var nexus = new ScsiNexus(initiator, this);
        _nexuses.Add(nexus);
        return nexus;
    }

    public void Detach(ScsiNexus nexus) => _nexuses.Remove(nexus);

    /// <param name="except">Who asked for it knows.</param>
    public void Raise(ScsiUnitAttention attention, ScsiNexus? except = null)
    {
        foreach (ScsiNexus nexus in _nexuses)
        {
            if (nexus != except) { nexus.Raise(attention); }
        }
    }

    /// <summary>To one initiator, wherever he is connected.</summary>
    public void Raise(ScsiUnitAttention attention, string initiator)
    {
        foreach (ScsiNexus nexus in _nexuses)
        {
            if (nexus.Initiator == initiator) { nexus.Raise(attention); }
        }
    }

    /// <summary>What is cached is durable before nothing is cached any more (SBC-3, 6.4.5).</summary>
    public async IoTask<Errno> SetWriteCacheAsync(bool wanted, ScsiNexus by)
    {
        if (wanted == WantsWriteCache) { return Errno.None; }
        WantsWriteCache = wanted;
        Errno flushed = wanted ? Errno.None : await Bdev.FlushAsync();
        Raise(ScsiUnitAttention.ModeChanged, by);
        return flushed;
    }

    /// <summary>LOGICAL UNIT RESET, when the tasks have ended (SAM-5, 6.3.3): registrations and reservations stay.</summary>
    public void Reset()
    {
        WantsWriteCache = true;
        Raise(ScsiUnitAttention.Reset);
    }

    /// <summary>The bdev has another size.</summary>
    public void Resize()
    {
        Raise(ScsiUnitAttention.CapacityChanged);
        _tellResized(this);
    }

    /// <summary>The bdev is let go.</summary>
    public void Close() => Bdev.Resized -= _onResized;
}
