using VhostFs.Campaigns;
using Xunit;
using Xunit.Abstractions;

namespace VhostFs.Model.Tests;

public sealed class ModelTests(ITestOutputHelper output)
{
    public static TheoryData<Lie> Lies => [.. Enum.GetValues<Lie>()];

    [Fact]
    public void Blobfs_answers_as_a_plain_file_system_would() => CampaignRun.ToFloor(new ModelCampaign(), output.WriteLine);

    [Theory, MemberData(nameof(Lies))]
    public void A_file_system_with_a_mistake_is_caught_with_a_short_example(Lie lie)
    {
        string? found = null;
        for (int seed = 1; seed <= 10 && found is null; seed++)
        {
            found = ModelCampaign.Find((ulong)seed, new ModelSetting(seed, 1 + (seed % 4), 64 << 20, IsSlow: false, Collides: false), inner => new LyingFileSystem(inner, lie), sequences: 30);
        }
        Assert.True(found is not null, $"{lie} is not noticed within 300 sequences");
        output.WriteLine(found);
        Assert.True(found.Split('\n').Length < 45, "the example is not small");
    }
}
