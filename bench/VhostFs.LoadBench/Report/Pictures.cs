using OxyPlot;
using OxyPlot.Axes;
using OxyPlot.Legends;
using OxyPlot.Series;
using VhostFs.LoadBench.Matrix;

namespace VhostFs.LoadBench.Report;

/// <summary>A comparison as pictures.</summary>
internal static class Pictures
{
    private const double Width = 760, Height = 440;

    /// <summary>File names and what is to be in them.</summary>
    public static IEnumerable<(string Name, string Title, string Svg)> Draw(Comparison comparison)
    {
        if (comparison.Cases.Any(c => c.IsCurve))
        {
            yield return Svg($"{comparison.Name}-iops", Curves(comparison, $"4 KiB on {comparison.Name}: operations per second", "operations/s", [("read", "randread", s => s.Rate), ("write", "randwrite", s => s.Rate)], isLogarithmic: false));
            yield return Svg($"{comparison.Name}-read-latency", Latency(comparison, "randread", "read"));
            yield return Svg($"{comparison.Name}-write-latency", Latency(comparison, "randwrite", "write"));
        }
        if (comparison.Cases.Count > 0) { yield return Svg($"{comparison.Name}-cpu", CpuPerRequest(comparison)); }
        if (comparison.OurMemory.Count > 0) { yield return Svg($"{comparison.Name}-memory", Memory(comparison)); }
    }

    private static PlotModel Latency(Comparison comparison, string job, string what) => Curves(comparison, $"Random {what} 4 KiB on {comparison.Name}: latency", "latency, us", [("p50", job, s => s.P50Us), ("p99.9", job, s => s.P999Us)], isLogarithmic: true);

    /// <param name="curves">The first is drawn through, the second dashed.</param>
    private static PlotModel Curves(Comparison comparison, string title, string unit, (string Name, string Job, Func<Side, double> Value)[] curves, bool isLogarithmic)
    {
        PlotModel model = NewModel(title);
        CaseResult[] cases = [.. comparison.Cases.Where(c => c.IsCurve)];
        AddAxis(model, Logarithmic(AxisPosition.Bottom, "requests in flight", 2, cases.Min(c => c.Depth), cases.Max(c => c.Depth)));
        AddAxis(model, isLogarithmic ? Logarithmic(AxisPosition.Left, unit, 10) : new LinearAxis { Position = AxisPosition.Left, Title = unit, Minimum = 0, StringFormat = "#,0" });
        AddLegend(model);
        for (int i = 0; i < curves.Length; i++)
        {
            (string name, string job, Func<Side, double> value) = curves[i];
            CaseResult[] points = [.. cases.Where(c => c.Job == job).OrderBy(c => c.Depth)];
            LineStyle style = i == 0 ? LineStyle.Solid : LineStyle.Dash;
            model.Series.Add(Line($"{comparison.Ours}, {name}", Theme.Ours, MarkerType.Circle, style, points.Select(c => new DataPoint(c.Depth, value(c.Ours)))));
            if (points.All(c => c.Peer is not null)) { model.Series.Add(Line($"{comparison.Peer}, {name}", Theme.Peer, MarkerType.Square, style, points.Select(c => new DataPoint(c.Depth, value(c.Peer!))))); }
        }
        return model;
    }

    private static PlotModel CpuPerRequest(Comparison comparison)
    {
        int[] shown = [comparison.Cases.Where(c => c.IsCurve).Select(c => c.Depth).DefaultIfEmpty(1).Min(), 32];
        CaseResult[] cases = [.. comparison.Cases.Where(c => !c.IsCurve || shown.Contains(c.Depth)).Reverse()];
        PlotModel model = NewModel($"On {comparison.Name}: processor time of the server per operation");
        AddAxis(model, Logarithmic(AxisPosition.Bottom, "CPU per operation, us", 10));
        var names = new CategoryAxis { Position = AxisPosition.Left, GapWidth = 1 };
        names.Labels.AddRange(cases.Select(MarkdownReport.Title));
        AddAxis(model, names);
        AddLegend(model);
        for (int i = 0; i < cases.Length; i++)
        {
            if (cases[i].Peer is { } peer) { model.Series.Add(new LineSeries { Color = Theme.Grid, StrokeThickness = 3, Points = { new DataPoint(cases[i].Ours.CpuUs, i), new DataPoint(peer.CpuUs, i) } }); }
        }
        ScatterSeries Dots(string name, OxyColor color, MarkerType marker, Func<CaseResult, double> value)
        {
            var dots = new ScatterSeries { Title = name, MarkerType = marker, MarkerFill = color, MarkerSize = 5 };
            dots.Points.AddRange(cases.Select((c, i) => new ScatterPoint(value(c), i)));
            return dots;
        }
        model.Series.Add(Dots(comparison.Ours, Theme.Ours, MarkerType.Circle, c => c.Ours.CpuUs));
        if (cases.All(c => c.Peer is not null)) { model.Series.Add(Dots(comparison.Peer, Theme.Peer, MarkerType.Square, c => c.Peer!.CpuUs)); }
        return model;
    }

    private static PlotModel Memory(Comparison comparison)
    {
        PlotModel model = NewModel("Memory of idle sessions, without that of the guests");
        int most = comparison.OurMemory.Max(m => m.Sessions);
        AddAxis(model, Logarithmic(AxisPosition.Bottom, "idle sessions", 10, 1, most));
        AddAxis(model, Logarithmic(AxisPosition.Left, "MiB", 10));
        AddLegend(model);
        model.Series.Add(Line($"{comparison.Ours}, one process", Theme.Ours, MarkerType.Circle, LineStyle.Solid, comparison.OurMemory.Select(m => new DataPoint(m.Sessions, m.Mib))));
        if (comparison.PeerMemory.Count == 0) { return model; }
        model.Series.Add(Line($"{comparison.Peer}, a process each", Theme.Peer, MarkerType.Square, LineStyle.Solid, comparison.PeerMemory.Select(m => new DataPoint(m.Sessions, m.Mib))));
        SessionMemory[] measured = [.. comparison.PeerMemory.OrderBy(m => m.Sessions)];
        SessionMemory last = measured[^1];
        if (measured.Length > 1 && last.Sessions < most)
        {
            double each = last.MibEachSince(measured[^2]);
            // On two logarithmic axes it is no straight line.
            IEnumerable<DataPoint> points = Enumerable.Range(0, 21).Select(i => last.Sessions * Math.Pow((double)most / last.Sessions, i / 20.0)).Select(n => new DataPoint(n, last.Mib + (each * (n - last.Sessions))));
            model.Series.Add(Line($"{comparison.Peer}, as much for each more", Theme.Peer, MarkerType.None, LineStyle.Dot, points));
        }
        return model;
    }

    private static (string Name, string Title, string Svg) Svg(string name, PlotModel model)
    {
        string svg = SvgExporter.ExportToString(model, Width, Height, isDocument: true, new SvgText.Measurer(Width, Height));
        return ($"{name}.svg", model.Title, Theme.AddDark(SvgText.PlaceLines(svg)).ReplaceLineEndings("\n"));
    }

    private static PlotModel NewModel(string title) => new()
    {
        Title = title,
        TitleFontSize = 16,
        DefaultFont = SvgText.Font,
        DefaultFontSize = 13,
        TextColor = Theme.Text,
        PlotAreaBorderColor = Theme.Grid,
        Background = Theme.Background,
        Padding = new OxyThickness(12, 12, 28, 12),
    };

    // A little more than the values, so that their marks are whole.
    private static LogarithmicAxis Logarithmic(AxisPosition position, string title, double numberBase, double minimum = double.NaN, double maximum = double.NaN) => new()
    {
        Position = position,
        Title = title,
        Base = numberBase,
        Minimum = minimum * 0.9,
        Maximum = maximum * 1.1,
        MinimumPadding = 0.05,
        MaximumPadding = 0.05,
        StringFormat = "#,0.####",
    };

    private static void AddAxis(PlotModel model, Axis axis)
    {
        axis.MajorGridlineStyle = LineStyle.Solid;
        axis.MajorGridlineColor = Theme.Grid;
        axis.TicklineColor = Theme.Grid;
        axis.MinorTickSize = 0;
        axis.AxisTitleDistance = 10;
        axis.AxislineColor = Theme.Grid;
        axis.TextColor = axis.TitleColor = Theme.Text;
        model.Axes.Add(axis);
    }

    private static void AddLegend(PlotModel model) => model.Legends.Add(new Legend
    {
        LegendPosition = LegendPosition.BottomCenter,
        LegendPlacement = LegendPlacement.Outside,
        LegendOrientation = LegendOrientation.Horizontal,
        LegendSymbolLength = 40,
        LegendItemSpacing = 28,
        LegendTextColor = Theme.Text,
        LegendBackground = Theme.Background,
    });

    private static LineSeries Line(string title, OxyColor color, MarkerType marker, LineStyle style, IEnumerable<DataPoint> points)
    {
        var line = new LineSeries { Title = title, Color = color, MarkerType = marker, MarkerFill = color, MarkerSize = 4, LineStyle = style };
        line.Points.AddRange(points);
        return line;
    }
}
