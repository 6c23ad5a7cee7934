using VhostFs.Campaigns;
using Xunit;

namespace VhostFs.Mount.Tests;

/// <summary>fcntl and flock between processes on a mount whose locks are the volume's.</summary>
public sealed class LockTests
{
    [MountFact]
    public void Locks_between_processes_are_what_fcntl_and_flock_say()
    {
        using MountedVolume volume = new MountedVolume().Start();
        Finished run = Command.Run(Locks, ["check", volume.MountPoint, "signals"]);
        Assert.True(run.ExitStatus == 0, run.Output + run.Error);
        volume.Stop();
    }

    [MountTheory]
    [InlineData("posix")]
    [InlineData("ofd")]
    [InlineData("flock")]
    public void A_number_that_is_counted_under_a_lock_counts_every_process(string kind)
    {
        const int processes = 6, times = 60;
        using MountedVolume volume = new MountedVolume(options: "cache=never").Start();
        string file = Path.Combine(volume.MountPoint, "number");
        Command[] counters = [.. Enumerable.Range(0, processes).Select(_ => new Command(Locks, ["count", kind, file, times.ToString(System.Globalization.CultureInfo.InvariantCulture)]))];
        foreach (Command counter in counters)
        {
            Finished ended = counter.Wait(TimeSpan.FromMinutes(2));
            Assert.True(ended.ExitStatus == 0, ended.Output + ended.Error);
            counter.Dispose();
        }
        Assert.Equal(processes * times, int.Parse(File.ReadAllText(file), System.Globalization.CultureInfo.InvariantCulture));
        volume.Unmount();
    }

    [MountFact]
    public void Who_waits_does_not_hold_up_the_end_of_the_mount()
    {
        using MountedVolume volume = new MountedVolume().Start();
        string file = Path.Combine(volume.MountPoint, "file");
        var holds = new ManualResetEventSlim();
        var wait = new CountdownEvent(5);
        using var holder = new Command(Locks, ["hold", "ofd", file, Path.Combine(volume.Folder, "stop")], onOutputLine: _ => holds.Set());
        Assert.True(holds.Wait(TimeSpan.FromSeconds(30)));
        Command[] waiters = [.. Enumerable.Range(0, 5).Select(_ => new Command(Locks, ["wait", "ofd", file], onOutputLine: _ => { if (!wait.IsSet) { wait.Signal(); } }))];
        Assert.True(wait.Wait(TimeSpan.FromSeconds(30)));
        Thread.Sleep(300); // from saying it to waiting
        volume.Stop();
        foreach (Command waiter in waiters)
        {
            Finished ended = waiter.Wait(TimeSpan.FromSeconds(30));
            Assert.True(ended.ExitStatus == 2 && ended.Output.Contains("STOP lock", StringComparison.Ordinal), ended.Output + ended.Error);
            waiter.Dispose();
        }
        File.WriteAllText(Path.Combine(volume.Folder, "stop"), "");
        holder.Wait(TimeSpan.FromSeconds(30));
        volume.ExpectClean();
    }

    private static string Locks => Path.Combine(Repository.GuestPrograms, "locks");
}
