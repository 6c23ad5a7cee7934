using System.Runtime.InteropServices;
using System.Text;

namespace VhostFs.Simulation.Tests.Guest;

/// <summary>Bytes of FUSE structures.</summary>
internal static class Wire
{
    public static byte[] Bytes<T>(T value)
        where T : unmanaged => MemoryMarshal.AsBytes(new ReadOnlySpan<T>(in value)).ToArray();

    public static byte[] Name(string name) => [.. Encoding.UTF8.GetBytes(name), 0];

    public static T Read<T>(ReadOnlySpan<byte> bytes)
        where T : unmanaged => MemoryMarshal.Read<T>(bytes);
}
