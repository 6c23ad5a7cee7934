using System.Text.Json.Nodes;
using VhostFs.Bdev;
using VhostFs.Linux;
using VhostFs.Reactor;
using VhostFs.Rpc;

namespace VhostFs.Block;

/// <summary>All bdevs by name and by UUID, and the one place that says who uses which.</summary>
/// <remarks>Used by one call at a time (<see cref="ControlTurn"/>). A bdev has one user: a controller, a pool, or bdevs above it.</remarks>
internal sealed class BdevRegistry(IReadOnlyList<Reactor.Reactor> reactors, Notifications notifications)
{
    /// <summary>Bdevs on one another: a request goes down through all of them, on one stack.</summary>
    private const int MaxDepth = 16;

    private readonly List<RegisteredBdev> _bdevs = [];
    private TaskCompletionSource _added = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private int _dealt;

    /// <summary>In the order in which they were made.</summary>
    public IReadOnlyList<RegisteredBdev> All => _bdevs;

    /// <summary>Completes when there is one more.</summary>
    public Task Added => _added.Task;

    /// <summary>Who looks, one after the other, at a bdev that has appeared, and may make others of what is there; it is then used, and nobody after that one looks at it.</summary>
    public List<Func<RegisteredBdev, Task>> Examiners { get; } = [];

    /// <summary>Every new bdev is examined. Without it only when a client asks: the bases of a raid1 hold what is on it, and it must not be found there.</summary>
    public bool ExaminesNew { get; set; } = true;

    /// <summary>By name, by alias or by UUID.</summary>
    public RegisteredBdev? Find(string nameOrUuid) => _bdevs.Find(b => b.Name == nameOrUuid || b.Alias == nameOrUuid) ?? _bdevs.Find(b => b.Uuid.Equals(nameOrUuid, StringComparison.OrdinalIgnoreCase));

    /// <summary>Makes a bdev that stands on nothing, on the reactor whose turn it is.</summary>
    /// <exception cref="RpcException">It cannot be made.</exception>
    public Task<RegisteredBdev> CreateAsync(RpcCall call, string module, string name, Guid uuid, Func<Reactor.Reactor, IBdev> make, Func<IBdev, object>? details = null)
    {
        Reactor.Reactor reactor = reactors[_dealt++ % reactors.Count];
        return AddAsync(call, module, name, uuid, reactor, null, () => make(reactor), details);
    }

    /// <summary>Makes a bdev on another one, which it then has to itself.</summary>
    public async Task<RegisteredBdev> StackAsync(RpcCall call, string module, string name, Guid uuid, RegisteredBdev below, Func<IBdev> make, Func<IBdev, object>? details = null)
    {
        CheckFree(below);
        RegisteredBdev added = await AddAsync(call, module, name, uuid, below.Reactor, below, make, details);
        below.User = new BdevsAbove(this, [added]);
        return added;
    }

    /// <summary>Something may be made on it.</summary>
    public static bool IsFree(RegisteredBdev bdev) => bdev.User is null && bdev.Depth < MaxDepth;

    /// <param name="failure">How the method answers; null: with the errno as code.</param>
    /// <exception cref="RpcException">Somebody uses it, or it stands on so many that nothing may stand on it.</exception>
    public static void CheckFree(RegisteredBdev bdev, Func<Errno, string, RpcException>? failure = null)
    {
        if (bdev.Depth >= MaxDepth) { throw (failure ?? RpcException.Of)(Errno.ELOOP, $"bdev '{bdev.Name}' is the last of {MaxDepth} that stand on one another"); }
        CheckUnused(bdev, failure);
    }

    /// <param name="failure">How the method answers; null: with the errno as code.</param>
    /// <exception cref="RpcException">Somebody uses it.</exception>
    public static void CheckUnused(RegisteredBdev bdev, Func<Errno, string, RpcException>? failure = null)
    {
        if (bdev.User is { } user) { throw (failure ?? RpcException.Of)(Errno.EPERM, $"bdev '{bdev.Name}' is used by {user}"); }
    }

    /// <exception cref="RpcException">A bdev cannot be called so.</exception>
    public void CheckNew(string name, Guid uuid)
    {
        if (name.Length == 0) { throw RpcException.Of(Errno.EINVAL, "a bdev needs a name"); }
        if (Find(name) is not null) { throw RpcException.Of(Errno.EEXIST, $"there is a bdev '{name}' already"); }
        if (uuid != Guid.Empty && Find(uuid.ToString()) is { } same) { throw RpcException.Of(Errno.EEXIST, $"bdev '{same.Name}' has the UUID {uuid}"); }
    }

    /// <summary>The bdevs of a pool: they can be seen, and not used by anybody else.</summary>
    public void AddBorrowed(IBdev top, Reactor.Reactor reactor, string user)
    {
        RegisteredBdev? below = top is BdevDecorator decorator ? Borrow(decorator.Inner, reactor) : null;
        if (below is not null) { below.User = $"bdev {top.Name}"; }
        Present(new RegisteredBdev(ModuleOf(top), top, reactor, Guid.Empty, below) { User = user, IsBorrowed = true });
    }

    /// <summary>Takes it away, from its user too (hot-remove): what stands on it goes with it, or does without it, and requests under way end first.</summary>
    /// <exception cref="RpcException">Somebody does not let go. Nothing has been done then.</exception>
    public async Task DeleteAsync(RegisteredBdev bdev)
    {
        await CheckDeletableAsync(bdev);
        await RemoveAsync(bdev);
    }

    /// <summary>The same as a call of its own, not in its turn: while requests under way end, others have theirs.</summary>
    /// <param name="find">The bdev, looked up anew in each turn.</param>
    /// <exception cref="RpcException">Somebody does not let go; or ETIMEDOUT: requests do not end.</exception>
    public Task DeleteAsync(ControlTurn turn, Func<RegisteredBdev> find) => turn.RunAroundAsync(
        async () =>
        {
            RegisteredBdev bdev = find();
            await CheckDeletableAsync(bdev);
            return QuiesceAsync(bdev);
        },
        async () =>
        {
            await DeleteAsync(find());
            return true;
        });

    /// <summary>What <see cref="BdevUser.QuiesceAsync"/> does, if there is a user; and nothing else is under way below it.</summary>
    public static Task QuiesceAsync(RegisteredBdev bdev) => Task.WhenAll(bdev.User?.QuiesceAsync(bdev) ?? Task.CompletedTask, bdev.Quiesce?.Invoke() ?? Task.CompletedTask);

    /// <exception cref="RpcException">Somebody would not let go.</exception>
    public static async Task CheckDeletableAsync(RegisteredBdev bdev)
    {
        if (await FindRefusalAsync(bdev) is { } refusal) { throw RpcException.Of(Errno.EBUSY, $"bdev '{bdev.Name}' is used by {refusal}; delete that first"); }
    }

    public static async Task<BdevUser?> FindRefusalAsync(RegisteredBdev bdev) => bdev.User is { } user ? await user.FindRefusalAsync(bdev) : null;

    /// <summary>The end: what stands on something goes before it, also where that has come later. An array that lost its bases one by one would write down that they failed it.</summary>
    public async Task DisposeAsync()
    {
        foreach (RegisteredBdev bdev in _bdevs.Where(b => !b.IsBorrowed).OrderByDescending(b => b.Depth).ToArray()) { await RemoveAsync(bdev); }
    }

    private RegisteredBdev Borrow(IBdev bdev, Reactor.Reactor reactor)
    {
        AddBorrowed(bdev, reactor, "");
        return _bdevs[^1];
    }

    /// <summary>Makes a bdev; who uses what is below it is for the caller to say.</summary>
    /// <exception cref="RpcException">It cannot be made.</exception>
    public async Task<RegisteredBdev> AddAsync(RpcCall call, string module, string name, Guid uuid, Reactor.Reactor reactor, RegisteredBdev? below, Func<IBdev> make, Func<IBdev, object>? details)
    {
        CheckNew(name, uuid);
        IBdev bdev;
        try { bdev = await reactor.InvokeAsync(() => new IoTask<IBdev>(make())); }
        catch (BdevException e) { throw RpcException.Of(e.Errno, e.Message); }
        var added = new RegisteredBdev(module, bdev, reactor, uuid, below) { Details = details is null ? null : () => Task.FromResult(details(bdev)) };
        var parameters = JsonNode.Parse(call.Parameters.GetRawText())!.AsObject(); // the call's own text ends with the call
        added.Saved = () => SavedCall.Of(call.Method, parameters, added);
        Present(added);
        await ExamineNewAsync(added);
        return added;
    }

    public Task ExamineNewAsync(RegisteredBdev bdev) => ExaminesNew ? ExamineAsync(bdev) : Task.CompletedTask;

    public async Task ExamineAsync(RegisteredBdev bdev)
    {
        foreach (Func<RegisteredBdev, Task> examine in Examiners)
        {
            if (IsFree(bdev)) { await examine(bdev); }
        }
    }

    /// <summary>One that somebody else has made; its name and UUID are free.</summary>
    public void Present(RegisteredBdev bdev)
    {
        _bdevs.Add(bdev);
        notifications.Add("bdev_register", bdev.Name);
        TaskCompletionSource added = _added;
        _added = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        added.SetResult();
    }

    /// <summary>What <see cref="DeleteAsync"/> does once nobody refuses. One that is gone already stays so.</summary>
    public async Task RemoveAsync(RegisteredBdev bdev)
    {
        if (!_bdevs.Contains(bdev)) { return; }
        if (bdev.User is { } user)
        {
            await user.LetGoAsync(bdev);
            bdev.User = null;
        }
        if (bdev.Stop is { } stop) { await stop(); }
        await bdev.Reactor.InvokeAsync(() =>
        {
            bdev.Bdev.Dispose();
            return new IoTask<bool>(true);
        });
        _bdevs.Remove(bdev);
        notifications.Add("bdev_unregister", bdev.Name);
        if (bdev.Below is { } below) { below.User = null; }
    }

    private static string ModuleOf(IBdev bdev) => bdev switch
    {
        MallocBdev => BdevModule.Malloc,
        NullBdev => BdevModule.Null,
        DelayBdev => BdevModule.Delay,
        ErrorBdev => BdevModule.Error,
        VolatileBdev => BdevModule.Volatile,
        _ => BdevModule.Uring,
    };
}

/// <summary>The words in the names of bdev RPCs.</summary>
internal static class BdevModule
{
    public const string Malloc = "malloc", Null = "null", Aio = "aio", Uring = "uring", Delay = "delay", Error = "error", Passthru = "passthru", Lvol = "lvol", Gpt = "gpt", Split = "split", Raid = "raid", Crypto = "crypto";

    /// <summary>From configuration files only.</summary>
    public const string Volatile = "volatile";
}
