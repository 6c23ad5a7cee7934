using System.Xml.Linq;
using VhostFs.GuestDriver;
using VhostFs.LoadBench.Matrix;
using VhostFs.LoadBench.Measure;
using VhostFs.LoadBench.Report;

namespace VhostFs.LoadBench.Tests;

public sealed class ReportTests
{
    private static Side Fast(double rate) => new(rate, 4.4, rate / 256, 2.25, 61.26, 1234.5);

    private static Comparison Measured => new("tmpfs", "vhostfs", "peer 1.2", "a machine", "a method",
    [
        new CaseResult("randread", 1, 4096, Fast(86_512), Fast(21_300)),
        new CaseResult("randread", 32, 4096, Fast(449_900), Fast(444_000)),
        new CaseResult("randwrite", 1, 4096, Fast(60_000), Fast(21_600)),
        new CaseResult("randwrite", 32, 4096, Fast(323_000), Fast(475_000)),
        new CaseResult("seqread", 8, 1 << 20, Fast(6_060) with { MibPerSecond = 6_060 }, Fast(7_990) with { MibPerSecond = 7_990 }),
        new CaseResult("create", 1, 0, Fast(31_500), Fast(5_800)),
        new CaseResult("fsync-append", 16, 4096, Fast(12_300), Fast(4_560), "malloc"),
    ], [new Figure("idle: CPU", " %", 0.25, null), new Figure("start", " ms", 98.76, 4.5)], [new SessionMemory(1, 14.4), new SessionMemory(1000, 97)], [new SessionMemory(1, 4.7), new SessionMemory(16, 10.7)]);

    private static RunResult Run(double rate) => new("lookup", "fs", 1, 0, "irq", 10, 1, rate, 0, default, rate / 10, 0, 0, default, 0, 0, "");

    [Fact]
    public void Several_runs_come_to_their_medians_and_spread()
    {
        Side side = Side.Of([Run(100), Run(300), Run(200)]);
        Assert.Equal((200, 100, 20), (side.Rate, side.SpreadPercent, side.CpuUs));
        Assert.Equal(150, Side.Of([Run(100), Run(200)]).Rate);
    }

    [Fact]
    public void The_table_has_a_line_per_case_with_both_servers_in_it()
    {
        string text = MarkdownReport.Write(Measured, [("pictures/a.svg", "A picture")]);
        Assert.Contains("| tmpfs | vhostfs | peer 1.2 | ratio | CPU, us | p50, us | p99.9, us | spread, % |\n", text, StringComparison.Ordinal);
        Assert.Contains("| random read 4 KiB, QD1 | 86,500/s | 21,300/s | 4.06 | 2.25 / 2.25 | 61.3 / 61.3 | 1,230 / 1,230 | 4 / 4 |\n", text, StringComparison.Ordinal);
        Assert.Contains("| sequential read 1 MiB, QD8 | 6,060 MiB/s | 7,990 MiB/s | 0.76 |", text, StringComparison.Ordinal);
        Assert.Contains("| create (4 requests), QD1 | 31,500/s |", text, StringComparison.Ordinal);
        Assert.Contains("| malloc: append and fsync 4 KiB, 16 writers | 12,300/s | 4,560/s | 2.70 |", text, StringComparison.Ordinal);
        Assert.Contains("| tmpfs | vhostfs | peer 1.2 |\n|---|---|---|\n| idle: CPU | 0.250 % |  |\n| start | 98.8 ms | 4.50 ms |\n", text, StringComparison.Ordinal);
        Assert.Contains("| peer 1.2, 16 | 10.7 | 0.400 |\n", text, StringComparison.Ordinal);
        Assert.Contains("![A picture](pictures/a.svg)\n", text, StringComparison.Ordinal);
        Assert.StartsWith("a machine. a method.\n", text, StringComparison.Ordinal);
    }

    [Fact]
    public void Without_a_peer_there_is_one_server_in_it()
    {
        Comparison alone = Measured with { Peer = "", PeerMemory = [], Cases = [.. Measured.Cases.Select(c => c with { Peer = null })], Figures = [.. Measured.Figures.Select(f => f with { Peer = null })] };
        string text = MarkdownReport.Write(alone, []);
        Assert.Contains("| random read 4 KiB, QD1 | 86,500/s | 2.25 | 61.3 | 1,230 | 4 |\n", text, StringComparison.Ordinal);
        Assert.Contains("| tmpfs | vhostfs |\n|---|---|\n| idle: CPU | 0.250 % |\n", text, StringComparison.Ordinal);
        Assert.Equal(5, Pictures.Draw(alone).Count());
    }

    [Fact]
    public void A_row_that_has_no_peer_beside_others_that_have_one_has_empty_columns()
    {
        string text = MarkdownReport.Write(Measured with { Cases = [Measured.Cases[0], Measured.Cases[^1] with { Peer = null }] }, []);
        Assert.Contains("| malloc: append and fsync 4 KiB, 16 writers | 12,300/s | |  | 2.25 | 61.3 | 1,230 | 4 |\n", text, StringComparison.Ordinal);
    }

    [Fact]
    public void Figures_alone_make_a_table_and_no_picture()
    {
        Comparison figures = Measured with { Cases = [], OurMemory = [], PeerMemory = [] };
        Assert.Empty(Pictures.Draw(figures));
        Assert.StartsWith("a machine. a method.\n\n| tmpfs | vhostfs | peer 1.2 |\n", MarkdownReport.Write(figures, []), StringComparison.Ordinal);
    }

    [Fact]
    public void Pictures_name_servers_and_units_and_know_light_and_dark()
    {
        (string Name, string Title, string Svg)[] pictures = [.. Pictures.Draw(Measured)];
        Assert.Equal(["tmpfs-iops.svg", "tmpfs-read-latency.svg", "tmpfs-write-latency.svg", "tmpfs-cpu.svg", "tmpfs-memory.svg"], pictures.Select(p => p.Name));
        string[] units = ["operations/s", "latency, us", "latency, us", "CPU per operation, us", "MiB"];
        for (int i = 0; i < pictures.Length; i++)
        {
            string[] texts = [.. XDocument.Parse(pictures[i].Svg).Descendants().Where(e => e.Name.LocalName == "text").Select(e => e.Value)];
            Assert.Contains(pictures[i].Title, texts);
            Assert.Contains(units[i], texts);
            Assert.Contains(texts, t => t.StartsWith("vhostfs", StringComparison.Ordinal));
            Assert.Contains(texts, t => t.StartsWith("peer 1.2", StringComparison.Ordinal));
            Assert.Contains("prefers-color-scheme: dark", pictures[i].Svg, StringComparison.Ordinal);
            Assert.DoesNotContain("dominant-baseline=\"hanging\"", pictures[i].Svg, StringComparison.Ordinal);
        }
    }

    /// <summary>A colour that the dark style sheet does not know stays as it is, and cannot be read.</summary>
    [Fact]
    public void All_colours_of_a_picture_are_the_themes()
    {
        string[] known = ["rgb(9,105,218)", "rgb(188,76,0)", "rgb(31,35,40)", "rgb(209,217,224)", "rgb(255,255,254)", "none"];
        foreach ((string name, _, string svg) in Pictures.Draw(Measured))
        {
            foreach (XElement element in XDocument.Parse(svg).Descendants().Where(e => e.Name.LocalName is "polyline" or "text" or "rect" or "ellipse" or "polygon"))
            {
                string[] colours = [.. ((string?)element.Attribute("style") ?? "").Split(';').Where(s => s.StartsWith("fill:", StringComparison.Ordinal) || s.StartsWith("stroke:", StringComparison.Ordinal)).Select(s => s.Split(':')[1])];
                if ((string?)element.Attribute("fill") is { } fill) { colours = [.. colours, fill]; }
                Assert.True(colours.All(known.Contains), $"{name}: {element}");
            }
        }
    }

    [Fact]
    public void Results_that_were_kept_are_read_again()
    {
        string path = Path.GetTempFileName();
        Comparison kept = Measured with { Cases = [.. Measured.Cases, Measured.Cases[0] with { Variant = "alone", Peer = null }] };
        File.WriteAllLines(path, ["{\"server\":\"x\"}", ComparisonFile.Line(kept)]);
        Comparison read = ComparisonFile.Read(path);
        Assert.Equal(MarkdownReport.Write(kept, []), MarkdownReport.Write(read, []));
        File.WriteAllText(path, "nothing");
        Assert.Throws<DriverException>(() => ComparisonFile.Read(path));
        File.Delete(path);
    }

    [Fact]
    public void A_section_of_a_document_is_replaced_and_nothing_else()
    {
        const string document = "a\n<!-- loadbench: x -->\nold\n<!-- end of loadbench: x -->\nb\n<!-- loadbench: y -->\n<!-- end of loadbench: y -->\n";
        string once = DocumentSection.Replace(document, "x", "new\n");
        Assert.Equal("a\n<!-- loadbench: x -->\n\nnew\n\n<!-- end of loadbench: x -->\nb\n<!-- loadbench: y -->\n<!-- end of loadbench: y -->\n", once);
        Assert.Equal(once, DocumentSection.Replace(once, "x", "new"));
        Assert.Throws<DriverException>(() => DocumentSection.Replace(document, "z", "new"));
    }
}
