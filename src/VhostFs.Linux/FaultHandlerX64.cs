namespace VhostFs.Linux;

/// <summary>The handler of <see cref="SharedMemoryGuard"/> in x86-64 machine code.</summary>
/// <remarks>Position-independent: it names two addresses, the table and the previous handler, and both are constants in it. It uses only registers that a
/// called function may change, no stack but for three pushes, and one system call; what it reads of the table is explained at the table.</remarks>
internal static unsafe class FaultHandlerX64
{
    /// <summary>void handler(int signal /*edi*/, siginfo_t* info /*rsi*/, void* context /*rdx*/); the number of bytes.</summary>
    public static int Write(Span<byte> code, ulong table, ulong previousHandler)
    {
        var writer = new CodeWriter(code);
        writer.Emit([0x83, 0x7e, 0x08, 0x00]);                    //        cmp dword [rsi+8], 0    si_code: raised by the kernel?
        int notKernel = writer.JumpFar(0x8e);                     //        jle chain
        writer.Emit([0x4c, 0x8b, 0x46, 0x10]);                    //        mov r8, [rsi+16]        si_addr
        writer.Emit([0x49, 0xbb]); writer.Emit(table);            //        mov r11, table
        writer.Emit([0x4d, 0x8b, 0x13]);                          //        mov r10, [r11]          entries ever used
        writer.Emit([0x49, 0x83, 0xc3, SharedMemoryGuard.HeaderBytes]); //   add r11, 64
        int loop = writer.Position;
        writer.Emit([0x4d, 0x85, 0xd2]);                          // loop:  test r10, r10
        int notFound = writer.JumpFar(0x84);                      //        jz chain
        writer.Emit([0x49, 0x8b, 0x03]);                          //        mov rax, [r11]          start
        writer.Emit([0x48, 0x85, 0xc0]);                          //        test rax, rax
        int empty = writer.Jump(0x74);                            //        jz next
        writer.Emit([0x4d, 0x8b, 0x4b, 0x08]);                    //        mov r9, [r11+8]         length
        writer.Emit([0x49, 0x8b, 0x4b, 0x10]);                    //        mov rcx, [r11+16]       counter of the owner
        writer.Emit([0x49, 0x3b, 0x03]);                          //        cmp rax, [r11]          still the same entry?
        int changed = writer.Jump(0x75);                          //        jne next
        writer.Emit([0x49, 0x29, 0xc0]);                          //        sub r8, rax
        writer.Emit([0x4d, 0x39, 0xc8]);                          //        cmp r8, r9
        int found = writer.Jump(0x72);                            //        jb found
        writer.Emit([0x49, 0x01, 0xc0]);                          //        add r8, rax
        writer.Patch(empty);
        writer.Patch(changed);
        writer.Emit([0x49, 0x83, 0xc3, SharedMemoryGuard.EntryBytes]); // next: add r11, 32
        writer.Emit([0x49, 0xff, 0xca]);                          //        dec r10
        writer.JumpBack(loop);                                    //        jmp loop
        writer.Patch(found);
        writer.Emit([0xf0, 0x48, 0xff, 0x01]);                    // found: lock inc qword [rcx]
        writer.Emit([0x48, 0xb9]); writer.Emit(table);            //        mov rcx, table
        writer.Emit([0xf0, 0x48, 0xff, 0x41, 0x08]);              //        lock inc qword [rcx+8]  all faults
        writer.Emit([0x57, 0x56, 0x52]);                          //        push rdi; push rsi; push rdx
        writer.Emit([0x48, 0x89, 0xc7]);                          //        mov rdi, rax
        writer.Emit([0x4c, 0x89, 0xce]);                          //        mov rsi, r9
        writer.Emit([0xba, 3, 0, 0, 0]);                          //        mov edx, PROT_READ | PROT_WRITE
        writer.Emit([0x41, 0xba, 0x32, 0x40, 0, 0]);              //        mov r10d, MAP_PRIVATE | MAP_FIXED | MAP_ANONYMOUS | MAP_NORESERVE
        writer.Emit([0x49, 0xc7, 0xc0, 0xff, 0xff, 0xff, 0xff]);  //        mov r8, -1
        writer.Emit([0x45, 0x31, 0xc9]);                          //        xor r9d, r9d
        writer.Emit([0xb8, 9, 0, 0, 0]);                          //        mov eax, mmap
        writer.Emit([0x0f, 0x05]);                                //        syscall
        writer.Emit([0x5a, 0x5e, 0x5f]);                          //        pop rdx; pop rsi; pop rdi
        writer.Emit([0x48, 0x85, 0xc0]);                          //        test rax, rax           no address of ours is negative
        int failed = writer.Jump(0x78);                           //        js chain
        writer.Emit([0xc3]);                                      //        ret
        writer.PatchFar(notKernel);
        writer.PatchFar(notFound);
        writer.Patch(failed);
        writer.Emit([0x48, 0xb8]); writer.Emit(previousHandler);  // chain: mov rax, previous
        writer.Emit([0xff, 0xe0]);                                //        jmp rax
        return writer.Position;
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

        /// <summary>A forward jump of 8 bits, to be patched.</summary>
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

        /// <summary>A forward jump of 32 bits, to be patched.</summary>
        public int JumpFar(byte opcode)
        {
            Emit([0x0f, opcode, 0, 0, 0, 0]);
            return Position;
        }

        public readonly void PatchFar(int jump)
        {
            int distance = Position - jump;
            Invariant.That(distance is >= 0 and < 4096);
            _code[jump - 4] = (byte)distance;
            _code[jump - 3] = (byte)(distance >> 8);
        }

        public void JumpBack(int target)
        {
            int distance = Position + 2 - target;
            Invariant.That(distance is > 0 and <= 128);
            Emit([0xeb, (byte)-distance]);
        }
    }
}
