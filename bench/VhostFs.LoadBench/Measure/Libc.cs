using System.ComponentModel;
using System.Runtime.InteropServices;

namespace VhostFs.LoadBench.Measure;

/// <summary>What .NET does not have: affinity of one thread, the clock of another process, a polite signal.</summary>
internal static unsafe partial class Libc
{
    private const int MaskWords = 16; // 1,024 processors
    private const int SIGTERM = 15;

    /// <summary>Processors that a thread may run on.</summary>
    /// <param name="thread">0: the caller.</param>
    public static ulong[] Affinity(int thread)
    {
        ulong[] mask = new ulong[MaskWords];
        fixed (ulong* first = mask)
        {
            if (GetAffinityCore(thread, sizeof(ulong) * MaskWords, first) < 0) { throw new Win32Exception(); }
        }
        return mask;
    }

    /// <returns>False: there is no such thread any more.</returns>
    public static bool SetAffinity(int thread, ulong[] mask)
    {
        fixed (ulong* first = mask) { return SetAffinityCore(thread, (nuint)(sizeof(ulong) * mask.Length), first) == 0; }
    }

    public static ulong[] MaskOf(int cpu)
    {
        ulong[] mask = new ulong[MaskWords];
        mask[cpu / 64] = 1UL << (cpu % 64);
        return mask;
    }

    /// <summary>Processor time of all threads of a process so far, those that have ended included.</summary>
    /// <returns>0: there is no such process.</returns>
    public static long ProcessorNs(int process)
    {
        // MAKE_PROCESS_CPUCLOCK(process, CPUCLOCK_SCHED) of the kernel's posix-timers.h; clock_getcpuclockid gives no other.
        int clock = (~process << 3) | 2;
        long* time = stackalloc long[2];
        return ClockGetTimeCore(clock, time) == 0 ? (time[0] * 1_000_000_000) + time[1] : 0;
    }

    public static void Terminate(int process) => _ = KillCore(process, SIGTERM); // it may have ended

    [LibraryImport("libc", EntryPoint = "sched_getaffinity", SetLastError = true)]
    private static partial int GetAffinityCore(int thread, nuint bytes, ulong* mask);

    [LibraryImport("libc", EntryPoint = "sched_setaffinity", SetLastError = true)]
    private static partial int SetAffinityCore(int thread, nuint bytes, ulong* mask);

    [LibraryImport("libc", EntryPoint = "clock_gettime")]
    private static partial int ClockGetTimeCore(int clock, long* time);

    [LibraryImport("libc", EntryPoint = "kill")]
    private static partial int KillCore(int process, int signal);
}
