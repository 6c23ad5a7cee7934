using System.Diagnostics.CodeAnalysis;
using System.Runtime.CompilerServices;

namespace VhostFs.GuestDriver;

/// <summary>What must hold for a driver to go on. Tests fail by it and a benchmark ends by it: neither needs the other's libraries.</summary>
internal static class Expect
{
    public static void Equal<T>(T expected, T actual, [CallerArgumentExpression(nameof(actual))] string what = "")
    {
        if (!EqualityComparer<T>.Default.Equals(expected, actual)) { throw new DriverException($"{what} is {Show(actual)}, and not {Show(expected)}"); }
    }

    public static void True([DoesNotReturnIf(false)] bool condition, [CallerArgumentExpression(nameof(condition))] string what = "")
    {
        if (!condition) { throw new DriverException(what); }
    }

    private static string Show<T>(T value) => value?.ToString() ?? "null";
}
