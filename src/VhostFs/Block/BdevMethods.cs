using System.Globalization;
using System.Text.Json.Nodes;
using VhostFs.Bdev;
using VhostFs.Linux;
using VhostFs.Reactor;
using VhostFs.Rpc;

namespace VhostFs.Block;

/// <summary>The bdev_* methods: names, parameters, results and errors are SPDK's (docs/rpc.md says where not).</summary>
internal sealed class BdevMethods(BdevRegistry bdevs, ControlTurn turn)
{
    private const long MiB = 1 << 20;

    // Beyond it there is no address space for a bdev in memory, and no file system that could hold a file.
    private const ulong MaxBytes = 1UL << 50;
    private const int MaxNameBytes = 255;

    private static readonly RpcRefusal s_wrong = new(RpcErrorCode.InternalError, "spdk_json_decode_object failed");
    private static readonly RpcRefusal s_wrongForError = new(RpcErrorCode.InvalidParams, "spdk_json_decode_object failed");

    private static readonly Dictionary<string, BdevOperations> s_ioTypes = new(StringComparer.Ordinal)
    {
        ["clear"] = BdevOperations.None,
        ["read"] = BdevOperations.Read,
        ["write"] = BdevOperations.Write,
        ["unmap"] = BdevOperations.Unmap,
        ["flush"] = BdevOperations.Flush,
        ["all"] = BdevOperations.All,
    };

    private static readonly Dictionary<string, Errno> s_errorTypes = new(StringComparer.Ordinal) { ["failure"] = Errno.EIO, ["nomem"] = Errno.ENOMEM };

    private int _mallocCount;

    public Dictionary<string, RpcMethod> Methods => new(StringComparer.Ordinal)
    {
        ["bdev_get_bdevs"] = GetAsync,
        ["bdev_set_options"] = turn.Whole(SetOptionsAsync),
        ["bdev_examine"] = turn.Whole(ExamineAsync),
        ["bdev_wait_for_examine"] = turn.Whole(WaitForExamineAsync),
        ["bdev_malloc_create"] = turn.Whole(CreateMallocAsync),
        ["bdev_malloc_delete"] = call => DeleteAsync(call, BdevModule.Malloc),
        ["bdev_null_create"] = turn.Whole(CreateNullAsync),
        ["bdev_null_delete"] = call => DeleteAsync(call, BdevModule.Null),
        ["bdev_null_resize"] = turn.Whole(ResizeNullAsync),
        ["bdev_aio_create"] = turn.Whole(CreateAioAsync),
        ["bdev_aio_delete"] = call => DeleteAsync(call, BdevModule.Aio),
        ["bdev_aio_rescan"] = turn.Whole(call => RescanAsync(call, BdevModule.Aio)),
        ["bdev_uring_create"] = turn.Whole(CreateUringAsync),
        ["bdev_uring_delete"] = call => DeleteAsync(call, BdevModule.Uring),
        ["bdev_uring_rescan"] = turn.Whole(call => RescanAsync(call, BdevModule.Uring)),
        ["bdev_delay_create"] = turn.Whole(CreateDelayAsync),
        ["bdev_delay_delete"] = call => DeleteAsync(call, BdevModule.Delay),
        ["bdev_error_create"] = turn.Whole(CreateErrorAsync),
        ["bdev_error_delete"] = call => DeleteAsync(call, BdevModule.Error),
        ["bdev_error_inject_error"] = turn.Whole(InjectAsync),
        ["bdev_passthru_create"] = turn.Whole(CreatePassthruAsync),
        ["bdev_passthru_delete"] = call => DeleteAsync(call, BdevModule.Passthru),
    };

    /// <summary>What makes all of them again that do not come by themselves, each after what it stands on.</summary>
    public IEnumerable<JsonObject> SavedCalls()
    {
        var calls = new List<JsonObject>();
        var done = new HashSet<RegisteredBdev>();
        void Save(RegisteredBdev bdev)
        {
            if (!done.Add(bdev)) { return; }
            foreach (RegisteredBdev below in bdev.Bases) { Save(below); } // the base of an array may have come after it
            if (bdev.Saved is { } saved) { calls.Add(saved()); }
            if (bdev.User is { IsFoundByExamination: true }) { calls.Add(SavedCall.Of("bdev_examine", new JsonObject { ["name"] = bdev.Name })); }
        }
        foreach (RegisteredBdev bdev in bdevs.All) { Save(bdev); }
        // What was found on a bdev is looked for there, and nowhere before: each base of a raid1 has it, too.
        bool asksWhere = !bdevs.ExaminesNew || bdevs.All.Any(b => b.User is { IsFoundByExamination: true });
        if (asksWhere) { calls.Insert(0, AutoExamine(false)); }
        if (asksWhere && bdevs.ExaminesNew) { calls.Add(AutoExamine(true)); }
        return calls.Concat(bdevs.All.Where(b => !b.Served.Limits.IsNone).Select(StatisticsMethods.SavedLimits))
            .DistinctBy(call => call.ToJsonString()) // one call makes all splits of a bdev
            .Append(SavedCall.Of("bdev_wait_for_examine", []));

        static JsonObject AutoExamine(bool isOn) => SavedCall.Of("bdev_set_options", new JsonObject { ["bdev_auto_examine"] = isOn });
    }

    // With a time-out it waits for a bdev that another call is to make, and lets that one have its turn.
    private async Task<object?> GetAsync(RpcCall call)
    {
        var parameters = new RpcParameters(call, s_wrong);
        string? name = parameters.OptionalText("name");
        ulong timeoutMs = parameters.OptionalNumber("timeout", int.MaxValue) ?? 0;
        parameters.End();
        if (name is null) { return await turn.RunAsync(() => Task.WhenAll(bdevs.All.Select(BdevDescription.OfAsync))); }
        using var patience = new CancellationTokenSource(TimeSpan.FromMilliseconds(timeoutMs));
        while (true)
        {
            (Dictionary<string, object>? bdev, Task added) = await turn.RunAsync(async () => (bdevs.Find(name) is { } found ? await BdevDescription.OfAsync(found) : null, bdevs.Added));
            if (bdev is not null) { return new[] { bdev }; }
            try { await added.WaitAsync(timeoutMs == 0 ? new CancellationToken(canceled: true) : patience.Token); }
            catch (OperationCanceledException) { throw RpcException.Of(Errno.ENODEV, $"there is no bdev '{name}'"); }
        }
    }

    private Task<object?> SetOptionsAsync(RpcCall call)
    {
        var parameters = new RpcParameters(call, new RpcRefusal(RpcErrorCode.InvalidParams, "Invalid parameters"));
        bool examines = parameters.Has("bdev_auto_examine") ? parameters.Flag("bdev_auto_examine") : bdevs.ExaminesNew;
        parameters.Ignore("bdev_io_pool_size", "bdev_io_cache_size", "iobuf_small_cache_size", "iobuf_large_cache_size");
        parameters.End();
        bdevs.ExaminesNew = examines;
        return Task.FromResult<object?>(true);
    }

    // Every new bdev is looked at before the call that makes it is answered, unless bdev_auto_examine is off.
    private async Task<object?> ExamineAsync(RpcCall call)
    {
        var parameters = new RpcParameters(call, s_wrong);
        RegisteredBdev bdev = Find(parameters.Text("name"));
        parameters.End();
        await bdevs.ExamineAsync(bdev);
        return true;
    }

    private static Task<object?> WaitForExamineAsync(RpcCall call)
    {
        new RpcParameters(call, new RpcRefusal(RpcErrorCode.InvalidParams, "bdev_wait_for_examine requires no parameters")).End();
        return Task.FromResult<object?>(true);
    }

    private async Task<object?> CreateMallocAsync(RpcCall call)
    {
        var parameters = new RpcParameters(call, s_wrong);
        string? name = parameters.OptionalText("name");
        (long sizeBytes, int blockSize, Guid uuid) = ReadDisk(parameters);
        parameters.Ignore("optimal_io_boundary", "numa_id");
        parameters.End();
        name = CheckName(name ?? NextMallocName());
        await bdevs.CreateAsync(call, BdevModule.Malloc, name, uuid, _ => new MallocBdev(name, sizeBytes, blockSize));
        return name;
    }

    private async Task<object?> CreateNullAsync(RpcCall call)
    {
        var parameters = new RpcParameters(call, s_wrong);
        string name = CheckName(parameters.Text("name"));
        (long sizeBytes, int blockSize, Guid uuid) = ReadDisk(parameters);
        parameters.Ignore("preferred_write_granularity", "preferred_write_alignment", "optimal_write_size", "preferred_unmap_granularity", "preferred_unmap_alignment");
        parameters.End();
        await bdevs.CreateAsync(call, BdevModule.Null, name, uuid, _ => new NullBdev(name, sizeBytes, blockSize));
        return name;
    }

    private async Task<object?> ResizeNullAsync(RpcCall call)
    {
        var parameters = new RpcParameters(call, s_wrong);
        RegisteredBdev bdev = Find(parameters.Text("name"), BdevModule.Null);
        ulong newSizeMiB = parameters.Number("new_size", MaxBytes / MiB);
        parameters.End();
        Errno resized = await bdev.Reactor.InvokeAsync(() => bdev.Bdev.ResizeAsync((long)newSizeMiB * MiB));
        return resized == Errno.None ? true : throw RpcException.Of(resized, $"bdev '{bdev.Name}' cannot have {newSizeMiB} MiB");
    }

    private async Task<object?> CreateAioAsync(RpcCall call)
    {
        var parameters = new RpcParameters(call, s_wrong);
        string name = CheckName(parameters.Text("name"));
        UringBdevOptions options = ReadFile(parameters, name) with { ReadOnly = parameters.Flag("readonly") };
        Guid uuid = parameters.Uuid("uuid");
        bool asksForFallocate = parameters.Flag("fallocate");
        parameters.Ignore("nowait");
        parameters.End();
        object Describe(IBdev _) => new Dictionary<string, object>
        {
            ["aio"] = new Dictionary<string, object>
            {
                ["filename"] = options.Path,
                ["block_size_override"] = options.BlockSize != 0,
                ["readonly"] = options.ReadOnly,
                ["fallocate"] = asksForFallocate,
            },
        };
        await OpenAsync(call, BdevModule.Aio, uuid, options, Describe);
        return name;
    }

    private async Task<object?> CreateUringAsync(RpcCall call)
    {
        var parameters = new RpcParameters(call, s_wrong);
        string name = CheckName(parameters.Text("name"));
        UringBdevOptions options = ReadFile(parameters, name);
        Guid uuid = parameters.Uuid("uuid");
        parameters.End();
        try { await OpenAsync(call, BdevModule.Uring, uuid, options, _ => new Dictionary<string, object> { ["uring"] = new Dictionary<string, object> { ["filename"] = options.Path } }); }
        catch (RpcException e) { throw new RpcException(RpcErrorCode.InternalError, "Unable to create URING bdev.", e.Reason); }
        return name;
    }

    private Task<RegisteredBdev> OpenAsync(RpcCall call, string module, Guid uuid, UringBdevOptions options, Func<IBdev, object> details) =>
        bdevs.CreateAsync(call, module, options.Name, uuid, reactor => UringBdev.Open(reactor.Ring, options), details);

    private async Task<object?> RescanAsync(RpcCall call, string module)
    {
        var parameters = new RpcParameters(call, s_wrong);
        RegisteredBdev bdev = Find(parameters.Text("name"), module);
        parameters.End();
        Errno scanned = await bdev.Reactor.InvokeAsync(() => new IoTask<Errno>(((UringBdev)bdev.Bdev).Rescan()));
        return scanned == Errno.None ? true : throw RpcException.Of(scanned, $"the size of bdev '{bdev.Name}' cannot be read");
    }

    private async Task<object?> CreateDelayAsync(RpcCall call)
    {
        var parameters = new RpcParameters(call, s_wrong);
        string name = CheckName(parameters.Text("name"));
        string baseName = parameters.Text("base_bdev_name");
        var read = Latency.Read(parameters, "read");
        var write = Latency.Read(parameters, "write");
        Guid uuid = parameters.Uuid("uuid");
        parameters.End();
        RegisteredBdev below = Find(baseName);
        IBdev Make() => new DelayBdev(below.Bdev, below.Reactor, name)
        {
            OwnsInner = false,
            Jitter = operation => operation switch
            {
                BdevOperations.Read => read.NextNs(),
                BdevOperations.Write => write.NextNs(),
                _ => 0,
            },
        };
        object Describe(IBdev _) => new Dictionary<string, object>
        {
            ["delay"] = new Dictionary<string, object>
            {
                ["name"] = name,
                ["base_bdev_name"] = below.Name,
                ["avg_read_latency"] = read.AverageUs,
                ["p99_read_latency"] = read.P99Us,
                ["avg_write_latency"] = write.AverageUs,
                ["p99_write_latency"] = write.P99Us,
            },
        };
        await bdevs.StackAsync(call, BdevModule.Delay, name, uuid, below, Make, Describe);
        return name;
    }

    private async Task<object?> CreateErrorAsync(RpcCall call)
    {
        var parameters = new RpcParameters(call, s_wrongForError);
        string baseName = parameters.Text("base_name");
        Guid uuid = parameters.Uuid("uuid");
        parameters.End();
        RegisteredBdev below = Find(baseName);
        string name = $"EE_{below.Name}";
        await bdevs.StackAsync(call, BdevModule.Error, name, uuid, below, () => new ErrorBdev(below.Bdev, name) { OwnsInner = false },
            _ => new Dictionary<string, object> { ["error_disk"] = new Dictionary<string, object> { ["base_bdev"] = below.Name } });
        return true;
    }

    private async Task<object?> InjectAsync(RpcCall call)
    {
        var parameters = new RpcParameters(call, s_wrongForError);
        string name = parameters.Text("name");
        BdevOperations operations = parameters.Choice("io_type", s_ioTypes);
        Errno error = parameters.Choice("error_type", s_errorTypes);
        uint count = (uint)(parameters.OptionalNumber("num", uint.MaxValue) ?? 1);
        parameters.End();
        RegisteredBdev bdev = Find(name, BdevModule.Error);
        return await bdev.Reactor.InvokeAsync(() =>
        {
            var target = (ErrorBdev)bdev.Bdev;
            if (operations == BdevOperations.None) { target.Clear(); }
            else { target.Inject(new BdevFault(operations, error, Count: count)); }
            return new IoTask<bool>(true);
        });
    }

    private async Task<object?> CreatePassthruAsync(RpcCall call)
    {
        var parameters = new RpcParameters(call, s_wrong);
        string name = CheckName(parameters.Text("name"));
        string baseName = parameters.Text("base_bdev_name");
        Guid uuid = parameters.Uuid("uuid");
        parameters.End();
        RegisteredBdev below = Find(baseName);
        await bdevs.StackAsync(call, BdevModule.Passthru, name, uuid, below, () => new PassthruBdev(below.Bdev, name) { OwnsInner = false },
            _ => new Dictionary<string, object> { ["passthru"] = new Dictionary<string, object> { ["name"] = name, ["base_bdev_name"] = below.Name } });
        return name;
    }

    private async Task<object?> DeleteAsync(RpcCall call, string module)
    {
        var parameters = new RpcParameters(call, module == BdevModule.Error ? s_wrongForError : s_wrong);
        string name = parameters.Text("name");
        parameters.End();
        await bdevs.DeleteAsync(turn, () => Find(name, module));
        return true;
    }

    // The parameters of both bdevs that have no file. Metadata and protection information are not kept, so they are refused rather than forgotten.
    private static (long SizeBytes, int BlockSize, Guid Uuid) ReadDisk(RpcParameters parameters)
    {
        ulong blockSize = parameters.Number("block_size", uint.MaxValue), blockCount = parameters.Number("num_blocks");
        Guid uuid = parameters.Uuid("uuid");
        ulong physical = parameters.OptionalNumber("physical_block_size", uint.MaxValue) ?? 0;
        ulong metadata = (parameters.OptionalNumber("md_size", uint.MaxValue) ?? 0) | (parameters.OptionalNumber("dif_type", uint.MaxValue) ?? 0)
            | (parameters.OptionalNumber("dif_pi_format", uint.MaxValue) ?? 0) | (parameters.Flag("md_interleave") ? 1UL : 0) | (parameters.Flag("dif_is_head_of_md") ? 1UL : 0);
        if (metadata != 0) { throw RpcException.Of(Errno.EINVAL, "metadata and protection information are not supported"); }
        if (blockSize is not (512 or 4096) || physical % 512 != 0) { throw RpcException.Of(Errno.EINVAL, $"blocks have 512 or 4096 bytes, not {blockSize}"); }
        if (blockCount == 0) { throw RpcException.Of(Errno.EINVAL, "there must be a block"); }
        return blockCount <= MaxBytes / blockSize ? ((long)(blockCount * blockSize), (int)blockSize, uuid) : throw RpcException.Of(Errno.ENOMEM, $"{blockCount} blocks are more than there can be");
    }

    private static UringBdevOptions ReadFile(RpcParameters parameters, string name)
    {
        string path = parameters.Text("filename");
        ulong blockSize = parameters.OptionalNumber("block_size", uint.MaxValue) ?? 0;
        return new UringBdevOptions(name, path.Length > 0 ? Path.GetFullPath(path) : "") { BlockSize = (int)Math.Min(blockSize, int.MaxValue) };
    }

    private static string CheckName(string name) =>
        name.Length is > 0 and <= MaxNameBytes ? name : throw RpcException.Of(Errno.EINVAL, $"a bdev's name has 1 to {MaxNameBytes} characters");

    private string NextMallocName()
    {
        string name;
        do { name = string.Create(CultureInfo.InvariantCulture, $"Malloc{_mallocCount++}"); }
        while (bdevs.Find(name) is not null);
        return name;
    }

    private RegisteredBdev Find(string name) => bdevs.Find(name) ?? throw RpcException.Of(Errno.ENODEV, NoSuch(name));

    private RegisteredBdev Find(string name, string module)
    {
        RegisteredBdev bdev = Find(name);
        return bdev.Module == module ? bdev : throw RpcException.Of(Errno.ENODEV, $"'{name}' is a bdev of the module {bdev.Module}, not of {module}");
    }

    private string NoSuch(string name) => $"there is no bdev '{name}'; there are {Config.ConfigCheck.Names(bdevs.All.Select(b => b.Name))}";

    /// <summary>Of one kind of operation: as long as the average, and one in a hundred as long as the 99th percentile.</summary>
    private sealed class Latency
    {
        private readonly Random _random = new(1);

        public required ulong AverageUs { get; init; }

        public required ulong P99Us { get; init; }

        public static Latency Read(RpcParameters parameters, string kind)
        {
            const ulong mostUs = 3_600_000_000; // an hour
            var latency = new Latency { AverageUs = parameters.Number($"avg_{kind}_latency", mostUs), P99Us = parameters.Number($"p99_{kind}_latency", mostUs) };
            return latency.P99Us >= latency.AverageUs ? latency : throw RpcException.Of(Errno.EINVAL, $"p99_{kind}_latency must not be less than avg_{kind}_latency");
        }

        public long NextNs() => (long)(_random.Next(100) == 0 ? P99Us : AverageUs) * 1000;
    }
}
