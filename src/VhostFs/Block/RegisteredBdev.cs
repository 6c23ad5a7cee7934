using System.Text.Json.Nodes;
using VhostFs.Bdev;
using VhostFs.Lvol;

namespace VhostFs.Block;

/// <summary>A bdev under its name, where it lives, and who uses it.</summary>
/// <param name="module">The name in its RPCs: bdev_MODULE_create.</param>
/// <param name="below">What it stands on; null: a file, a device or memory.</param>
internal sealed class RegisteredBdev(string module, IBdev bdev, Reactor.Reactor reactor, Guid uuid, RegisteredBdev? below = null)
{
    public string Name => bdev.Name;

    public string Module => module;

    public IBdev Bdev => bdev;

    /// <summary>The bdev as VMs have it.</summary>
    public MeteredBdev Served { get; } = new(bdev, reactor);

    public Reactor.Reactor Reactor => reactor;

    public string Uuid { get; } = (uuid == Guid.Empty ? Guid.NewGuid() : uuid).ToString();

    public RegisteredBdev? Below => below;

    /// <summary>All that it stands on, as it is now.</summary>
    public IEnumerable<RegisteredBdev> Bases => Members?.Invoke() ?? (below is null ? [] : [below]);

    /// <summary>Bdevs on one another, this one included.</summary>
    public int Depth => 1 + Bases.Select(b => b.Depth).DefaultIfEmpty().Max();

    /// <summary>Of an array: its bases. Null: it is none.</summary>
    public Func<IEnumerable<RegisteredBdev>>? Members { get; init; }

    /// <summary>Who has it to himself. Null: it is free.</summary>
    public BdevUser? User { get; set; }

    /// <summary>Another name for it (STORE/NAME of a logical volume). Null: none.</summary>
    public string? Alias => (bdev as LvolBdev)?.Alias;

    /// <summary>What only its module knows of it; names as SPDK's bdev_get_bdevs has them. Null: nothing.</summary>
    public Func<Task<object>>? Details { get; init; }

    /// <summary>The call that makes it again as it is now (<see cref="SavedCall"/>). Null: it comes by itself (from a configuration file, or it is found on another bdev).</summary>
    public Func<JsonObject>? Saved { get; set; }

    /// <summary>Completes when nothing is under way below it that none of its users waits for. Null: there is no such thing.</summary>
    public Func<Task>? Quiesce { get; init; }

    /// <summary>What it does of itself, in the background, is ended before it goes.</summary>
    public Func<Task>? Stop { get; init; }

    /// <summary>Its own files and sizes belong to a pool of the configuration: it goes when that goes.</summary>
    public bool IsBorrowed { get; init; }
}
