using System.Buffers.Binary;
using System.Runtime.InteropServices;

namespace VhostFs.Linux;

/// <summary>The handler of <see cref="SharedMemoryGuard"/> in arm64 machine code; step by step the same as <see cref="FaultHandlerX64"/>.</summary>
/// <remarks>Position-independent: table and previous handler are constants behind the code. A system call changes x0 only, so what must survive it lies in
/// x9 to x11. Counters are changed with exclusive loads and stores, which every arm64 has.</remarks>
internal static class FaultHandlerArm64
{
    /// <summary>void handler(int signal /*w0*/, siginfo_t* info /*x1*/, void* context /*x2*/)</summary>
    internal static ReadOnlySpan<uint> Code =>
    [
        0xb9400829, //         ldr w9, [x1, #8]      si_code: raised by the kernel?
        0x7100013f, //         cmp w9, #0
        0x540005ed, //         b.le chain
        0xf940082a, //         ldr x10, [x1, #16]    si_addr
        0x5800060b, //         ldr x11, constants    the table
        0xaa0b03e3, //         mov x3, x11
        0xc8dffd6c, //         ldar x12, [x11]       entries ever used
        0x9101016b, //         add x11, x11, #64
        0xb400052c, // loop:   cbz x12, chain
        0xc8dffd6d, //         ldar x13, [x11]       start
        0xb400014d, //         cbz x13, next
        0xf940056e, //         ldr x14, [x11, #8]    length
        0xf940096f, //         ldr x15, [x11, #16]   counter of the owner
        0xd50339bf, //         dmb ishld
        0xf9400170, //         ldr x16, [x11]        still the same entry?
        0xeb0d021f, //         cmp x16, x13
        0x54000081, //         b.ne next
        0xcb0d0150, //         sub x16, x10, x13
        0xeb0e021f, //         cmp x16, x14
        0x54000083, //         b.lo found
        0x9100816b, // next:   add x11, x11, #32
        0xd100058c, //         sub x12, x12, #1
        0x17fffff2, //         b loop
        0xc85f7df0, // found:  ldxr x16, [x15]
        0x91000610, //         add x16, x16, #1
        0xc8117df0, //         stxr w17, x16, [x15]
        0x35ffffb1, //         cbnz w17, found
        0x9100206f, //         add x15, x3, #8       all faults
        0xc85f7df0, // total:  ldxr x16, [x15]
        0x91000610, //         add x16, x16, #1
        0xc8117df0, //         stxr w17, x16, [x15]
        0x35ffffb1, //         cbnz w17, total
        0xaa0003e9, //         mov x9, x0
        0xaa0103ea, //         mov x10, x1
        0xaa0203eb, //         mov x11, x2
        0xaa0d03e0, //         mov x0, x13
        0xaa0e03e1, //         mov x1, x14
        0xd2800062, //         mov x2, #3            PROT_READ | PROT_WRITE
        0xd2880643, //         mov x3, #0x4032       MAP_PRIVATE | MAP_FIXED | MAP_ANONYMOUS | MAP_NORESERVE
        0x92800004, //         mov x4, #-1
        0xd2800005, //         mov x5, #0
        0xd2801bc8, //         mov x8, #222          mmap
        0xd4000001, //         svc #0
        0xb140041f, //         cmn x0, #1, lsl #12   -4095 to -1: an errno
        0x54000048, //         b.hi failed
        0xd65f03c0, //         ret
        0xaa0903e0, // failed: mov x0, x9
        0xaa0a03e1, //         mov x1, x10
        0xaa0b03e2, //         mov x2, x11
        0x580000b0, // chain:  ldr x16, constants + 8     previous
        0xd61f0200, //         br x16
        0xd503201f, //         nop                   the constants are aligned to 8
    ];

    /// <summary>The number of bytes.</summary>
    public static int Write(Span<byte> code, ulong table, ulong previousHandler)
    {
        ReadOnlySpan<byte> words = MemoryMarshal.AsBytes(Code);
        words.CopyTo(code);
        BinaryPrimitives.WriteUInt64LittleEndian(code[words.Length..], table);
        BinaryPrimitives.WriteUInt64LittleEndian(code[(words.Length + 8)..], previousHandler);
        return words.Length + 16;
    }
}
