using VhostFs.Bdev;
using VhostFs.Campaigns;
using VhostFs.Fuse;
using VhostFs.Fuzz.Tests.Chains;
using VhostFs.Fuzz.Tests.Disks;
using VhostFs.Fuzz.Tests.Fuse;
using VhostFs.Fuzz.Tests.VhostUser;
using VhostFs.Linux;
using VhostFs.Reactor;
using VhostFs.VhostUser;
using VhostFs.Virtio;
using Xunit;
using Xunit.Abstractions;

namespace VhostFs.Fuzz.Tests;

public sealed class FuzzTests(ITestOutputHelper output)
{
    [Fact]
    public void Fuse_requests() => CampaignRun.ToFloor(new FuseFuzzCampaign(), output.WriteLine);

    [Fact]
    public void Vhost_user_messages() => CampaignRun.ToFloor(new VhostUserFuzzCampaign(), output.WriteLine);

    [Fact]
    public void The_message_fuzzer_sees_every_message_obeyed_and_refused()
    {
        var campaign = new VhostUserFuzzCampaign();
        for (ulong seed = 1; seed <= 12; seed++) { campaign.Run(seed); }
        output.WriteLine(string.Join(" ", campaign.Coverage.OrderBy(c => c.Key).Select(c => $"{c.Key.Id}/{c.Key.IsObeyed}:{c.Value}")));
        foreach (MessageId id in Enum.GetValues<MessageId>())
        {
            // Whoever cannot be given what he asks for is sent away; SET_OWNER and its kin have nothing to refuse but their framing.
            bool isAnswered = id is MessageId.GetFeatures or MessageId.GetProtocolFeatures or MessageId.GetQueueNum or MessageId.GetVringBase or MessageId.GetMaxMemSlots or MessageId.GetInflightFd;
            Assert.True(campaign.Coverage.ContainsKey((id, true)), $"{id} is never obeyed");
            if (!isAnswered) { Assert.True(campaign.Coverage.ContainsKey((id, false)), $"{id} is never refused"); }
        }
    }

    [Fact]
    public void Descriptor_chains() => CampaignRun.ToFloor(new ChainFuzzCampaign(), output.WriteLine);

    [Fact]
    public void Blk_requests() => CampaignRun.ToFloor(new BlkFuzzCampaign(), output.WriteLine);

    [Fact]
    public void Scsi_commands() => CampaignRun.ToFloor(new ScsiFuzzCampaign(), output.WriteLine);

    [Fact]
    public void The_disk_fuzzers_see_every_request_succeed_and_fail()
    {
        var blk = new BlkFuzzCampaign();
        var scsi = new ScsiFuzzCampaign();
        for (ulong seed = 1; seed <= 12; seed++)
        {
            blk.Run(seed);
            scsi.Run(seed);
        }
        output.WriteLine(string.Join(" ", blk.Coverage.Where(c => c.Value > 20).Select(c => $"{c.Key.Type}/{c.Key.Status}:{c.Value}")));
        output.WriteLine(string.Join(" ", scsi.Coverage.Where(c => c.Value > 2).OrderBy(c => c.Key).Select(c => $"{c.Key.Opcode}/{c.Key.IsGood}:{c.Value}")));
        Assert.All(Enum.GetValues<BlkRequestType>(), type => Assert.True(blk.Coverage.ContainsKey((type, 0)) && blk.Coverage.ContainsKey((type, 1)) | type is BlkRequestType.Flush or BlkRequestType.GetId, $"{type}"));
        Assert.All(Enum.GetValues<ScsiOpcode>(), opcode => Assert.True(scsi.Coverage.ContainsKey((opcode, true)) && scsi.Coverage.ContainsKey((opcode, false)), $"{opcode}"));
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void A_disk_that_is_written_to_elsewhere_is_found(bool isScsi)
    {
        static IBdev Wrap(IBdev disk) => new MistakenBdev(disk);
        Campaign campaign = isScsi ? new ScsiFuzzCampaign { Mistake = Wrap } : new BlkFuzzCampaign { Mistake = Wrap };
        FindingException found = Assert.Throws<FindingException>(() =>
        {
            for (ulong seed = 1; seed <= 4; seed++) { campaign.Run(seed); }
        });
        output.WriteLine(found.Message);
    }

    // One write in a hundred is a block further on.
    private sealed class MistakenBdev(IBdev inner) : BdevDecorator(inner, inner.Name)
    {
        private int _writes;

        protected override IoTask<IoResult> ReadCoreAsync(long offsetBytes, IoVecs target) => Inner.ReadAsync(offsetBytes, target);

        protected override IoTask<IoResult> WriteCoreAsync(long offsetBytes, IoVecs source) =>
            Inner.WriteAsync(++_writes % 100 == 0 && offsetBytes + source.LengthBytes < SizeBytes ? offsetBytes + BlockSize : offsetBytes, source);

        protected override IoTask<Errno> FlushCoreAsync() => Inner.FlushAsync();

        protected override IoTask<Errno> UnmapCoreAsync(long offsetBytes, long lengthBytes) => Inner.UnmapAsync(offsetBytes, lengthBytes);

        protected override IoTask<Errno> WriteZeroesCoreAsync(long offsetBytes, long lengthBytes) => Inner.WriteZeroesAsync(offsetBytes, lengthBytes);
    }

    [Theory]
    [InlineData(false, false, 64)]
    [InlineData(true, false, 64)]
    [InlineData(false, true, 64)]
    [InlineData(true, true, 64)]
    public void A_queue_that_trusts_a_length_is_found(bool races, bool isPacked, int tooMuch)
    {
        var campaign = new ChainFuzzCampaign
        {
            AllRace = races,
            IsPacked = isPacked,
            // As if the length of the last writable descriptor had been taken without looking where it ends.
            Mistake = (_, writable) =>
            {
                if (writable.Count > 0 && writable.View()[writable.Count - 1] is var last) { writable.Add(new IoVec(last.Address + (nuint)last.Length, races ? 16 << 20 : tooMuch)); }
            },
        };
        FindingException found = Assert.Throws<FindingException>(() => campaign.Run(1));
        output.WriteLine(found.Message);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void The_chain_fuzzer_sees_every_verdict(bool isPacked)
    {
        var campaign = new ChainFuzzCampaign { IsPacked = isPacked };
        for (ulong seed = 1; seed <= 8; seed++) { campaign.Run(seed); }
        output.WriteLine(string.Join(" ", Enum.GetValues<PopResult>().Select(r => $"{r}:{campaign.Verdicts[(int)r]}")));
        Assert.All(campaign.Verdicts, n => Assert.True(n > 50));
    }

    [Theory, MemberData(nameof(FileSystemMistakes))]
    public void A_mistake_below_the_fuse_server_is_found(string mistake)
    {
        var campaign = new FuseFuzzCampaign { Wrap = fileSystem => MistakenFileSystem.Wrap(fileSystem, mistake) };
        FindingException found = Assert.Throws<FindingException>(() =>
        {
            for (ulong seed = 1; seed <= 8; seed++) { campaign.Run(seed); }
        });
        output.WriteLine(found.Message);
    }

    public static TheoryData<string> FileSystemMistakes => new(MistakenFileSystem.Mistakes);

    [Fact]
    public void The_fuse_fuzzer_sees_every_opcode_succeed_and_fail()
    {
        var campaign = new FuseFuzzCampaign { Coverage = new() };
        for (ulong seed = 1; seed <= 12; seed++) { campaign.Run(seed); }
        foreach (FuseOpcode opcode in Enum.GetValues<FuseOpcode>())
        {
            var seen = campaign.Coverage.Where(c => c.Key.Opcode == opcode).OrderBy(c => c.Key.Errno).ToArray();
            output.WriteLine($"{opcode}: {string.Join(" ", seen.Select(c => $"{(Errno)c.Key.Errno}:{c.Value}"))}");
            bool isServed = opcode is not (FuseOpcode.FORGET or FuseOpcode.BATCH_FORGET or FuseOpcode.INTERRUPT or FuseOpcode.NOTIFY_REPLY
                or FuseOpcode.ACCESS or FuseOpcode.BMAP or FuseOpcode.POLL or FuseOpcode.SETUPMAPPING or FuseOpcode.REMOVEMAPPING);
            if (isServed) { Assert.Contains(seen, c => c.Key.Errno == 0); }
            if (isServed && opcode != FuseOpcode.DESTROY) { Assert.Contains(seen, c => c.Key.Errno != 0); }
        }
    }
}
