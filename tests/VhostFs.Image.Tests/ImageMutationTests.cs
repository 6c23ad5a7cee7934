using VhostFs.Blobstore.Check;
using VhostFs.Campaigns;
using VhostFs.Image.Tests.Images;
using VhostFs.Image.Tests.Mutation;
using Xunit;
using Xunit.Abstractions;

namespace VhostFs.Image.Tests;

public sealed class ImageMutationTests(ITestOutputHelper output)
{
    [Fact]
    public void A_forged_disk_does_no_harm() => CampaignRun.ToFloor(new ImageMutationCampaign(), output.WriteLine);

    [Fact]
    public void What_found_something_once_finds_nothing_now()
    {
        var bench = new ImageMutationCampaign.Bench(ImageBuilder.Build(1));
        string[] lines = [.. File.ReadLines(Path.Combine(AppContext.BaseDirectory, "Mutation", "seeds.txt")).Where(line => line.Length > 0 && line[0] != '#')];
        Assert.NotEmpty(lines);
        foreach (string line in lines)
        {
            string[] words = line.Split(' ', 3);
            Assert.Null(ImageMutationCampaign.Try(bench, words[0] == "crashed", int.Parse(words[1], System.Globalization.CultureInfo.InvariantCulture)));
        }
    }

    /// <summary>Were all refused at the superblock, the campaign would try nothing.</summary>
    [Fact]
    public void The_images_that_the_campaign_makes_get_deep()
    {
        var bench = new ImageMutationCampaign.Bench(ImageBuilder.Build(1));
        int clean = 0, usable = 0;
        for (int seed = 1; seed <= 1000; seed++)
        {
            Assert.Null(ImageMutationCampaign.Try(bench, seed % 2 == 0, seed));
            clean += bench.Judge.WasClean ? 1 : 0;
            usable += bench.Judge.WasUsable ? 1 : 0;
        }
        Assert.True(clean is > 50 and < 400 && usable is > 100 and < 600, $"{clean} clean, {usable} usable of 1,000");
    }

    [Fact]
    public void A_checker_that_leaves_out_rules_is_found_out()
    {
        var bench = new ImageMutationCampaign.Bench(ImageBuilder.Build(1)) { Judge = new MutantJudge { CheckOptions = new CheckOptions { VerifyBlobfs = false } } };
        Assert.Contains(Enumerable.Range(1, 3000), seed => ImageMutationCampaign.Try(bench, seed % 2 == 0, seed)?.Contains("the checker finds nothing", StringComparison.Ordinal) == true);
    }
}
