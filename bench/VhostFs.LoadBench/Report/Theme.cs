using OxyPlot;

namespace VhostFs.LoadBench.Report;

/// <summary>Colours of pictures, in light and dark mode.</summary>
/// <remarks>A picture is drawn in the light ones, which any viewer shows; a style sheet in it exchanges them where the viewer asks for dark. It has a background of its own, so
/// that it can be read on a page of either kind.</remarks>
internal static class Theme
{
    public static readonly OxyColor Ours = OxyColor.FromRgb(9, 105, 218), Peer = OxyColor.FromRgb(188, 76, 0);
    public static readonly OxyColor Text = OxyColor.FromRgb(31, 35, 40), Grid = OxyColor.FromRgb(209, 217, 224), Background = OxyColor.FromRgb(255, 255, 254);

    private static readonly (OxyColor Light, string Dark)[] s_dark =
    [
        (Ours, "#4493f8"), (Peer, "#f0883e"), (Text, "#e6edf3"), (Grid, "#3d444d"), (Background, "#0d1117"),
    ];

    /// <summary>The picture with its dark colours.</summary>
    public static string AddDark(string svg)
    {
        string rules = string.Concat(s_dark.Select(pair =>
            $"[fill=\"{Rgb(pair.Light)}\"],[style*=\"fill:{Rgb(pair.Light)}\"]{{fill:{pair.Dark} !important}}[style*=\"stroke:{Rgb(pair.Light)}\"]{{stroke:{pair.Dark} !important}}"));
        int at = svg.IndexOf("<defs>", StringComparison.Ordinal);
        return svg.Insert(at, $"<style>@media (prefers-color-scheme: dark){{{rules}}}</style>\n  ");
    }

    // As OxyPlot writes it.
    private static string Rgb(OxyColor color) => $"rgb({color.R},{color.G},{color.B})";
}
