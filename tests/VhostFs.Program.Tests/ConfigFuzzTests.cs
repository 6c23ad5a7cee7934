using System.Text;
using VhostFs.Campaigns;
using VhostFs.Config;
using VhostFs.ProgramTests.Campaigns;
using Xunit.Abstractions;

[assembly: CollectionBehavior(DisableTestParallelization = true)]

namespace VhostFs.ProgramTests;

public class ConfigFuzzTests(ITestOutputHelper output)
{
    [Fact]
    public void Any_spoiled_file_is_read_or_refused_with_a_line() => CampaignRun.ToFloor(new ConfigFuzzCampaign(), output.WriteLine);

    /// <summary>Were all refused at the first byte, the campaign would try nothing.</summary>
    [Fact]
    public void The_files_that_the_campaign_makes_are_of_all_kinds()
    {
        var mutator = new ConfigMutator(1);
        int good = 0, notJson = 0, contradicting = 0;
        for (int i = 0; i < 3000; i++)
        {
            var errors = new List<ConfigError>();
            if (ConfigFile.Parse("/c.json", mutator.Next(), errors) is not null) { good++; }
            else if (errors[0].Message.StartsWith("not valid JSON", StringComparison.Ordinal)) { notJson++; }
            else { contradicting++; }
        }
        Assert.True(good > 100 && notJson > 300 && contradicting > 300, $"{good} good, {notJson} not JSON, {contradicting} otherwise wrong");
    }

    [Theory]
    [InlineData("{ \"name\\ud800\": 1 }")]
    [InlineData("{\n \"log_level\": \"\\udc00\" }")]
    public void Half_a_surrogate_pair_is_an_error_and_not_an_exception(string text) => Refused(Encoding.UTF8.GetBytes(text), "not valid JSON");

    [Fact]
    public void Bytes_that_are_not_utf8_are_an_error_and_not_an_exception() => Refused([.. "{ \"log_level\": \""u8, 0xFF, 0xFE, .. "\" }"u8], "not valid JSON");

    [Fact]
    public void A_text_with_a_nul_is_refused_because_the_kernel_would_open_another_file() =>
        Refused(Encoding.UTF8.GetBytes("""{ "bdevs": [ { "name": "d", "filename": "disk.img\u0000.bak" } ] }"""), "NUL");

    private static void Refused(byte[] text, string why)
    {
        var errors = new List<ConfigError>();
        Assert.Null(ConfigFile.Parse("/c.json", text, errors));
        Assert.Contains(errors, error => error.Message.Contains(why, StringComparison.Ordinal));
    }
}
