using System.CommandLine;
using System.Globalization;

namespace VhostFs.LoadBench;

/// <summary>Sizes on the command line: bytes, or a number with k, M or G.</summary>
internal static class Size
{
    public static Option<long> Option(string name, string description, string defaultSize) => new(name)
    {
        Description = description,
        HelpName = "size",
        DefaultValueFactory = _ => TryParse(defaultSize, out long bytes) ? bytes : 0,
        CustomParser = result =>
        {
            if (TryParse(result.Tokens[0].Value, out long bytes)) { return bytes; }
            result.AddError($"{name}: '{result.Tokens[0].Value}' is not a size; write bytes, or a number with k, M or G");
            return 0;
        },
    };

    public static bool TryParse(string text, out long bytes)
    {
        int power = text.Length == 0 ? -1 : "KMG".IndexOf(char.ToUpperInvariant(text[^1]), StringComparison.Ordinal);
        bool isNumber = long.TryParse(power >= 0 ? text[..^1] : text, NumberStyles.None, CultureInfo.InvariantCulture, out long number);
        int shift = 10 * (power + 1);
        bytes = number << shift;
        return isNumber && number > 0 && bytes >> shift == number;
    }

    public static string Text(long bytes) => bytes switch
    {
        >= 1 << 30 when bytes % (1 << 30) == 0 => $"{bytes >> 30} GiB",
        >= 1 << 20 when bytes % (1 << 20) == 0 => $"{bytes >> 20} MiB",
        >= 1 << 10 when bytes % (1 << 10) == 0 => $"{bytes >> 10} KiB",
        _ => $"{bytes} bytes",
    };
}
