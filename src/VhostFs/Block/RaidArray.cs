using System.Text.Json.Nodes;
using VhostFs.Bdev;
using VhostFs.Linux;
using VhostFs.Reactor;
using VhostFs.Rpc;

namespace VhostFs.Block;

internal enum RaidLevel
{
    Concat,
    Raid0,
    Raid1,
    Raid5f,
}

/// <summary>A bdev made of others, with the slots in which they are. It is their user: of a raid1 a base may be taken, all others go with any of theirs.</summary>
internal sealed class RaidArray : BdevUser
{
    private readonly BdevRegistry _bdevs;
    private readonly RegisteredBdev?[] _slots;
    private readonly IBdev?[] _parts; // the bases as the array uses them: from its own reactor
    private readonly Task<bool>?[] _leaving; // of legs that are to be free
    private readonly long[] _blocks;

    private RaidArray(BdevRegistry bdevs, RaidLevel level, string name, long stripBytes, IReadOnlyList<RegisteredBdev?> bases, IReadOnlyList<IBdev?> parts)
        : base($"bdev {name}")
    {
        _bdevs = bdevs;
        Level = level;
        StripBytes = stripBytes;
        _slots = [.. bases];
        _parts = [.. parts];
        _leaving = new Task<bool>?[bases.Count];
        _blocks = new long[bases.Count];
        Registered = null!; // MakeAsync, StartAsync
    }

    public RaidLevel Level { get; }

    /// <summary>0: of a raid1.</summary>
    public long StripBytes { get; }

    public RegisteredBdev Registered { get; private set; }

    /// <summary>What its bases know it by. Empty: nothing is written on them.</summary>
    public Guid Id { get; private init; }

    public override bool IsFoundByExamination => HasSuperblock;

    private bool HasSuperblock => Id != Guid.Empty;

    /// <summary>It goes, and its bases are free.</summary>
    public event Action<RaidArray>? Removed;

    private Raid1Bdev? Mirror => Registered.Bdev as Raid1Bdev;

    private RegisteredBdev? RebuildTarget => Mirror?.RebuildTarget is { } part && FindSlot(part) is >= 0 and var slot ? _slots[slot] : null;

    /// <summary>On the reactor of the first base. What the bases must be has been looked at; they have no user.</summary>
    public static async Task<RaidArray> MakeAsync(BdevRegistry bdevs, RaidLevel level, string name, Guid uuid, long stripBytes, IReadOnlyList<RegisteredBdev> bases, Action<RaidArray, Raid1Bdev> watch)
    {
        Reactor.Reactor reactor = bases[0].Reactor;
        var array = new RaidArray(bdevs, level, name, stripBytes, bases, [.. bases.Select(b => From(reactor, b))]);
        IBdev bdev = await reactor.InvokeAsync(() => new IoTask<IBdev>(array.Make(name, reactor)));
        if (bdev is Raid1Bdev mirror) { watch(array, mirror); }
        array.Register(bdev, reactor, uuid);
        return array;
    }

    /// <summary>A raid1 with superblocks, new or as it was found.</summary>
    /// <param name="assembly">Makes one of bases, by slot, as they are used from the reactor.</param>
    /// <param name="watch">Is told of it before it runs.</param>
    /// <exception cref="RpcException">It cannot be read or written.</exception>
    public static async Task<RaidArray> StartAsync(BdevRegistry bdevs, IReadOnlyList<RegisteredBdev?> bases, Func<IReadOnlyList<IBdev?>, Raid1Assembly> assembly, Action<RaidArray, Raid1Bdev> watch)
    {
        Reactor.Reactor reactor = bases.First(b => b is not null)!.Reactor;
        IBdev?[] parts = [.. bases.Select(b => b is null ? null : From(reactor, b))];
        Raid1Assembly made = assembly(parts);
        var array = new RaidArray(bdevs, RaidLevel.Raid1, made.Superblock.Name, 0, bases, parts) { Id = made.Superblock.Array };
        (Raid1Bdev? bdev, Errno errno) = await reactor.InvokeAsync(async () =>
        {
            Errno loaded = made.IsNew ? Errno.None : await made.LoadAsync();
            return loaded == Errno.None ? await Raid1Bdev.StartAsync(made, reactor, mirror => watch(array, mirror)) : (null, loaded);
        });
        if (bdev is null) { throw RpcException.Of(errno, "what is on its bases about it cannot be read or written"); }
        Array.Fill(array._blocks, bdev.SizeBytes / bdev.BlockSize);
        array.Register(bdev, reactor, made.Superblock.Uuid);
        return array;
    }

    private void Register(IBdev bdev, Reactor.Reactor reactor, Guid uuid)
    {
        Registered = new RegisteredBdev(BdevModule.Raid, bdev, reactor, uuid)
        {
            Details = () => Task.FromResult<object>(new Dictionary<string, object> { ["raid"] = Describe() }),
            Quiesce = () => Mirror is { } mirror ? reactor.InvokeAsync(mirror.LeftQuietAsync) : Task.CompletedTask,
            Stop = StopAsync,
            Saved = HasSuperblock ? null : Save, // examination of its bases finds it
            Members = () => _slots.OfType<RegisteredBdev>(),
        };
        foreach (RegisteredBdev below in _slots.OfType<RegisteredBdev>()) { below.User = this; }
    }

    private string LevelName => Level switch { RaidLevel.Concat => "concat", RaidLevel.Raid0 => "raid0", _ => "raid1" };

    /// <summary>What there would be for data; 0: nothing fits.</summary>
    public static long SizeOf(RaidLevel level, IReadOnlyList<IBdev> bases, long stripBytes) => level switch
    {
        RaidLevel.Concat => ConcatBdev.SizeOf(bases, stripBytes),
        RaidLevel.Raid0 => Raid0Bdev.SizeOf(bases, stripBytes),
        _ => bases.Min(b => b.SizeBytes),
    };

    /// <summary>Member by member as SPDK's bdev_raid_get_bdevs has it; of the name that is for the caller.</summary>
    public Dictionary<string, object> Describe()
    {
        int present = _slots.Count(slot => slot is not null);
        var shown = new Dictionary<string, object>
        {
            ["uuid"] = Registered.Uuid,
            ["strip_size_kb"] = StripBytes / 1024,
            ["state"] = "online",
            ["raid_level"] = LevelName,
            ["superblock"] = HasSuperblock,
            ["num_base_bdevs"] = _slots.Length,
            ["num_base_bdevs_discovered"] = present,
            ["num_base_bdevs_operational"] = present,
        };
        if (Mirror?.RebuiltBytes is >= 0 and var bytes)
        {
            shown["process"] = new Dictionary<string, object>
            {
                ["type"] = "rebuild",
                ["target"] = RebuildTarget?.Name ?? "",
                ["progress"] = new Dictionary<string, object> { ["blocks"] = bytes / Registered.Bdev.BlockSize, ["percent"] = (int)(bytes * 100.0 / Registered.Bdev.SizeBytes) },
            };
        }
        shown["base_bdevs_list"] = _slots.Select((slot, i) => new Dictionary<string, object?>
        {
            ["name"] = slot?.Name,
            ["uuid"] = slot?.Uuid ?? Guid.Empty.ToString(),
            ["is_configured"] = slot is not null,
            ["data_offset"] = HasSuperblock ? Raid1Superblock.DataOffset / Registered.Bdev.BlockSize : 0,
            ["data_size"] = _blocks[i],
        }).ToArray();
        return shown;
    }

    /// <summary>The call that makes it again, of what is equal in it: a base that is out, or still being rebuilt, would come back as if it were not. Of too few bases it fails, as it should.</summary>
    private JsonObject Save()
    {
        RegisteredBdev? rebuilding = RebuildTarget;
        string[] bases = [.. _slots.Where(slot => slot is not null && slot != rebuilding).Select(slot => slot!.Name)];
        var parameters = new JsonObject { ["name"] = Registered.Name, ["raid_level"] = LevelName, ["base_bdevs"] = new JsonArray([.. bases.Select(name => JsonValue.Create(name))]), ["uuid"] = Registered.Uuid };
        if (StripBytes > 0) { parameters["strip_size_kb"] = StripBytes / 1024; }
        return SavedCall.Of("bdev_raid_create", parameters);
    }

    /// <summary>A rebuild begins; of a base that was there before, of what it lacks. EINVAL: no slot is free, or the bdev does not fit; EPERM: another rebuild is under way.</summary>
    public async Task<Errno> AddAsync(RegisteredBdev below)
    {
        if (Mirror is not { } mirror || !mirror.Fits(below.Bdev)) { return Errno.EINVAL; }
        Raid1Superblock? found = HasSuperblock ? (await below.Reactor.InvokeAsync(() => Raid1Assembly.FindAsync(below.Bdev))).Superblock : null;
        int slot = await FindSlotAsync(found) ?? Array.IndexOf(_slots, null);
        if (slot < 0 || _slots[slot] is not null) { return Errno.EINVAL; }
        IBdev part = From(Registered.Reactor, below);
        Errno started = await Registered.Reactor.InvokeAsync(() => mirror.StartRebuildAsync(slot, part, found));
        if (started != Errno.None) { return Errno.EPERM; }
        (_slots[slot], _parts[slot]) = (below, part);
        below.User = this;
        return Errno.None;
    }

    /// <summary>Where a base was that has come back and lacks only what was written since; null: nowhere.</summary>
    public Task<int?> FindSlotAsync(Raid1Superblock? found) =>
        Mirror is { } mirror && found is not null ? Registered.Reactor.InvokeAsync(() => new IoTask<int?>(mirror.SlotOf(found))) : Task.FromResult<int?>(null);

    /// <summary>The base in this slot failed and is out: it is free once nothing touches it any more.</summary>
    public async Task ForgetAsync(IBdev part)
    {
        if (_bdevs.All.Contains(Registered) && FindSlot(part) is >= 0 and var slot) { await TakeOutAsync(slot); }
    }

    public string? NameOf(IBdev part) => FindSlot(part) is >= 0 and var slot ? _slots[slot]!.Name : null;

    public override async Task<BdevUser?> FindRefusalAsync(RegisteredBdev bdev)
    {
        bool goesToo = Mirror is not { } mirror || await Registered.Reactor.InvokeAsync(() => new IoTask<bool>(mirror.IsLast(PartOf(bdev))));
        return goesToo ? await BdevRegistry.FindRefusalAsync(Registered) : null;
    }

    /// <summary>A leg that is not the last begins to leave; all else goes with the array, and so with who uses that.</summary>
    public override async Task QuiesceAsync(RegisteredBdev bdev)
    {
        if (Mirror is null || !await LeaveAsync(Array.IndexOf(_slots, bdev))) { await BdevRegistry.QuiesceAsync(Registered); }
    }

    // Whether a leg is the last may have changed since somebody asked.
    public override async Task LetGoAsync(RegisteredBdev bdev)
    {
        if (Mirror is not null && await TakeOutAsync(Array.IndexOf(_slots, bdev))) { return; }
        await _bdevs.DeleteAsync(Registered);
    }

    private async Task<bool> TakeOutAsync(int slot)
    {
        if (!await LeaveAsync(slot)) { return false; }
        Free(slot);
        return true;
    }

    /// <summary>False: it is the last, and stays.</summary>
    private async Task<bool> LeaveAsync(int slot)
    {
        IBdev part = _parts[slot]!;
        // Once, however often it is asked for.
        bool leaves = await (_leaving[slot] ??= Registered.Reactor.InvokeAsync(() => Mirror!.RemoveAsync(part)));
        if (!leaves) { _leaving[slot] = null; }
        return leaves;
    }

    private async Task StopAsync()
    {
        if (Mirror is { } mirror) { await Registered.Reactor.InvokeAsync(mirror.StopAsync); }
        for (int i = 0; i < _slots.Length; i++) { Free(i); }
        Removed?.Invoke(this);
    }

    private void Free(int slot)
    {
        if (_slots[slot] is { } below) { below.User = null; }
        (_slots[slot], _parts[slot], _leaving[slot]) = (null, null, null);
    }

    private IBdev Make(string name, Reactor.Reactor reactor)
    {
        IBdev[] parts = [.. _parts.Select(part => part!)];
        IBdev bdev = Level switch
        {
            RaidLevel.Concat => new ConcatBdev(name, parts, StripBytes),
            RaidLevel.Raid0 => new Raid0Bdev(name, parts, StripBytes),
            _ => new Raid1Bdev(name, parts, reactor),
        };
        for (int i = 0; i < parts.Length; i++)
        {
            long bytes = Level switch { RaidLevel.Concat => ConcatBdev.BaseBytes(parts[i], StripBytes), RaidLevel.Raid0 => Raid0Bdev.BaseBytes(parts, StripBytes), _ => bdev.SizeBytes };
            _blocks[i] = bytes / bdev.BlockSize;
        }
        return bdev;
    }

    private int FindSlot(IBdev part) => Array.IndexOf(_parts, part);

    private IBdev PartOf(RegisteredBdev bdev) => _parts[Array.IndexOf(_slots, bdev)]!;

    private static IBdev From(Reactor.Reactor reactor, RegisteredBdev below) => below.Reactor == reactor ? below.Bdev : new RemoteBdev(below.Bdev, reactor, below.Reactor);
}
