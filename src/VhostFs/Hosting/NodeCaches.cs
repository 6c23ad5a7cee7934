using VhostFs.Blobstore;

namespace VhostFs.Hosting;

/// <summary>The memory of tree nodes: one cache with one budget per reactor, for all pools there, whoever has opened them.</summary>
internal sealed class NodeCaches(IEnumerable<Reactor.Reactor> reactors)
{
    /// <summary>256 MiB.</summary>
    public const long BytesPerReactor = 256L << 20;

    private readonly Dictionary<Reactor.Reactor, NodeCache> _caches = reactors.ToDictionary(reactor => reactor, _ => new NodeCache(BytesPerReactor));

    public NodeCache this[Reactor.Reactor reactor] => _caches[reactor];
}
