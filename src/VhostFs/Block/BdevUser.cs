using VhostFs.Linux;
using VhostFs.Rpc;

namespace VhostFs.Block;

/// <summary>Who has a bdev to himself, and whether he lets go of it when it is deleted. This one keeps it, as a pool does: the data on it is ours.</summary>
/// <param name="name">As messages name him: "controller vm1".</param>
internal class BdevUser(string name)
{
    public static implicit operator BdevUser(string name) => new(name);

    /// <summary>He comes back when the bdev is examined.</summary>
    public virtual bool IsFoundByExamination => false;

    /// <summary>Who would have to let go, and does not: he, or one above him. Null: nobody.</summary>
    public virtual Task<BdevUser?> FindRefusalAsync(RegisteredBdev bdev) => Task.FromResult<BdevUser?>(this);

    /// <summary>Begins to let go of a bdev that he does not refuse to let go: nothing new is asked of it. Completes when nothing of his is under way on it, which may take for ever. May be asked again.</summary>
    public virtual Task QuiesceAsync(RegisteredBdev bdev) => Task.CompletedTask;

    /// <summary>Completes when nothing of his is under way on the bdev, and nothing will be.</summary>
    /// <exception cref="RpcException">He does not let go.</exception>
    public virtual Task LetGoAsync(RegisteredBdev bdev) => throw RpcException.Of(Errno.EBUSY, $"bdev '{bdev.Name}' is used by {this}; delete that first");

    public override string ToString() => name;
}

/// <summary>Bdevs that stand on another one, and go when it goes.</summary>
/// <param name="isFoundByExamination">They come back when it is examined.</param>
internal sealed class BdevsAbove(BdevRegistry registry, IReadOnlyList<RegisteredBdev> bdevs, bool isFoundByExamination = false) : BdevUser($"bdev {bdevs[0].Name}")
{
    public override bool IsFoundByExamination => isFoundByExamination;

    public IReadOnlyList<RegisteredBdev> Bdevs => bdevs;

    public override async Task<BdevUser?> FindRefusalAsync(RegisteredBdev bdev)
    {
        foreach (RegisteredBdev above in bdevs)
        {
            if (await BdevRegistry.FindRefusalAsync(above) is { } refusal) { return refusal; }
        }
        return null;
    }

    public override Task QuiesceAsync(RegisteredBdev bdev) => Task.WhenAll(bdevs.Select(BdevRegistry.QuiesceAsync));

    // From the top: whoever has nobody above him has nothing under way below him either.
    public override async Task LetGoAsync(RegisteredBdev bdev)
    {
        foreach (RegisteredBdev above in bdevs) { await registry.RemoveAsync(above); }
    }
}
