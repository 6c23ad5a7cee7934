using VhostFs.GuestDriver;

namespace VhostFs.LoadBench.Report;

/// <summary>A part of a document that a program writes, between two comments that name it.</summary>
internal static class DocumentSection
{
    /// <summary>The document with the section's text replaced.</summary>
    /// <exception cref="DriverException">The document has no such section.</exception>
    public static string Replace(string document, string name, string text)
    {
        string first = First(name), last = Last(name);
        int start = document.IndexOf(first, StringComparison.Ordinal), end = document.IndexOf(last, StringComparison.Ordinal);
        if (start < 0 || end < start) { throw new DriverException($"the document has no place for the results: {first} and {last}"); }
        return $"{document[..(start + first.Length)]}\n\n{text.Trim()}\n\n{document[end..]}";
    }

    private static string First(string name) => $"<!-- loadbench: {name} -->";

    private static string Last(string name) => $"<!-- end of loadbench: {name} -->";
}
