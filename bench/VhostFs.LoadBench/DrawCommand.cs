using System.CommandLine;
using VhostFs.GuestDriver;
using VhostFs.LoadBench.Report;

namespace VhostFs.LoadBench;

/// <summary><c>loadbench draw</c>: tables and pictures of what was measured before.</summary>
internal static class DrawCommand
{
    public static Command New()
    {
        var results = new Argument<string>("results") { Description = "What 'matrix --json' has written" };
        Option<string> pictures = ReportFiles.PicturesOption(), document = ReportFiles.DocumentOption();
        var command = new Command("draw", "Write tables and pictures of results that were kept") { results, pictures, document };
        command.SetAction(parsed =>
        {
            try
            {
                ReportFiles.Write(ComparisonFile.Read(parsed.GetValue(results)!), Console.Out, parsed.GetValue(pictures), parsed.GetValue(document));
                return 0;
            }
            catch (Exception e) when (e is DriverException or IOException or UnauthorizedAccessException)
            {
                Console.Error.WriteLine($"loadbench: {e.Message}");
                return 1;
            }
        });
        return command;
    }
}
