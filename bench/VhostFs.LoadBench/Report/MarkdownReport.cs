using System.Globalization;
using System.Text;
using VhostFs.LoadBench.Matrix;

namespace VhostFs.LoadBench.Report;

/// <summary>A comparison as Markdown tables.</summary>
internal static class MarkdownReport
{
    /// <param name="pictures">Paths of pictures as links see them, and what they show.</param>
    public static string Write(Comparison comparison, IReadOnlyList<(string Path, string Title)> pictures)
    {
        var text = new StringBuilder();
        text.AppendLine(CultureInfo.InvariantCulture, $"{comparison.Machine}. {comparison.Method}.").AppendLine();
        if (comparison.Cases.Count > 0) { AppendCases(text, comparison); }
        AppendFigures(text, comparison);
        AppendMemory(text, comparison);
        foreach ((string path, string title) in pictures) { text.AppendLine().AppendLine(CultureInfo.InvariantCulture, $"![{title}]({path})"); }
        return text.ToString().ReplaceLineEndings("\n");
    }

    public static string Title(CaseResult one) => $"{(one.Variant.Length > 0 ? $"{one.Variant}: " : "")}{Words(one.Job)}{(one.BlockBytes > 0 ? $" {Size.Text(one.BlockBytes)}" : "")}, {Depth(one)}";

    private static string Depth(CaseResult one) => one.Job != "fsync-append" ? $"QD{one.Depth}" : one.Depth == 1 ? "1 writer" : $"{one.Depth} writers";

    private static string Words(string job) => job switch
    {
        "randread" => "random read",
        "randwrite" => "random write",
        "seqread" => "sequential read",
        "seqwrite" => "sequential write",
        "getattr" => "GETATTR",
        "lookup" => "LOOKUP",
        "fsync-append" => "append and fsync",
        "create" => "create (4 requests)",
        "stat" => "stat",
        "readdirplus" => "READDIRPLUS of a page",
        "unlink" => "unlink (2 requests)",
        _ => job,
    };

    private static void AppendCases(StringBuilder text, Comparison comparison)
    {
        string peer = comparison.Peer;
        bool hasPeer = comparison.Cases.Any(one => one.Peer is not null);
        text.AppendLine(hasPeer
            ? $"| {comparison.Name} | {comparison.Ours} | {peer} | ratio | CPU, us | p50, us | p99.9, us | spread, % |\n|---|---|---|---|---|---|---|---|"
            : $"| {comparison.Name} | {comparison.Ours} | CPU, us | p50, us | p99.9, us | spread, % |\n|---|---|---|---|---|---|");
        foreach (CaseResult one in comparison.Cases)
        {
            string Both(Func<Side, string> value) => one.Peer is null ? value(one.Ours) : $"{value(one.Ours)} / {value(one.Peer)}";
            string rates = !hasPeer ? Rate(one, one.Ours)
                : one.Peer is null ? $"{Rate(one, one.Ours)} | | "
                : $"{Rate(one, one.Ours)} | {Rate(one, one.Peer)} | {one.Ratio.ToString("0.00", CultureInfo.InvariantCulture)}";
            text.AppendLine(CultureInfo.InvariantCulture, $"| {Title(one)} | {rates} | {Both(s => Number(s.CpuUs))} | {Both(s => Number(s.P50Us))} | {Both(s => Number(s.P999Us))} | {Both(s => s.SpreadPercent.ToString("N0", CultureInfo.InvariantCulture))} |");
        }
    }

    private static void AppendFigures(StringBuilder text, Comparison comparison)
    {
        if (comparison.Figures.Count == 0) { return; }
        bool hasPeer = comparison.Figures.Any(figure => figure.Peer is not null);
        string head = hasPeer ? $"| {comparison.Name} | {comparison.Ours} | {comparison.Peer} |\n|---|---|---|" : $"| {comparison.Name} | {comparison.Ours} |\n|---|---|";
        if (comparison.Cases.Count > 0) { text.AppendLine(); }
        text.AppendLine(head);
        foreach (Figure figure in comparison.Figures)
        {
            string peer = hasPeer ? $" {(figure.Peer is { } value ? $"{Number(value)}{figure.Unit}" : "")} |" : "";
            text.AppendLine(CultureInfo.InvariantCulture, $"| {figure.What} | {Number(figure.Ours)}{figure.Unit} |{peer}");
        }
    }

    private static void AppendMemory(StringBuilder text, Comparison comparison)
    {
        if (comparison.OurMemory.Count == 0) { return; }
        text.AppendLine().AppendLine("| idle sessions | MiB | MiB for each more |").AppendLine("|---|---|---|");
        void Lines(string name, IReadOnlyList<SessionMemory> points)
        {
            for (int i = 0; i < points.Count; i++)
            {
                text.AppendLine(CultureInfo.InvariantCulture, $"| {name}, {points[i].Sessions:N0} | {Number(points[i].Mib)} | {(i == 0 ? "" : Number(points[i].MibEachSince(points[i - 1])))} |");
            }
        }
        Lines(comparison.Ours, comparison.OurMemory);
        Lines(comparison.Peer, comparison.PeerMemory);
    }

    // Large transfers are known by their throughput.
    private static string Rate(CaseResult one, Side side) => one.BlockBytes >= Case.Medium ? $"{Number(side.MibPerSecond)} MiB/s" : $"{Number(side.Rate)}/s";

    /// <summary>Three digits that count.</summary>
    private static string Number(double value)
    {
        if (value == 0) { return "0"; }
        int digits = Math.Max(0, 2 - (int)Math.Floor(Math.Log10(Math.Abs(value))));
        double scale = Math.Pow(10, Math.Max(0, (int)Math.Floor(Math.Log10(Math.Abs(value))) - 2));
        return (Math.Round(value / scale) * scale is var rounded && digits == 0 ? rounded : value).ToString($"N{Math.Min(digits, 3)}", CultureInfo.InvariantCulture);
    }
}
