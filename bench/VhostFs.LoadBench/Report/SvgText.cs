using OxyPlot;

namespace VhostFs.LoadBench.Report;

/// <summary>Text in pictures: which font it will be set in is up to the viewer.</summary>
internal static class SvgText
{
    public const string Font = "system-ui, sans-serif";

    /// <summary>Lines of text are placed by plain offsets: not every viewer knows the baselines that OxyPlot asks for.</summary>
    public static string PlaceLines(string svg) => svg
        .Replace("dominant-baseline=\"hanging\"", "dy=\"0.78em\"", StringComparison.Ordinal)
        .Replace("dominant-baseline=\"middle\"", "dy=\"0.34em\"", StringComparison.Ordinal);

    /// <summary>Room for fonts larger than the one that OxyPlot measures with.</summary>
    public sealed class Measurer(double width, double height) : PdfRenderContext(width, height, OxyColors.Undefined)
    {
        private const double Wider = 1.45, Higher = 1.2;

        public override OxySize MeasureText(string text, string fontFamily, double fontSize, double fontWeight)
        {
            OxySize narrow = base.MeasureText(text, fontFamily, fontSize, fontWeight);
            return new OxySize(narrow.Width * Wider, narrow.Height * Higher);
        }
    }
}
