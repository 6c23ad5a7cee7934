using System.Globalization;
using VhostFs.Campaigns;

namespace VhostFs.Mount.Tests.Campaigns;

/// <summary>Random operations on one file of a mount, every byte compared with a copy in memory: through the page cache, past it, mapped, and with remounts in between.</summary>
public sealed class FsxCampaign()
    : Campaign("fsx", "operations", floor: 1_000_000, "reads, writes, maps, truncates, punches and copies on a mounted file: every byte is what was put there")
{
    private const long OperationsPerSeed = 62_500;

    private static readonly string[] s_modes = ["cached", "direct", "mapped", "remount"];
    private static readonly string?[] s_options = [null, "writeback", "cache=always,writeback", "cache=never,allow_mmap"];

    public override int MaxThreads => 2;

    /// <summary>Processes come and go in each run: on a busy machine it takes minutes.</summary>
    public override TimeSpan Patience => TimeSpan.FromMinutes(10);

    public override long Run(ulong seed)
    {
        if (Needs.Mount is { } missing) { throw new FindingException($"cannot run: {missing}"); }
        string mode = s_modes[seed % 4];
        string? options = s_options[seed / 4 % 4];
        using MountedVolume volume = new MountedVolume("64M", options: options).Start();
        using var fsx = new Conversation(Path.Combine(Repository.GuestPrograms, "fsx"), mode, seed.ToString(CultureInfo.InvariantCulture),
            OperationsPerSeed.ToString(CultureInfo.InvariantCulture), Path.Combine(volume.MountPoint, "file"));
        while (fsx.Next("remount") is not null)
        {
            volume.Unmount();
            volume.Start();
            fsx.Send("remounted");
        }
        Finished ended = fsx.End();
        if (ended.ExitStatus != 0) { throw new FindingException($"{mode}, mounted with -o {options ?? "(nothing)"}:\n{ended.Output}{ended.Error}{volume.Log}"); }
        volume.Stop();
        volume.ExpectClean();
        return OperationsPerSeed;
    }
}
