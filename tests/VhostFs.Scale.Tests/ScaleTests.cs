using VhostFs.Campaigns;
using Xunit;
using Xunit.Abstractions;

namespace VhostFs.Scale.Tests;

public sealed class ScaleTests(ITestOutputHelper output)
{
    [Fact]
    public void Two_hundred_volumes_idle_for_nothing_and_survive_kill_9()
    {
        var campaign = new ScaleCampaign();
        CampaignRun.ToFloor(campaign, output.WriteLine);
        output.WriteLine(campaign.Measured);
    }

    [Fact]
    public void Memory_of_guests_that_have_gone_is_the_hosts_again()
    {
        const int Volumes = 200;
        const int StepsEach = 20;
        const long GivenBackKib = Volumes * 10; // much less than what is found: sessions, what requests have left, heaps that have grown
        using var daemon = new ManyVolumes(Volumes, "32G");
        VolumeWorker[] workers = [.. Enumerable.Range(0, Volumes).Select(i => new VolumeWorker(daemon.Socket(i), i))];
        try
        {
            foreach (VolumeWorker worker in workers)
            {
                worker.Connect();
                for (int step = 0; step < StepsEach; step++) { worker.Step(); }
            }
            long with = daemon.PrivateKib;
            foreach (VolumeWorker worker in workers) { worker.Disconnect(); }
            long without = daemon.PrivateKib;
            for (int tenths = 0; without > with - GivenBackKib && tenths < 600; tenths++)
            {
                Thread.Sleep(100);
                without = daemon.PrivateKib;
            }
            output.WriteLine($"{with} KiB with {Volumes} guests, {without} KiB when they have gone");
            Assert.InRange(without, 0, with - GivenBackKib);

            // What they wrote is there for who comes next.
            foreach (VolumeWorker worker in workers)
            {
                worker.Connect();
                worker.CompareAll();
            }
        }
        finally
        {
            foreach (VolumeWorker worker in workers) { worker.Dispose(); }
        }
    }

    [Fact]
    public void A_hundred_volumes_under_load_do_not_grow()
    {
        var campaign = new EnduranceCampaign();
        CampaignRun.ToFloor(campaign, output.WriteLine);
        output.WriteLine(campaign.Measured);
    }
}
