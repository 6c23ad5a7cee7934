using System.Diagnostics;
using System.Runtime.InteropServices;

namespace VhostFs.Linux;

public static partial class ProcessCalls
{
    /// <summary>CLOCK_MONOTONIC in nanoseconds; the runtime's stopwatch reads just that.</summary>
    public static long MonotonicNs => Stopwatch.GetTimestamp();

    public static int ProcessId => Environment.ProcessId;

    public static int ThreadId => GetTidCore();

    public static void Yield() => _ = SchedYieldCore(); // never fails on Linux

    /// <summary>A session and process group of its own, without a terminal; nothing happens in a process that leads a group.</summary>
    public static void NewSession() => _ = SetSidCore();

    [LibraryImport("libc", EntryPoint = "setsid")]
    private static partial int SetSidCore();

    [LibraryImport("libc", EntryPoint = "gettid")]
    private static partial int GetTidCore();

    [LibraryImport("libc", EntryPoint = "sched_yield")]
    private static partial int SchedYieldCore();
}
