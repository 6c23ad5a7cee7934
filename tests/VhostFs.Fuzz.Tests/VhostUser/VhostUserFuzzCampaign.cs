using VhostFs.Campaigns;
using VhostFs.VhostUser;

namespace VhostFs.Fuzz.Tests.VhostUser;

/// <summary>vhost-user messages no front-end sends, over real sockets, into real sessions on a real ring.</summary>
public sealed class VhostUserFuzzCampaign()
    : Campaign("fuzz-vhost-user", "messages", floor: 2_000_000, "vhost-user messages, spoilt in every way: clear ends, nothing left behind, an honest guest on the same reactor served all the time")
{
    private const int BatchesPerSeed = 12;
    private const int SettleSeeds = 4;
    private const long MaxGrowthBytes = 64 << 20;
    private bool _corpusRan;
    private int _seeds;
    private long _settledBytes;

    /// <summary>How often each message was obeyed and refused, for those who want to know what is reached.</summary>
    internal Dictionary<(MessageId Id, bool IsObeyed), int> Coverage { get; } = [];

    /// <summary>Descriptors and mappings are counted for the whole process.</summary>
    public override int MaxThreads => 1;

    public override long Run(ulong seed)
    {
        long cases = 0;
        if (!_corpusRan)
        {
            _corpusRan = true;
            cases = Corpus.Run("vhost-user", RunLines);
        }
        using (var run = new VhostUserFuzzRun(new FuzzRandom(seed)))
        {
            try
            {
                for (int batch = 0; batch < BatchesPerSeed; batch++) { run.Batch(); }
            }
            catch (Exception found)
            {
                throw new FindingException($"message {run.Messages}: {found}");
            }
            cases += run.Messages;
            foreach ((var answer, int count) in run.Answers) { Coverage[answer] = Coverage.GetValueOrDefault(answer) + count; }
        }
        CheckGrowth();
        return cases;
    }

    /// <summary>A kept input: each line is one write of bytes to a connection, in hexadecimal.</summary>
    private static long RunLines(string[] lines)
    {
        using var run = new VhostUserFuzzRun(new FuzzRandom(1));
        run.Raw(lines);
        return lines.Length;
    }

    private void CheckGrowth()
    {
        if (++_seeds % 16 != 0 && _seeds > SettleSeeds) { return; }
        GC.Collect();
        long now = ProcessState.PrivateBytes();
        if (_seeds <= SettleSeeds) { _settledBytes = now; }
        else if (now > _settledBytes + MaxGrowthBytes) { throw new FindingException($"private memory has grown from {_settledBytes >> 20} MiB to {now >> 20} MiB in {_seeds} seeds"); }
    }
}
