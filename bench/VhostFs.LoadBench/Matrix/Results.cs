using System.Globalization;
using System.Text.Json;
using VhostFs.LoadBench.Measure;

namespace VhostFs.LoadBench.Matrix;

/// <summary>What the runs of a comparison have found, as they come.</summary>
/// <param name="progress">A line per run.</param>
/// <param name="raw">A line of JSON per run; null: nobody wants them.</param>
internal sealed class Results(TextWriter progress, TextWriter? raw)
{
    private readonly List<(string Variant, Case Case)> _order = [];
    private readonly Dictionary<(string Variant, Case Case, bool IsPeer), List<RunResult>> _runs = [];
    private readonly List<(string What, string Unit)> _figures = [];
    private readonly Dictionary<(string What, bool IsPeer), List<double>> _samples = [];
    private readonly List<double> _othersCpuPercent = [];

    public List<SessionMemory> OurMemory { get; } = [];

    public List<SessionMemory> PeerMemory { get; } = [];

    /// <summary>What everybody else's work took of the machine; 100: one processor.</summary>
    public string Others => string.Create(CultureInfo.InvariantCulture,
        $"{Side.Median(_othersCpuPercent, x => x):N0} % (median; at most {_othersCpuPercent.DefaultIfEmpty().Max():N0} %)");

    public IReadOnlyList<CaseResult> Cases =>
        [.. _order.Select(row => new CaseResult(row.Case.Job, row.Case.Depth, row.Case.BlockBytes, SideOf(row, isPeer: false)!, SideOf(row, isPeer: true), row.Variant))];

    public IReadOnlyList<Figure> Figures =>
        [.. _figures.Select(figure => new Figure(figure.What, figure.Unit, Side.Median(_samples[(figure.What, false)], x => x), _samples.TryGetValue((figure.What, true), out List<double>? peer) ? Side.Median(peer, x => x) : null))];

    public void Say(string line) => progress.WriteLine(line);

    public void Add(Server server, string variant, RunResult result)
    {
        bool isPeer = server is PeerServer;
        var row = (variant, new Case(result.Job, result.Depth, result.BlockBytes));
        if (!_order.Contains(row)) { _order.Add(row); }
        ListOf(_runs, (row.variant, row.Item2, isPeer)).Add(result);
        _othersCpuPercent.Add(result.OthersCpuPercent);
        Say($"{server.Name,-20} {(variant.Length > 0 ? $"{variant}: " : "")}{result}");
        raw?.WriteLine($"{{\"server\":{JsonSerializer.Serialize(server.Name)},\"variant\":{JsonSerializer.Serialize(variant)},\"result\":{result.ToJson()}}}");
    }

    /// <summary>One measurement of a <see cref="Figure"/>.</summary>
    public void Add(Server server, string what, string unit, double value)
    {
        if (!_figures.Contains((what, unit))) { _figures.Add((what, unit)); }
        ListOf(_samples, (what, server is PeerServer)).Add(value);
        Say(string.Create(CultureInfo.InvariantCulture, $"{server.Name,-20} {what}: {value:N2}{unit}"));
        raw?.WriteLine($"{{\"server\":{JsonSerializer.Serialize(server.Name)},\"what\":{JsonSerializer.Serialize(what)},\"value\":{value.ToString("R", CultureInfo.InvariantCulture)},\"unit\":{JsonSerializer.Serialize(unit.Trim())}}}");
    }

    /// <summary>How busy others were while something was measured that is no run of a job.</summary>
    public void Add(Spent spent) => _othersCpuPercent.Add(spent.OthersCpuPercent);

    private static List<TValue> ListOf<TKey, TValue>(Dictionary<TKey, List<TValue>> lists, TKey key)
        where TKey : notnull
    {
        if (!lists.TryGetValue(key, out List<TValue>? list)) { lists[key] = list = []; }
        return list;
    }

    private Side? SideOf((string Variant, Case Case) row, bool isPeer) => _runs.TryGetValue((row.Variant, row.Case, isPeer), out List<RunResult>? runs) ? Side.Of(runs) : null;
}
