using System.Globalization;
using VhostFs.Campaigns;

namespace VhostFs.Mount.Tests.Campaigns;

/// <summary>Eight threads of file operations on a mount whose process is killed under them, again and again on one volume.</summary>
/// <remarks>Even seeds: the volatile bdev makes it a power cut. When it is killed is a matter of time and so not of the seed alone: a seed replays the operations and the bdev's choices.</remarks>
public sealed class KillSoakCampaign()
    : Campaign("kill-soak", "kills", floor: 100, "a mount's process killed (-9) under eight busy threads: check is clean, and all acknowledged or all synced is there after the next mount")
{
    private const int CyclesPerSeed = 10;

    /// <summary>Two mounts at once fill two processors.</summary>
    public override int MaxThreads => 2;

    /// <summary>Processes come and go in each run: on a busy machine it takes minutes.</summary>
    public override TimeSpan Patience => TimeSpan.FromMinutes(10);

    public override long Run(ulong seed)
    {
        if (Needs.Mount is { } missing) { throw new FindingException($"cannot run: {missing}"); }
        bool power = seed % 2 == 0;
        int number = (int)(seed & 0x7fff_ffff);
        var random = new Random(number);
        string? bdevs = power
            ? string.Create(CultureInfo.InvariantCulture, $$"""{ "name": "top", "kind": "volatile", "base": "file", "seed": {{number}}, "early_percent": {{random.Next(0, 60)}} }""")
            : null;
        using MountedVolume volume = new MountedVolume("256M", bdevs).Start();
        using var mix = new Conversation(Path.Combine(Repository.GuestPrograms, "kill-mix"), seed.ToString(CultureInfo.InvariantCulture), volume.MountPoint);
        mix.WaitFor("ready");
        for (int cycle = 0; cycle < CyclesPerSeed; cycle++)
        {
            mix.Send("run");
            mix.WaitFor("working");
            Thread.Sleep(random.Next(20, 500));
            if (mix.TryTake() is { } early) { throw new FindingException($"cycle {cycle}: it stopped before the kill: {early}\n{mix.Said()}\n{volume.Log}"); }
            volume.Kill();
            mix.WaitFor("stopped");
            volume.DetachDeadMount();
            string image = volume.KeepImage();
            try
            {
                volume.ExpectClean();
                volume.Start();
                mix.Send(power ? "power" : "process");
                string verdict = mix.WaitFor("problems");
                if (verdict != "problems 0") { throw new FindingException(mix.Said()); }
            }
            catch (FindingException finding)
            {
                throw new FindingException($"{(power ? "power cut" : "kill")} {cycle}: {finding.Message}\nThe image as the kill left it: {image}\n{volume.Log}");
            }
            File.Delete(image);
        }
        Finished ended = mix.End();
        if (ended.ExitStatus != 0) { throw new FindingException(mix.Said()); }
        volume.Stop();
        volume.ExpectClean();
        return CyclesPerSeed;
    }
}
