using VhostFs.Bdev;
using VhostFs.Config;

namespace VhostFs.Hosting;

/// <summary>Makes the bdevs of a pool from the configuration, on the reactor that is to use them.</summary>
internal static class BdevFactory
{
    /// <summary>The bdev called <paramref name="name"/> on top of its bases. Disposing it disposes the bases.</summary>
    /// <param name="bdevs">Checked: every base exists, and none stands on itself.</param>
    /// <param name="create">Make a new file, under a name that is not the final one: see <see cref="NewFile"/>.</param>
    /// <exception cref="BdevException">The message says why it cannot be opened.</exception>
    public static IBdev Open(IReadOnlyList<BdevConfig> bdevs, string name, NewFile? create)
    {
        BdevConfig config = bdevs.First(b => b.Name == name);
        if (config.Base.Length == 0) { return OpenReal(config, create); }
        IBdev below = Open(bdevs, config.Base, create);
        if (config.Kind == BdevKind.Delay)
        {
            return new DelayBdev(below, Reactor.Reactor.Current, name)
            {
                ReadDelayNs = config.ReadDelayUs * 1000L,
                WriteDelayNs = config.WriteDelayUs * 1000L,
                FlushDelayNs = config.FlushDelayUs * 1000L,
            };
        }
        if (config.Kind == BdevKind.Volatile) { return new VolatileBdev(below, config.Seed, name, config.EarlyPercent); }
        var error = new ErrorBdev(below, name);
        error.Inject(new BdevFault(config.ErrorOperations, Skip: config.ErrorSkip, Count: config.ErrorCount == 0 ? BdevFault.Always : config.ErrorCount));
        return error;
    }

    /// <summary>The bdev at the bottom: the file, device or memory.</summary>
    public static BdevConfig Bottom(IReadOnlyList<BdevConfig> bdevs, string name)
    {
        BdevConfig config = bdevs.First(b => b.Name == name);
        return config.Base.Length == 0 ? config : Bottom(bdevs, config.Base);
    }

    private static IBdev OpenReal(BdevConfig config, NewFile? create) => config.Kind switch
    {
        BdevKind.Malloc => new MallocBdev(config.Name, RoundDown(config.SizeBytes)),
        BdevKind.Null => new NullBdev(config.Name, RoundDown(config.SizeBytes)),
        _ => UringBdev.Open(Reactor.Reactor.Current.Ring, new UringBdevOptions(config.Name, create?.TemporaryPath ?? config.FileName)
        {
            Cache = config.Cache switch
            {
                BdevCache.Direct => UringCacheMode.Direct,
                BdevCache.Buffered => UringCacheMode.Buffered,
                _ => UringCacheMode.Auto,
            },
            CreateSizeBytes = create is null ? 0 : RoundDown(config.SizeBytes),
        }),
    };

    private static long RoundDown(long bytes) => bytes & -4096L;
}
