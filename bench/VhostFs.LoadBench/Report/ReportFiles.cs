using System.CommandLine;
using VhostFs.LoadBench.Matrix;

namespace VhostFs.LoadBench.Report;

/// <summary>Where a comparison is written: to people, into a document, as pictures.</summary>
internal static class ReportFiles
{
    public static Option<string> PicturesOption() => new("--pictures") { Description = "Draw pictures (SVG) there", HelpName = "directory" };

    public static Option<string> DocumentOption() =>
        new("--document") { Description = "Put tables and pictures into this Markdown file, between its comments 'loadbench: NAME' and 'end of loadbench: NAME'", HelpName = "file" };

    public static void Write(Comparison comparison, TextWriter output, string? pictures, string? document)
    {
        string text = MarkdownReport.Write(comparison, pictures is null ? [] : Draw(comparison, pictures, document));
        output.Write(text);
        if (document is not null) { File.WriteAllText(document, DocumentSection.Replace(File.ReadAllText(document), comparison.Name, text)); }
    }

    // Links are relative to the document that they will stand in.
    private static List<(string Path, string Title)> Draw(Comparison comparison, string directory, string? document)
    {
        Directory.CreateDirectory(directory);
        string from = document is null ? Environment.CurrentDirectory : Path.GetDirectoryName(Path.GetFullPath(document))!;
        var drawn = new List<(string Path, string Title)>();
        foreach ((string name, string title, string svg) in Pictures.Draw(comparison))
        {
            string path = Path.Combine(directory, name);
            File.WriteAllText(path, svg);
            drawn.Add((Path.GetRelativePath(from, path), title));
        }
        return drawn;
    }
}
