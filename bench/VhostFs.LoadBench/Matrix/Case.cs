using VhostFs.LoadBench.Load;

namespace VhostFs.LoadBench.Matrix;

/// <summary>One job at one depth.</summary>
internal readonly record struct Case(string Job, int Depth, int BlockBytes)
{
    private const int Small = 4096, Large = 1 << 20;

    /// <summary>All that a comparison measures, in the order of its table.</summary>
    public static Case[] Plan(DeviceKind device, int[] depths)
    {
        Case[] transfers =
        [
            .. depths.Select(depth => new Case("randread", depth, Small)),
            .. depths.Select(depth => new Case("randwrite", depth, Small)),
            new("seqread", 8, Large),
            new("seqwrite", 8, Large),
        ];
        return device == DeviceKind.Blk ? transfers : [.. transfers, new("getattr", 32, Small), new("lookup", 32, Small), new("fsync-append", 1, Small), new("meta", 1, Small)];
    }

    /// <summary>Each kind of request once: what a server compiles on the way is compiled then.</summary>
    public static Case[] WarmUp(DeviceKind device) => Plan(device, [32]);

    /// <summary>Whose file is long enough afterwards, and fills it fastest.</summary>
    public static Case Fill => new("seqwrite", 4, Large);
}
