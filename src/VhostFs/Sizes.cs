using System.Globalization;

namespace VhostFs;

/// <summary>Sizes as QEMU writes them: bytes, or a number with K, M, G, T or P (powers of 1024).</summary>
internal static class Sizes
{
    private const string Suffixes = "KMGTP";

    /// <summary>Accepts <c>4096</c>, <c>512M</c>, <c>10g</c>, <c>10GiB</c>, <c>1.5T</c>. False: <paramref name="error"/> says what to write instead.</summary>
    public static bool TryParse(string text, out long bytes, out string error)
    {
        bytes = 0;
        error = $"'{text}' is not a size; write bytes, or a number with K, M, G, T or P (powers of 1024), for example 10G";
        ReadOnlySpan<char> number = text.AsSpan().Trim();
        long unit = 1;
        bool binary = number.EndsWith("iB", StringComparison.OrdinalIgnoreCase);
        if (binary) { number = number[..^2]; }
        if (!number.IsEmpty)
        {
            int power = Suffixes.IndexOf(char.ToUpperInvariant(number[^1]), StringComparison.Ordinal);
            if (power >= 0)
            {
                unit = 1L << (10 * (power + 1));
                number = number[..^1].TrimEnd();
            }
            else if (binary) { return false; }
        }
        if (!decimal.TryParse(number, NumberStyles.AllowDecimalPoint, CultureInfo.InvariantCulture, out decimal value)) { return false; }
        if (value > long.MaxValue / unit)
        {
            error = $"'{text}' is more than 8 EiB";
            return false;
        }
        decimal exact = value * unit;
        if (exact != decimal.Truncate(exact))
        {
            error = $"'{text}' is not a whole number of bytes";
            return false;
        }
        bytes = (long)exact;
        error = "";
        return true;
    }

    /// <summary>The shortest text that <see cref="TryParse"/> reads back as the same number.</summary>
    public static string Exact(long bytes)
    {
        int power = 0;
        while (power < Suffixes.Length && bytes != 0 && bytes % 1024 == 0)
        {
            bytes /= 1024;
            power++;
        }
        return power == 0 ? bytes.ToString(CultureInfo.InvariantCulture) : $"{bytes}{Suffixes[power - 1]}";
    }

    /// <summary>For people: three digits and a unit, <c>1.46 GiB</c>.</summary>
    public static string Human(long bytes)
    {
        double value = bytes;
        int power = 0;
        while (value >= 1024 && power < Suffixes.Length)
        {
            value /= 1024;
            power++;
        }
        if (power == 0) { return $"{bytes} B"; }
        string format = value >= 100 ? "0" : value >= 10 ? "0.#" : "0.##";
        return $"{value.ToString(format, CultureInfo.InvariantCulture)} {Suffixes[power - 1]}iB";
    }
}
