using System.Numerics;
using VhostFs.Bdev;
using VhostFs.Linux;
using VhostFs.Rpc;

namespace VhostFs.Block;

/// <summary>The bdev_raid_* methods: raid0, raid1 and concat, of bdevs that are there; a raid1 also with superblocks, by which it is found again.</summary>
internal sealed class RaidMethods(BdevRegistry bdevs, ControlTurn turn, Log log)
{
    // SPDK's bounds.
    private const int MaxBases = 255, MaxNameBytes = 63;

    private static readonly RpcRefusal s_wrong = new(RpcErrorCode.ParseError, "spdk_json_decode_object failed");
    private static readonly RpcRefusal s_wrongForAdd = new(RpcErrorCode.InternalError, "spdk_json_decode_object failed");

    private static readonly Dictionary<string, RaidLevel> s_levels = new(StringComparer.OrdinalIgnoreCase)
    {
        ["concat"] = RaidLevel.Concat,
        ["raid0"] = RaidLevel.Raid0,
        ["0"] = RaidLevel.Raid0,
        ["raid1"] = RaidLevel.Raid1,
        ["1"] = RaidLevel.Raid1,
        ["raid5f"] = RaidLevel.Raid5f,
        ["5f"] = RaidLevel.Raid5f,
    };

    private readonly List<RaidArray> _arrays = [];
    private readonly List<FoundArray> _found = [];

    public Dictionary<string, RpcMethod> Methods => new(StringComparer.Ordinal)
    {
        ["bdev_raid_create"] = turn.Whole(CreateAsync),
        ["bdev_raid_delete"] = DeleteAsync,
        ["bdev_raid_get_bdevs"] = turn.Whole(GetAsync),
        ["bdev_raid_add_base_bdev"] = turn.Whole(AddBaseAsync),
        ["bdev_raid_remove_base_bdev"] = RemoveBaseAsync,
    };

    private async Task<object?> CreateAsync(RpcCall call)
    {
        var parameters = new RpcParameters(call, s_wrong);
        string name = parameters.Text("name");
        RaidLevel level = parameters.Choice("raid_level", s_levels);
        string[] baseNames = parameters.Texts("base_bdevs", MaxBases);
        long stripBytes = (long)(parameters.OptionalNumber("strip_size_kb", uint.MaxValue) ?? 0) * 1024;
        Guid uuid = parameters.Uuid("uuid");
        bool hasSuperblock = parameters.Flag("superblock");
        parameters.End();
        if (baseNames.Contains("")) { throw new RpcException(-(int)Errno.EINVAL, $"The base bdev name cannot be empty: {RpcException.Text(Errno.EINVAL)}"); }
        try
        {
            CheckShape(name, level, baseNames, stripBytes, hasSuperblock);
            if (hasSuperblock && await FindAgainAsync(name, baseNames) is { } found)
            {
                await StartAsync(found);
                return true;
            }
            bdevs.CheckNew(name, uuid);
            IReadOnlyList<RegisteredBdev> bases = FindBases(level, baseNames, stripBytes, hasSuperblock);
            if (uuid == Guid.Empty) { uuid = Guid.NewGuid(); }
            await AddAsync(hasSuperblock
                ? await RaidArray.StartAsync(bdevs, bases, parts => Raid1Assembly.Create(name, uuid, [.. parts.Select(p => p!)]), Watch)
                : await RaidArray.MakeAsync(bdevs, level, name, uuid, stripBytes, bases, Watch));
        }
        catch (RpcException e) { throw new RpcException(e.Code, $"Failed to create RAID bdev {name}: {e.Message}", e.Reason); }
        return true;
    }

    private async Task<object?> DeleteAsync(RpcCall call)
    {
        var parameters = new RpcParameters(call, s_wrong);
        string name = parameters.Text("name");
        parameters.End();
        string notFound = $"raid bdev {name} not found";
        if (await turn.RunAsync(() => Task.FromResult(TryForget(name)))) { return true; }
        try { await bdevs.DeleteAsync(turn, () => Find(name)?.Registered ?? throw new RpcException(-(int)Errno.ENODEV, notFound)); }
        catch (RpcException e) when (e.Message != notFound) { throw new RpcException(RpcErrorCode.InternalError, e.Message, e.Reason); }
        return true;
    }

    // An array is online from its creation to its end; one of which bases are missing that it needs is not there yet.
    private Task<object?> GetAsync(RpcCall call)
    {
        var parameters = new RpcParameters(call, s_wrong);
        string category = parameters.Text("category");
        parameters.End();
        bool isKnown = category == "all" || Is("online") || Is("configuring") || Is("offline");
        if (!isKnown) { throw RpcException.Of(Errno.EINVAL, $"no category '{category}'; there are all, online, configuring and offline"); }
        var shown = new List<Dictionary<string, object>>();
        if (category == "all" || Is("online")) { shown.AddRange(_arrays.Select(array => new Dictionary<string, object>(array.Describe().Prepend(new("name", array.Registered.Name))))); }
        if (category == "all" || Is("configuring")) { shown.AddRange(_found.Select(array => array.Describe())); }
        return Task.FromResult<object?>(shown);

        bool Is(string state) => category.Equals(state, StringComparison.OrdinalIgnoreCase);
    }

    private async Task<object?> AddBaseAsync(RpcCall call)
    {
        var parameters = new RpcParameters(call, s_wrongForAdd);
        string baseName = parameters.Text("base_bdev"), name = parameters.Text("raid_bdev");
        parameters.End();
        RaidArray array = Find(name) ?? throw new RpcException(-(int)Errno.ENODEV, $"raid bdev {name} is not found in config");
        try
        {
            RegisteredBdev below = FindBase(baseName);
            BdevRegistry.CheckFree(below);
            Errno added = below == array.Registered ? Errno.EINVAL : await array.AddAsync(below);
            if (added != Errno.None)
            {
                throw RpcException.Of(added, added == Errno.EPERM ? $"'{name}' is being rebuilt" : $"'{name}' is no raid1 with a free slot, or '{baseName}' is smaller, has other blocks, or cannot be written");
            }
            log.Info($"raid {name}", $"rebuilding on {below.Name}");
        }
        catch (RpcException e) { throw new RpcException(e.Code, $"Failed to add base bdev {baseName} to RAID bdev {name}: {e.Message}", e.Reason); }
        return true;
    }

    private async Task<object?> RemoveBaseAsync(RpcCall call)
    {
        var parameters = new RpcParameters(call, s_wrong);
        string name = parameters.Text("name");
        parameters.End();
        try
        {
            await turn.RunAroundAsync(
                async () =>
                {
                    (RegisteredBdev below, RaidArray array) = await FindMemberAsync(name);
                    return array.QuiesceAsync(below);
                },
                async () =>
                {
                    (RegisteredBdev below, RaidArray array) = await FindMemberAsync(name);
                    await array.LetGoAsync(below);
                    return true;
                });
        }
        catch (RpcException e) { throw new RpcException(e.Code, "Failed to remove base bdev from raid bdev", e.Reason); }
        return true;
    }

    /// <summary>A base, in an array that lets it go.</summary>
    private async Task<(RegisteredBdev Base, RaidArray Array)> FindMemberAsync(string name)
    {
        RegisteredBdev below = FindBase(name);
        if (below.User is not RaidArray array) { throw RpcException.Of(Errno.ENODEV, $"bdev '{name}' is in no array"); }
        await BdevRegistry.CheckDeletableAsync(below);
        return (below, array);
    }

    /// <summary>A bdev has appeared that nobody uses: it may be the base of a raid1 that has a superblock there.</summary>
    public async Task ExamineAsync(RegisteredBdev bdev)
    {
        Raid1Found found = await bdev.Reactor.InvokeAsync(() => Raid1Assembly.FindAsync(bdev.Bdev));
        if (found.Problem is { } problem) { log.Warn($"bdev {bdev.Name}", $"the superblock of an array on it is not used: {problem}"); }
        if (found.Superblock is not { } superblock) { return; }
        if (_arrays.Find(a => a.Id == superblock.Array) is { } running)
        {
            await ReturnAsync(running, bdev, superblock);
            return;
        }
        FoundArray? array = _found.Find(f => f.Id == superblock.Array);
        if (array is null)
        {
            array = new FoundArray(superblock.Array, emptied => _found.Remove(emptied));
            _found.Add(array);
        }
        array.Add(bdev, superblock);
        if (!array.Assemble().IsComplete)
        {
            log.Info($"raid {array.Name}", $"{bdev.Name} is a base of it; others are missing");
            return;
        }
        try { await StartAsync(array); }
        catch (RpcException e) { log.Warn($"raid {array.Name}", $"its bases are there, and it cannot be: {e.Reason}"); }
    }

    /// <summary>A raid1 that is written on bases, of which some may be missing; null: nothing is written on them.</summary>
    private async Task<FoundArray?> FindAgainAsync(string name, string[] baseNames)
    {
        RegisteredBdev[] bases = [.. baseNames.Select(FindBase)];
        if (bases[0].User is FoundArray waiting && waiting.Name == name && bases.All(b => b.User == waiting)) { return waiting; }
        var array = new FoundArray(Guid.Empty, _ => { });
        foreach (RegisteredBdev below in bases)
        {
            BdevRegistry.CheckFree(below);
            Raid1Superblock? superblock = (await below.Reactor.InvokeAsync(() => Raid1Assembly.FindAsync(below.Bdev))).Superblock;
            if (superblock is not null) { array.Note(below, superblock); }
        }
        if (array.Bases.Count == 0) { return null; }
        bool isOne = array.Bases.Count == bases.Length && array.Name == name && array.Bases.All(b => b.Superblock.Array == array.Bases[0].Superblock.Array);
        return isOne ? array : throw RpcException.Of(Errno.EEXIST, $"'{array.Bases[0].Bdev.Name}' is a base of the array '{array.Name}'; zeroes in its first 8 KiB make it free");
    }

    /// <summary>Makes an array of those of its bases that are there.</summary>
    private async Task StartAsync(FoundArray found)
    {
        if (_arrays.Exists(a => a.Id == found.Bases[0].Superblock.Array)) { throw RpcException.Of(Errno.EEXIST, $"the array '{found.Name}' runs already"); }
        Raid1Assembly assembly = found.Assemble();
        if (!assembly.HasLeg) { throw RpcException.Of(Errno.EINVAL, $"none of these bases of '{found.Name}' has everything"); }
        bdevs.CheckNew(found.Name, assembly.Superblock.Uuid);
        RegisteredBdev?[] bases = [.. assembly.Legs.Select(leg => found.Bases.FirstOrDefault(b => b.Bdev.Bdev == leg).Bdev)];
        RaidArray array = await RaidArray.StartAsync(bdevs, bases, found.Assemble, Watch);
        _found.Remove(found);
        log.Info($"raid {found.Name}", $"found on {Config.ConfigCheck.Names(bases.OfType<RegisteredBdev>().Select(b => b.Name))}");
        (RegisteredBdev Bdev, Raid1Superblock Superblock)[] others = [.. found.Bases.Where(b => b.Bdev.User != array)];
        foreach ((RegisteredBdev other, _) in others) { other.User = null; }
        await AddAsync(array);
        foreach ((RegisteredBdev other, Raid1Superblock superblock) in others) { await ReturnAsync(array, other, superblock); }
    }

    /// <summary>A base that was out is there again. Who knows what is on it may add it in any case.</summary>
    private async Task ReturnAsync(RaidArray array, RegisteredBdev bdev, Raid1Superblock superblock)
    {
        string scope = $"raid {array.Registered.Name}";
        if (await array.FindSlotAsync(superblock) is null) { log.Warn(scope, $"{bdev.Name} was a base of it, and has another state than when it left; bdev_raid_add_base_bdev would copy everything to it"); }
        else if (await array.AddAsync(bdev) is var added && added != Errno.None) { log.Warn(scope, $"{bdev.Name} is a base of it, and cannot be added now ({added})"); }
        else { log.Info(scope, $"{bdev.Name} is back: what was written since is copied to it"); }
    }

    /// <summary>One that is not complete: its bases are free.</summary>
    private bool TryForget(string name)
    {
        if (_found.Find(f => f.Name == name) is not { } found || Find(name) is not null) { return false; }
        found.Free();
        _found.Remove(found);
        return true;
    }

    private static void CheckShape(string name, RaidLevel level, string[] baseNames, long stripBytes, bool hasSuperblock)
    {
        // Of a raid1 that is found again, one base is enough.
        int least = level == RaidLevel.Raid1 && !hasSuperblock ? 2 : 1;
        string? wrong = System.Text.Encoding.UTF8.GetByteCount(name) > MaxNameBytes ? $"the name has more than {MaxNameBytes} bytes"
            : level == RaidLevel.Raid5f ? "there is no raid5f; there are concat, raid0 and raid1"
            : level == RaidLevel.Raid1 && stripBytes != 0 ? "raid1 has no strips"
            : level != RaidLevel.Raid1 && !BitOperations.IsPow2(stripBytes) ? "strip_size_kb must be a power of two"
            : baseNames.Length < least ? $"it needs {least} bdevs" : null;
        if (wrong is not null) { throw RpcException.Of(Errno.EINVAL, wrong); }
        if (hasSuperblock && level != RaidLevel.Raid1) { throw RpcException.Of(Errno.EOPNOTSUPP, "only a raid1 has superblocks; make it again each time, without"); }
    }

    private List<RegisteredBdev> FindBases(RaidLevel level, string[] names, long stripBytes, bool hasSuperblock)
    {
        var bases = new List<RegisteredBdev>();
        foreach (string name in names)
        {
            RegisteredBdev below = FindBase(name);
            BdevRegistry.CheckFree(below);
            if (bases.Contains(below)) { throw RpcException.Of(Errno.EPERM, $"bdev '{below.Name}' is named twice"); }
            bases.Add(below);
        }
        IBdev[] parts = [.. bases.Select(b => b.Bdev)];
        string? wrong = parts.Any(p => p.BlockSize != parts[0].BlockSize) ? "the bdevs have blocks of different sizes"
            : level == RaidLevel.Raid1 && parts.Any(p => p.IsReadOnly) ? "a copy must be writable"
            : level == RaidLevel.Raid1 && parts.Length < 2 ? "it needs 2 bdevs"
            : hasSuperblock && parts.Length > Raid1Superblock.MaxSlots ? $"with superblocks it has at most {Raid1Superblock.MaxSlots} bdevs"
            : stripBytes != 0 && stripBytes < parts[0].BlockSize ? "a strip has at least one block"
            : (hasSuperblock ? parts.Min(Raid1Superblock.SizeOn) : RaidArray.SizeOf(level, parts, stripBytes)) <= 0 ? "nothing would fit on it" : null;
        return wrong is null ? bases : throw RpcException.Of(Errno.EINVAL, wrong);
    }

    private void Watch(RaidArray array, Raid1Bdev mirror)
    {
        mirror.LegLost += (part, errno) => _ = Task.Run(() => ForgetAsync(array, part, errno));
        mirror.LegRebuilt += _ => log.Info($"raid {mirror.Name}", "the rebuild has ended: all copies are equal");
    }

    private async Task AddAsync(RaidArray array)
    {
        array.Removed += removed => _arrays.Remove(removed);
        _arrays.Add(array);
        bdevs.Present(array.Registered);
        await bdevs.ExamineNewAsync(array.Registered);
    }

    /// <summary>The array has done without a base since it failed; that the base is free again is a change of the tables, and waits for its turn.</summary>
    private async Task ForgetAsync(RaidArray array, IBdev part, Errno errno)
    {
        try
        {
            await turn.RunAsync(async () =>
            {
                log.Error($"raid {array.Registered.Name}", $"{array.NameOf(part) ?? "a base bdev"} failed ({errno}) and is out");
                await array.ForgetAsync(part);
                return true;
            });
        }
        catch (RpcException) { } // this process is ending
    }

    private RaidArray? Find(string name) => _arrays.Find(array => array.Registered.Name == name);

    private RegisteredBdev FindBase(string name) => bdevs.Find(name) ?? throw RpcException.Of(Errno.ENODEV, $"there is no bdev '{name}'");
}
