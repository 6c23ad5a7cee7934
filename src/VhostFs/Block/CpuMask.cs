using System.Globalization;

namespace VhostFs.Block;

/// <summary>Reactors as SPDK's clients write processors: "0x3", "3" (hexadecimal), "[0,2-3]".</summary>
internal static class CpuMask
{
    public static bool TryParse(string text, out ulong mask)
    {
        mask = 0;
        if (text.StartsWith('[') && text.EndsWith(']')) { return TryParseList(text[1..^1], out mask); }
        string digits = text.StartsWith("0x", StringComparison.OrdinalIgnoreCase) ? text[2..] : text;
        return ulong.TryParse(digits, NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out mask) && mask != 0;
    }

    public static string Format(int reactor) => string.Create(CultureInfo.InvariantCulture, $"0x{1UL << reactor:x}");

    private static bool TryParseList(string list, out ulong mask)
    {
        mask = 0;
        foreach (string item in list.Split(','))
        {
            string[] ends = item.Split('-');
            if (ends.Length > 2 || !TryParseIndex(ends[0], out int first) || !TryParseIndex(ends[^1], out int last) || last < first) { return false; }
            for (int i = first; i <= last; i++) { mask |= 1UL << i; }
        }
        return true;
    }

    private static bool TryParseIndex(string text, out int index) => int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out index) && index < 64;
}
