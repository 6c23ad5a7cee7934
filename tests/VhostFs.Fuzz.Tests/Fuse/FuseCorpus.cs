using System.Globalization;

namespace VhostFs.Fuzz.Tests.Fuse;

/// <summary>A request as a line of text: the numbers of <see cref="FuzzInput"/> with ':' between them, a space, the bytes in hexadecimal.</summary>
internal static class FuseCorpus
{
    private const int MaxShownBytes = 4096;

    public static string Describe(FuzzFuseRequest request)
    {
        FuzzInput s = request.Shape;
        ReadOnlySpan<byte> bytes = request.Sent;
        string hex = Convert.ToHexStringLower(bytes.Length <= MaxShownBytes ? bytes : bytes[..MaxShownBytes]);
        return string.Create(CultureInfo.InvariantCulture, $"{s.Room}:{s.FirstIn}:{s.RestIn}:{s.FirstOut}:{s.RestOut} {hex}{(bytes.Length > MaxShownBytes ? "..." : "")}");
    }

    public static void Send(FuseWorld world, string line)
    {
        string[] parts = line.Split(' ');
        int[] shape = [.. parts[0].Split(':').Select(n => int.Parse(n, CultureInfo.InvariantCulture))];
        world.Send(Convert.FromHexString(parts[1]), new FuzzInput(shape[0], shape[1], shape[2], shape[3], shape[4]));
    }
}
