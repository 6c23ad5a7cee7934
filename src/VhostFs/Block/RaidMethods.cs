using System.Numerics;
using VhostFs.Bdev;
using VhostFs.Linux;
using VhostFs.Rpc;

namespace VhostFs.Block;

/// <summary>The bdev_raid_* methods: raid0, raid1 and concat, of bdevs that are there, without anything on disk about them.</summary>
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
            if (hasSuperblock) { throw RpcException.Of(Errno.EOPNOTSUPP, "nothing about an array is written to its bases; make it again each time, without superblock"); }
            CheckShape(name, level, baseNames, stripBytes);
            bdevs.CheckNew(name, uuid);
            IReadOnlyList<RegisteredBdev> bases = FindBases(level, baseNames, stripBytes);
            await MakeAsync(level, name, uuid, stripBytes, bases);
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
        try { await bdevs.DeleteAsync(turn, () => Find(name)?.Registered ?? throw new RpcException(-(int)Errno.ENODEV, notFound)); }
        catch (RpcException e) when (e.Message != notFound) { throw new RpcException(RpcErrorCode.InternalError, e.Message, e.Reason); }
        return true;
    }

    // An array is online from its creation to its end.
    private Task<object?> GetAsync(RpcCall call)
    {
        var parameters = new RpcParameters(call, s_wrong);
        string category = parameters.Text("category");
        parameters.End();
        bool isKnown = category == "all" || Is("online") || Is("configuring") || Is("offline");
        if (!isKnown) { throw RpcException.Of(Errno.EINVAL, $"no category '{category}'; there are all, online, configuring and offline"); }
        RaidArray[] shown = category == "all" || Is("online") ? [.. _arrays] : [];
        return Task.FromResult<object?>(shown.Select(array => new Dictionary<string, object>(array.Describe().Prepend(new("name", array.Registered.Name)))).ToArray());

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

    private static void CheckShape(string name, RaidLevel level, string[] baseNames, long stripBytes)
    {
        int least = level == RaidLevel.Raid1 ? 2 : 1;
        string? wrong = System.Text.Encoding.UTF8.GetByteCount(name) > MaxNameBytes ? $"the name has more than {MaxNameBytes} bytes"
            : level == RaidLevel.Raid5f ? "there is no raid5f; there are concat, raid0 and raid1"
            : level == RaidLevel.Raid1 && stripBytes != 0 ? "raid1 has no strips"
            : level != RaidLevel.Raid1 && !BitOperations.IsPow2(stripBytes) ? "strip_size_kb must be a power of two"
            : baseNames.Length < least ? $"it needs {least} bdevs" : null;
        if (wrong is not null) { throw RpcException.Of(Errno.EINVAL, wrong); }
    }

    private List<RegisteredBdev> FindBases(RaidLevel level, string[] names, long stripBytes)
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
            : stripBytes != 0 && stripBytes < parts[0].BlockSize ? "a strip has at least one block"
            : RaidArray.SizeOf(level, parts, stripBytes) == 0 ? "nothing would fit on it" : null;
        return wrong is null ? bases : throw RpcException.Of(Errno.EINVAL, wrong);
    }

    private async Task MakeAsync(RaidLevel level, string name, Guid uuid, long stripBytes, IReadOnlyList<RegisteredBdev> bases)
    {
        RaidArray array = await RaidArray.MakeAsync(bdevs, level, name, uuid, stripBytes, bases);
        if (array.Registered.Bdev is Raid1Bdev mirror)
        {
            mirror.LegLost += (part, errno) => _ = Task.Run(() => ForgetAsync(array, part, errno));
            mirror.LegRebuilt += _ => log.Info($"raid {name}", "the rebuild has ended: all copies are equal");
        }
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
