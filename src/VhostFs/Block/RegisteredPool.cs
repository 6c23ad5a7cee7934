using VhostFs.Hosting;

namespace VhostFs.Block;

/// <summary>An open pool under its name, where it lives, and what it is on.</summary>
/// <param name="Below">The bdev that a client has made it on. Null: it is the configuration's, and goes with that.</param>
internal sealed record RegisteredPool(PoolHost Host, Reactor.Reactor Reactor, RegisteredBdev? Below)
{
    public string Name => Host.Name;
}
