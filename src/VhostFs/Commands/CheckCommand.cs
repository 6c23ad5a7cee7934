using System.CommandLine;
using VhostFs.Bdev;
using VhostFs.Blobstore.Check;
using VhostFs.Reactor;

namespace VhostFs.Commands;

/// <summary><c>vhostfs check</c>: verifies a pool that nobody serves. Reads only.</summary>
internal static class CheckCommand
{
    public static Command New(Terminal terminal)
    {
        Argument<string> path = PoolCommand.PathArgument();
        Option<bool> noData = Declare.Flag("--no-data", "Do not read file contents: metadata only, and much faster");
        Option<bool> freeSpace = Declare.Flag("--free-space", "Also verify that space of nobody holds nothing of its last owner");
        Option<bool> json = Declare.Json();
        var command = new Command("check", "Verify a pool and its volumes: exit status 0 clean, 1 damaged, 2 cannot be read") { path, noData, freeSpace, json };
        command.SetAction(parsed =>
        {
            string file = Path.GetFullPath(parsed.GetValue(path)!);
            var options = new CheckOptions { VerifyData = !parsed.GetValue(noData), VerifyFreeClusters = parsed.GetValue(freeSpace) };
            var device = new UringBdevOptions(file, file) { ReadOnly = true };
            return PoolTask.WithBdev(terminal, device, bdev => RunAsync(terminal, bdev, file, options, parsed.GetValue(json)), failure: ExitCode.Unreadable);
        });
        return command;
    }

    private static async IoTask<int> RunAsync(Terminal terminal, IBdev bdev, string path, CheckOptions options, bool json)
    {
        CheckReport report = await PoolChecker.CheckAsync(bdev, options);
        string verdict = report.Unreadable ? "unreadable" : report.IsClean ? "clean" : "damaged";
        if (json) { WriteJson(terminal, report, path, verdict); }
        else { WriteText(terminal, report, path, verdict); }
        return report.Unreadable ? ExitCode.Unreadable : report.IsClean ? ExitCode.Clean : ExitCode.Damaged;
    }

    private static void WriteText(Terminal terminal, CheckReport report, string path, string verdict)
    {
        foreach (CheckFinding finding in report.Findings) { terminal.Output.WriteLine(Log.OneLine(finding.ToString())); }
        if (report.FindingsNotListed > 0) { terminal.Output.WriteLine($"... and {report.FindingsNotListed} more"); }
        CheckCounts counts = report.Counts;
        terminal.Output.WriteLine($"{path}: {verdict}; {report.ErrorCount} errors, {report.WarningCount} warnings");
        if (report.Unreadable)
        {
            terminal.Output.WriteLine("no pool can be read there; make one with 'vhostfs pool create', or bring back a copy");
            return;
        }
        terminal.Output.WriteLine($"{counts.Volumes} volumes, {counts.Inodes} inodes, {counts.DirectoryEntries} names, {counts.Nodes} nodes, "
            + $"{Sizes.Human(counts.DataBlocks * 4096)} of data ({Sizes.Human(counts.DataBlocksVerified * 4096)} verified), {counts.LogRecords} log records");
    }

    private static void WriteJson(Terminal terminal, CheckReport report, string path, string verdict) => terminal.WriteJson(writer =>
    {
        writer.WriteStartObject();
        writer.WriteString("path", path);
        writer.WriteString("verdict", verdict);
        writer.WriteNumber("errors", report.ErrorCount);
        writer.WriteNumber("warnings", report.WarningCount);
        writer.WriteNumber("findings_not_listed", report.FindingsNotListed);
        writer.WriteStartArray("findings");
        foreach (CheckFinding finding in report.Findings)
        {
            writer.WriteStartObject();
            writer.WriteString("severity", finding.Severity == CheckSeverity.Error ? "error" : "warning");
            writer.WriteString("structure", finding.Structure);
            writer.WriteString("location", finding.Location);
            writer.WriteString("sentence", finding.Sentence);
            writer.WriteEndObject();
        }
        writer.WriteEndArray();
        writer.WriteStartObject("counts");
        CheckCounts counts = report.Counts;
        foreach ((string name, long count) in (ReadOnlySpan<(string, long)>)
            [
                ("volumes", counts.Volumes), ("nodes", counts.Nodes), ("items", counts.Items), ("inodes", counts.Inodes),
                ("directory_entries", counts.DirectoryEntries), ("xattrs", counts.Xattrs), ("orphans", counts.Orphans), ("extent_runs", counts.ExtentRuns),
                ("data_blocks", counts.DataBlocks), ("data_blocks_verified", counts.DataBlocksVerified),
                ("log_batches", counts.LogBatches), ("log_records", counts.LogRecords), ("log_records_dropped", counts.LogRecordsDropped),
            ])
        {
            writer.WriteNumber(name, count);
        }
        writer.WriteEndObject();
        writer.WriteEndObject();
    });
}
