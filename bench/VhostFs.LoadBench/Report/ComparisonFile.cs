using System.Text.Json;
using VhostFs.GuestDriver;
using VhostFs.LoadBench.Matrix;

namespace VhostFs.LoadBench.Report;

/// <summary>A comparison in the last line of a file of results.</summary>
internal static class ComparisonFile
{
    private static readonly JsonSerializerOptions s_json = new() { PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower };

    public static string Line(Comparison comparison) => JsonSerializer.Serialize(comparison, s_json);

    public static Comparison Read(string path)
    {
        try { return JsonSerializer.Deserialize<Comparison>(File.ReadLines(path).Last(), s_json) ?? throw new DriverException($"{path} is empty"); }
        catch (Exception e) when (e is JsonException or InvalidOperationException) { throw new DriverException($"{path} has no results of a comparison in its last line: {e.Message}", e); }
    }
}
