using System.Runtime.InteropServices;

namespace VhostFs.Linux;

/// <summary>Keeps the process alive when somebody takes memory away that we have mapped: a front-end that of its guest, or whoever may write to it a file of ours.</summary>
/// <remarks>
/// <para>A touch of a page past the end of a shared file raises SIGBUS, which ends a .NET process and cannot be caught in managed code. QEMU's memory files
/// are commonly not sealed, so refusing them is no answer. Instead a small machine-code handler stands before the runtime's own: when the faulting address lies in a
/// registered region, it lays private zero pages over that whole region (one mmap), counts the fault for the owner of the region and for the process, and returns;
/// any other SIGBUS goes on to the runtime. The owner sees the count and ends its session. Replacing the whole region rather than a page means one fault
/// per region and no growth in the number of mappings; it also does for huge pages. System calls on such a page fail with EFAULT instead.</para>
/// <para>Invariants: an entry is published by writing its start last and withdrawn by clearing its start first; a region is
/// unregistered before it is unmapped, and only when nobody uses it. The handler reads start, length, counter, and start again, so an entry that changes hands
/// meanwhile is skipped or read as it was; the entry that it looks for belongs to a region in use, so that one does not change. Hence it never maps over a foreign range.</para>
/// <para>The page of code is written first and made executable then: never both at once. On arm64 the kernel makes the instruction cache coherent when a page
/// becomes executable.</para>
/// <para>x86-64 and arm64; elsewhere, and when the handler cannot be installed, <see cref="IsActive"/> is false and memory without F_SEAL_SHRINK is refused.</para>
/// </remarks>
public static unsafe partial class SharedMemoryGuard
{
    /// <summary>Regions in the whole process: Linux allows 65,530 mappings by default.</summary>
    public const int Capacity = 65536;

    /// <summary>The table: number of entries ever used (8 bytes), faults (8 bytes), unused; then entries of start, length and address of the owner's counter.</summary>
    internal const int HeaderBytes = 64, EntryBytes = 32;

    private const int PageBytes = 4096;
    private const int SigBus = 7;
    private const ulong SaSiginfo = 4, SaOnStack = 0x08000000;
    private const int ProtRead = MemoryCalls.PROT_READ, ProtWrite = MemoryCalls.PROT_WRITE, ProtExec = 4;

    private static readonly Lock s_lock = new();
    private static readonly Stack<int> s_free = new();
    private static byte* s_table;
    private static int s_used;

    static SharedMemoryGuard() => IsActive = OperatingSystem.IsLinux() && TryInstall();

    /// <summary>The handler is in place.</summary>
    public static bool IsActive { get; private set; }

    /// <summary>Faults survived by this process.</summary>
    public static long FaultCount => IsActive ? Volatile.Read(ref *(long*)(s_table + 8)) : 0;

    /// <summary>Regions that are registered now.</summary>
    public static int RegionCount
    {
        get { lock (s_lock) { return s_used - s_free.Count; } }
    }

    /// <summary>Returns the entry's number, or -1 when the table is full or the guard is not active.</summary>
    public static int Register(nuint start, nuint lengthBytes, long* faultCounter)
    {
        if (!IsActive) { return -1; }
        lock (s_lock) // mapping is rare and may happen on any reactor
        {
            if (!s_free.TryPop(out int index))
            {
                if (s_used == Capacity) { return -1; }
                index = s_used++;
            }
            byte* entry = Entry(index);
            Volatile.Write(ref *(nuint*)(entry + 8), lengthBytes);
            Volatile.Write(ref *(nuint*)(entry + 16), (nuint)faultCounter);
            Volatile.Write(ref *(nuint*)entry, start);
            Volatile.Write(ref *(long*)s_table, s_used);
            return index;
        }
    }

    public static void Unregister(int index)
    {
        if (index < 0) { return; }
        lock (s_lock)
        {
            Volatile.Write(ref *(nuint*)Entry(index), 0);
            Interlocked.MemoryBarrier(); // the next owner's length must not be seen beside this start
            s_free.Push(index);
        }
    }

    private static byte* Entry(int index) => s_table + HeaderBytes + (index * EntryBytes);

    private static bool TryInstall()
    {
        int rtSigaction;
        switch (RuntimeInformation.ProcessArchitecture)
        {
            case Architecture.X64: rtSigaction = 13; break;
            case Architecture.Arm64: rtSigaction = 134; break;
            default: return false;
        }
        KernelSigaction previous = default;
        if (SysCall(rtSigaction, SigBus, 0, (nint)(&previous), 8) != 0 || previous.Handler <= 1 || (previous.Flags & SaSiginfo) == 0)
        {
            return false; // nobody to hand foreign faults to
        }
        // Zeroed on first touch; only the entries in use cost memory.
        const int anonymous = MemoryCalls.MAP_PRIVATE | MemoryCalls.MAP_NORESERVE;
        if (MemoryCalls.Map(null, 0, HeaderBytes + (Capacity * EntryBytes), ProtRead | ProtWrite, anonymous, out nuint table) != Errno.None
            || MemoryCalls.Map(null, 0, PageBytes, ProtRead | ProtWrite, anonymous, out nuint page) != Errno.None)
        {
            return false;
        }
        s_table = (byte*)table;
        var code = new Span<byte>((byte*)page, PageBytes);
        _ = RuntimeInformation.ProcessArchitecture == Architecture.X64
            ? FaultHandlerX64.Write(code, table, previous.Handler)
            : FaultHandlerArm64.Write(code, table, previous.Handler);
        if (Mprotect(page, PageBytes, ProtRead | ProtExec) != 0) { return false; }

        // All else as the runtime has it: mask, restorer, alternate stack.
        KernelSigaction ours = previous with { Handler = page, Flags = previous.Flags | SaOnStack };
        return SysCall(rtSigaction, SigBus, (nint)(&ours), 0, 8) == 0;
    }

    /// <summary>The kernel's struct sigaction on x86-64 and arm64.</summary>
    private readonly record struct KernelSigaction(ulong Handler, ulong Flags, ulong Restorer, ulong Mask);

    [LibraryImport("libc", EntryPoint = "syscall")]
    private static partial nint SysCall(nint number, nint first, nint second, nint third, nint fourth);

    [LibraryImport("libc", EntryPoint = "mprotect")]
    private static partial int Mprotect(nuint address, nuint length, int protection);
}
