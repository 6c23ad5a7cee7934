using VhostFs.LoadBench.Measure;

namespace VhostFs.LoadBench.Load;

/// <summary>Files that are made and stay.</summary>
internal static class LastingFiles
{
    private const int Depth = 32;

    /// <param name="tag">In the names of their directories, which are new.</param>
    public static void Make(string socket, int count, string tag)
    {
        using var device = new LoadDevice(new LoadOptions { Job = "meta", Sockets = [socket], Depth = Depth }, socket, dataBytes: 0);
        LoadLoop.Run(device.Slots, new MetaCreate(new MetaFiles(device.Client, count, tag)), double.PositiveInfinity, maxOperations: 0, new Histogram());
    }
}
