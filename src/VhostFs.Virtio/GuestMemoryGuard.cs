using System.Runtime.InteropServices;
using System.Runtime.Intrinsics.X86;
using VhostFs.Linux;

namespace VhostFs.Virtio;

/// <summary>Keeps the process alive when a front-end shrinks memory that we have mapped.</summary>
/// <remarks>
/// <para>A touch of a page past the end of a shared file raises SIGBUS, which ends a .NET process and cannot be caught. QEMU's memory files
/// are commonly not sealed, so refusing them is no answer. Instead a small machine-code handler stands before the runtime's own: when the faulting address lies in a registered
/// region, it lays private zero pages over that whole region (one mmap), counts the fault for the owner of the region, and returns; any
/// other SIGBUS goes on to the runtime. The owner sees the count and ends its session. Replacing the whole region rather than a page means one fault
/// per region and no growth in the number of mappings.</para>
/// <para>Invariants: an entry is published by writing its start last and withdrawn by clearing its start first; a region is
/// unregistered before it is unmapped and only when nobody uses it, so the handler never maps over a foreign range.</para>
/// <para>x86-64 only; elsewhere <see cref="IsActive"/> is false and memory without F_SEAL_SHRINK is refused.</para>
/// </remarks>
public static unsafe partial class GuestMemoryGuard
{
    /// <summary>Regions in the whole process: Linux allows 65,530 mappings by default.</summary>
    public const int Capacity = 65536;

    private const int HeaderBytes = 64, EntryBytes = 32;
    private const int SigBus = 7;
    private const nint SysRtSigaction = 13;
    private const ulong SaSiginfo = 4, SaOnStack = 0x08000000, SaRestorer = 0x04000000;

    private static readonly Lock s_lock = new();
    private static readonly Stack<int> s_free = new();
    private static byte* s_table;
    private static int s_used;

    static GuestMemoryGuard() => IsActive = X86Base.X64.IsSupported && OperatingSystem.IsLinux() && TryInstall();

    /// <summary>The handler is in place.</summary>
    public static bool IsActive { get; private set; }

    /// <summary>Returns the entry's number, or -1 when the table is full or the guard is not active.</summary>
    internal static int Register(nuint start, nuint lengthBytes, long* faultCounter)
    {
        if (!IsActive) { return -1; }
        lock (s_lock) // mapping is rare and may happen on any reactor
        {
            if (!s_free.TryPop(out int index))
            {
                if (s_used == Capacity) { return -1; }
                index = s_used++;
            }
            byte* entry = s_table + HeaderBytes + (index * EntryBytes);
            *(nuint*)(entry + 8) = lengthBytes;
            *(long**)(entry + 16) = faultCounter;
            Volatile.Write(ref *(nuint*)entry, start);
            Volatile.Write(ref *(long*)s_table, s_used);
            return index;
        }
    }

    internal static void Unregister(int index)
    {
        if (index < 0) { return; }
        lock (s_lock)
        {
            Volatile.Write(ref *(nuint*)(s_table + HeaderBytes + (index * EntryBytes)), 0);
            s_free.Push(index);
        }
    }

    private static bool TryInstall()
    {
        KernelSigaction previous = default;
        if (SysCall(SysRtSigaction, SigBus, 0, (nint)(&previous), 8) != 0 || previous.Handler <= 1 || (previous.Flags & SaSiginfo) == 0)
        {
            return false; // nobody to hand foreign faults to
        }
        // Zeroed on first touch; only the entries in use cost memory.
        s_table = (byte*)Mmap(null, HeaderBytes + (Capacity * EntryBytes), 3, 0x4022, -1, 0);
        byte* page = (byte*)Mmap(null, 4096, 3, 0x22, -1, 0);
        if ((nint)s_table == -1 || (nint)page == -1) { return false; }
        WriteHandler(new Span<byte>(page, 4096), (ulong)s_table, previous.Handler);
        if (Mprotect(page, 4096, 5) != 0) { return false; }

        KernelSigaction ours = previous with { Handler = (ulong)page, Flags = previous.Flags | SaSiginfo | SaOnStack | SaRestorer };
        return SysCall(SysRtSigaction, SigBus, (nint)(&ours), 0, 8) == 0;
    }

    /// <summary>void handler(int signal /*edi*/, siginfo_t* info /*rsi*/, void* context /*rdx*/)</summary>
    private static void WriteHandler(Span<byte> code, ulong table, ulong previousHandler)
    {
        var writer = new CodeWriter(code);
        writer.Emit([0x83, 0x7e, 0x08, 0x00]);                    //        cmp dword [rsi+8], 0    si_code: raised by the kernel?
        int notKernel = writer.Jump(0x7e);                        //        jle chain
        writer.Emit([0x4c, 0x8b, 0x46, 0x10]);                    //        mov r8, [rsi+16]        si_addr
        writer.Emit([0x49, 0xbb]); writer.Emit(table);            //        mov r11, table
        writer.Emit([0x4d, 0x8b, 0x13]);                          //        mov r10, [r11]          entries ever used
        writer.Emit([0x49, 0x83, 0xc3, HeaderBytes]);             //        add r11, 64
        int loop = writer.Position;
        writer.Emit([0x4d, 0x85, 0xd2]);                          // loop:  test r10, r10
        int notFound = writer.Jump(0x74);                         //        jz chain
        writer.Emit([0x49, 0x8b, 0x03]);                          //        mov rax, [r11]          start
        writer.Emit([0x48, 0x85, 0xc0]);                          //        test rax, rax
        int empty = writer.Jump(0x74);                            //        jz next
        writer.Emit([0x4c, 0x89, 0xc1]);                          //        mov rcx, r8
        writer.Emit([0x48, 0x29, 0xc1]);                          //        sub rcx, rax
        writer.Emit([0x49, 0x3b, 0x4b, 0x08]);                    //        cmp rcx, [r11+8]        length
        int found = writer.Jump(0x72);                            //        jb found
        writer.Patch(empty);
        writer.Emit([0x49, 0x83, 0xc3, EntryBytes]);              // next:  add r11, 32
        writer.Emit([0x49, 0xff, 0xca]);                          //        dec r10
        writer.JumpBack(loop);                                    //        jmp loop
        writer.Patch(found);
        writer.Emit([0x49, 0x8b, 0x4b, 0x10]);                    // found: mov rcx, [r11+16]
        writer.Emit([0xf0, 0x48, 0xff, 0x01]);                    //        lock inc qword [rcx]
        writer.Emit([0x57, 0x56, 0x52]);                          //        push rdi; push rsi; push rdx
        writer.Emit([0x48, 0x89, 0xc7]);                          //        mov rdi, rax
        writer.Emit([0x49, 0x8b, 0x73, 0x08]);                    //        mov rsi, [r11+8]
        writer.Emit([0xba, 3, 0, 0, 0]);                          //        mov edx, PROT_READ | PROT_WRITE
        writer.Emit([0x41, 0xba, 0x32, 0x40, 0, 0]);              //        mov r10d, MAP_PRIVATE | MAP_FIXED | MAP_ANONYMOUS | MAP_NORESERVE
        writer.Emit([0x49, 0xc7, 0xc0, 0xff, 0xff, 0xff, 0xff]);  //        mov r8, -1
        writer.Emit([0x45, 0x31, 0xc9]);                          //        xor r9d, r9d
        writer.Emit([0xb8, 9, 0, 0, 0]);                          //        mov eax, mmap
        writer.Emit([0x0f, 0x05]);                                //        syscall
        writer.Emit([0x5a, 0x5e, 0x5f]);                          //        pop rdx; pop rsi; pop rdi
        writer.Emit([0x48, 0x85, 0xc0]);                          //        test rax, rax
        int failed = writer.Jump(0x78);                           //        js chain
        writer.Emit([0xc3]);                                      //        ret
        writer.Patch(notKernel);
        writer.Patch(notFound);
        writer.Patch(failed);
        writer.Emit([0x48, 0xb8]); writer.Emit(previousHandler);  // chain: mov rax, previous
        writer.Emit([0xff, 0xe0]);                                //        jmp rax
    }

    private ref struct CodeWriter(Span<byte> code)
    {
        private readonly Span<byte> _code = code;

        public int Position { get; private set; }

        public void Emit(scoped ReadOnlySpan<byte> bytes)
        {
            bytes.CopyTo(_code[Position..]);
            Position += bytes.Length;
        }

        public void Emit(ulong value) => Emit(new ReadOnlySpan<byte>(&value, 8));

        /// <summary>A short forward jump, to be patched.</summary>
        public int Jump(byte opcode)
        {
            Emit([opcode, 0]);
            return Position;
        }

        public readonly void Patch(int jump)
        {
            int distance = Position - jump;
            Invariant.That(distance is >= 0 and < 128);
            _code[jump - 1] = (byte)distance;
        }

        public void JumpBack(int target) => Emit([0xeb, (byte)(target - (Position + 2))]);
    }

    /// <summary>The kernel's struct sigaction on x86-64.</summary>
    private readonly record struct KernelSigaction(ulong Handler, ulong Flags, ulong Restorer, ulong Mask);

    [LibraryImport("libc", EntryPoint = "syscall")]
    private static partial nint SysCall(nint number, nint first, nint second, nint third, nint fourth);

    [LibraryImport("libc", EntryPoint = "mmap")]
    private static partial void* Mmap(void* address, nuint length, int protection, int flags, int fd, long offset);

    [LibraryImport("libc", EntryPoint = "mprotect")]
    private static partial int Mprotect(void* address, nuint length, int protection);
}
