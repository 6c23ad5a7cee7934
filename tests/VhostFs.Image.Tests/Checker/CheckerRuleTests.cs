using VhostFs.Blobstore.Check;
using Xunit;

namespace VhostFs.Image.Tests.Checker;

/// <summary>The checker has a rule for everything that the engine and the format take for granted: each is broken once, by hand.</summary>
public sealed class CheckerRuleTests
{
    public static TheoryData<int, string> Rules
    {
        get
        {
            var rules = new TheoryData<int, string>();
            for (int i = 0; i < CheckerRule.All.Count; i++) { rules.Add(i, CheckerRule.All[i].Says); }
            return rules;
        }
    }

    [Theory, MemberData(nameof(Rules))]
    public void The_checker_names_what_is_broken(int index, string says)
    {
        CheckerRule rule = CheckerRule.All[index];
        var image = new BrokenImage(CheckerRule.Images(rule.Crashed));
        rule.Break(image);
        CheckReport report = image.Check();
        Assert.True(report.Findings.Any(finding => finding.Sentence.Contains(says, StringComparison.Ordinal) && (finding.Severity == CheckSeverity.Warning) == rule.IsWarning),
            $"expected '{says}', found:\n{string.Join("\n", report.Findings.Take(10))}");
        Assert.Equal(rule.IsWarning, report.IsClean);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void An_image_that_is_only_sealed_anew_is_clean(bool crashed)
    {
        CheckReport report = new BrokenImage(CheckerRule.Images(crashed)).Check();
        Assert.True(report.IsClean && report.WarningCount == 0, string.Join("\n", report.Findings));
    }

    [Fact]
    public void What_is_not_asked_for_is_not_checked()
    {
        var image = new BrokenImage(CheckerRule.Images(false));
        CheckerRule.All.First(rule => rule.Says == "belongs to nobody, but is not zero").Break(image);
        CheckerRule.All.First(rule => rule.Says == "does not match its checksum").Break(image);
        Assert.True(image.Check(new CheckOptions { VerifyData = false }).IsClean);
        Assert.Equal(2, image.Check().ErrorCount);
    }
}
