using VhostFs.Linux;
using VhostFs.Virtio;

namespace VhostFs.VhostUser.Tests;

/// <summary>The program that this assembly is when it is not run by a test runner: touches memory that is gone, and says so if it lives.</summary>
internal static unsafe class FaultProbe
{
    public const string Survived = "survived";

    /// <param name="arguments"><c>guest</c>: memory that is registered; <c>foreign</c>: memory that is not.</param>
    public static int Main(string[] arguments)
    {
        using var ram = new GuestRam(1 << 16);
        using var memory = new GuestMemory();
        Check(memory.Add(ram.Fd, new GuestRegion(GuestRam.GuestBase, 1 << 16, ram.UserBase, 0), out _) == Errno.None && SharedMemoryGuard.IsActive);
        byte* at = arguments[0] == "guest" ? memory.FindGuest(GuestRam.GuestBase, 1) : (byte*)ram.UserBase;
        Check(FileCalls.Truncate(ram.Fd, 0) == Errno.None);
        int read = Volatile.Read(ref *at);
        Console.WriteLine(Survived);
        return read;
    }

    private static void Check(bool condition)
    {
        if (!condition) { throw new InvalidOperationException("the probe cannot be set up"); }
    }
}
