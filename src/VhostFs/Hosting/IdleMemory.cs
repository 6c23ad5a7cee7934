using VhostFs.Linux;

namespace VhostFs.Hosting;

/// <summary>Gives memory back to the host when nobody is served any more. Of the whole process, as its heaps are.</summary>
/// <remarks>As long as somebody is, nothing is collected for the sake of memory: that would stop all reactors, and what one guest leaves the next ones use. The end of the last session
/// begins it, once: no timer runs before, and none afterwards.</remarks>
internal static class IdleMemory
{
    /// <summary>A guest that restarts is back by then.</summary>
    private static readonly TimeSpan s_grace = TimeSpan.FromSeconds(1);

    private static int s_users;
    private static int s_isDue;

    /// <summary>Somebody is served, until <see cref="Ended"/>.</summary>
    public static void Began() => Interlocked.Increment(ref s_users);

    public static void Ended()
    {
        if (Interlocked.Decrement(ref s_users) == 0 && Interlocked.Exchange(ref s_isDue, 1) == 0) { _ = ReturnLaterAsync(); }
    }

    private static async Task ReturnLaterAsync()
    {
        await Task.Delay(s_grace);
        Volatile.Write(ref s_isDue, 0);
        if (Volatile.Read(ref s_users) > 0) { return; }
        GC.Collect(GC.MaxGeneration, GCCollectionMode.Aggressive, blocking: true, compacting: true);
        GC.WaitForPendingFinalizers(); // of those who were not disposed of; what they free is the C library's
        MemoryCalls.TrimHeap();
    }
}
