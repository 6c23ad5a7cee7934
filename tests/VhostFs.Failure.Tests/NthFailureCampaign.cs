using VhostFs.Bdev;
using VhostFs.Campaigns;
using VhostFs.Linux;

namespace VhostFs.Failure.Tests;

/// <summary>Every scenario with every operation of its bdev failing. A seed is one scenario and one way of failing; the first seeds go through all of them.</summary>
public sealed class NthFailureCampaign()
    : Campaign("nth-failure", "failures", floor: 50_000, "each operation of the bdev and each allocation of space fails, once or from then on: errors are told, the rest goes on, nothing is lost or leaked")
{
    private const BdevOperations Changes = BdevOperations.Write | BdevOperations.Flush | BdevOperations.Unmap | BdevOperations.WriteZeroes;

    /// <summary>What devices answer beside EIO; ENODATA is the kernel's word for a medium error.</summary>
    private static readonly Errno[] s_errnos = [Errno.ENODATA, Errno.EOPNOTSUPP, Errno.ETIMEDOUT, Errno.EBADMSG, Errno.EAGAIN, Errno.EILSEQ, Errno.ENOSPC, Errno.ENOENT, Errno.ESTALE];

    private static readonly Func<long, FaultPlan>[] s_ways =
    [
        static nth => new FaultPlan(nth, Errno.EIO),
        static nth => new FaultPlan(nth, Errno.EIO, Afterwards: BdevOperations.All),
        static nth => new FaultPlan(nth, Errno.EIO, FaultEffect.Done),
        static nth => new FaultPlan(nth, Errno.EIO, FaultEffect.Half, Changes),
        static nth => new FaultPlan(nth, s_errnos[nth % s_errnos.Length]),
        static nth => new FaultPlan(nth, Errno.EIO, FaultEffect.LosesUnflushed),
    ];

    public override long Run(ulong seed)
    {
        var random = new Random(unchecked((int)seed));
        ulong number = seed - 1, scenarios = (ulong)Scenarios.All.Count, all = scenarios + (ulong)Scenarios.Shortages.Count;
        ulong round = number / all, index = number % all;
        if (index >= scenarios)
        {
            (Step step, bool mayBePartial) = Scenarios.Shortages[(int)(index - scenarios)];
            return new ShortageRun(step, ofReferences: round % 2 == 1, mayBePartial).RunAll();
        }
        Scenario scenario = Scenarios.All[(int)index];
        Func<long, FaultPlan> way = s_ways[round % (ulong)s_ways.Length];
        bool isSlow = round / (ulong)s_ways.Length % 2 == 1;
        return new NthFailureRun(scenario).RunAll(way, _ => isSlow ? _ => random.Next(1, 200_000) : null);
    }
}
