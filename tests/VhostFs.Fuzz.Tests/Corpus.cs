using VhostFs.Campaigns;

namespace VhostFs.Fuzz.Tests;

/// <summary>Inputs that are kept: each file of Corpus/ is one run of one fuzzer, named <c>fuzzer.what-it-is.txt</c>.</summary>
/// <remarks>One input per line, in the fuzzer's own notation; '#' begins a comment. A campaign tries its files before its first seed. What a fuzzer
/// found lands here, after it was made small.</remarks>
internal static class Corpus
{
    public static IEnumerable<(string Name, string[] Lines)> Files(string fuzzer)
    {
        foreach (string name in typeof(Corpus).Assembly.GetManifestResourceNames().Order(StringComparer.Ordinal))
        {
            if (!name.StartsWith(fuzzer + ".", StringComparison.Ordinal)) { continue; }
            using var reader = new StreamReader(typeof(Corpus).Assembly.GetManifestResourceStream(name)!);
            yield return (name, [.. reader.ReadToEnd().Split('\n').Select(line => line.Split('#')[0].Trim()).Where(line => line.Length > 0)]);
        }
    }

    /// <summary>Runs every file of the fuzzer; the number of inputs.</summary>
    public static long Run(string fuzzer, Func<string[], long> run)
    {
        long inputs = 0;
        foreach ((string name, string[] lines) in Files(fuzzer))
        {
            try { inputs += run(lines); }
            catch (Exception found) when (found is not OutOfMemoryException) { throw new FindingException($"{name}: {found}"); }
        }
        return inputs;
    }
}
