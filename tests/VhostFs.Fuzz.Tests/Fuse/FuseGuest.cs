using System.Runtime.InteropServices;
using System.Text;
using VhostFs.Fuse;

namespace VhostFs.Fuzz.Tests.Fuse;

/// <summary>Makes requests: mostly what a kernel could send for the nodes and handles it has heard of, then spoilt more or less.</summary>
internal sealed class FuseGuest(FuzzRandom random)
{
    private const int MaxKnown = 24;
    private const int ModeInEntry = 100; // fuse_entry_out.attr.mode
    private static readonly string[] s_names = ["a", "b", "c", "d", "e", "f", "g", "sub", "dir", "x.txt", "link", ".hidden", "ümlaut"];
    private static readonly string[] s_xattrs = ["user.a", "user.b", "user.long-name", "trusted.t", "security.selinux", "security.capability", "system.posix_acl_access", "system.posix_acl_default", "bogus", "user."];
    private static readonly FuseOpcode[] s_all = [.. Enum.GetValues<FuseOpcode>()];

    /// <summary>Opcodes by how much state they touch.</summary>
    private static readonly FuseOpcode[] s_likely =
    [
        FuseOpcode.LOOKUP, FuseOpcode.LOOKUP, FuseOpcode.LOOKUP, FuseOpcode.CREATE, FuseOpcode.CREATE, FuseOpcode.MKDIR, FuseOpcode.MKNOD, FuseOpcode.SYMLINK, FuseOpcode.LINK,
        FuseOpcode.UNLINK, FuseOpcode.UNLINK, FuseOpcode.RMDIR, FuseOpcode.RENAME, FuseOpcode.RENAME2, FuseOpcode.OPEN, FuseOpcode.RELEASE, FuseOpcode.READ, FuseOpcode.WRITE,
        FuseOpcode.WRITE, FuseOpcode.SETATTR, FuseOpcode.SETATTR, FuseOpcode.FALLOCATE, FuseOpcode.LSEEK, FuseOpcode.COPY_FILE_RANGE, FuseOpcode.SETXATTR, FuseOpcode.GETXATTR,
        FuseOpcode.LISTXATTR, FuseOpcode.REMOVEXATTR, FuseOpcode.READDIR, FuseOpcode.READDIRPLUS, FuseOpcode.FORGET, FuseOpcode.FORGET, FuseOpcode.BATCH_FORGET, FuseOpcode.TMPFILE,
        FuseOpcode.SETLK, FuseOpcode.SETLKW, FuseOpcode.GETLK, FuseOpcode.INTERRUPT,
    ];

    private static readonly uint[] s_ioctls = [0x80086601, 0x40086602, 0x80046601, 0x40046602, 0x801C581F, 0x401C5820, 0x5413];

    private readonly byte[] _bytes = new byte[FuzzFuseRequest.MaxBytes];
    private readonly List<ulong> _nodes = [1];
    private readonly List<ulong> _directories = [1];
    private readonly List<ulong> _handles = [0];
    private int _length;
    private ulong _unique;
    private int _extensionBytes;

    public byte[] Init(uint minor, uint flags, uint flags2)
    {
        Begin();
        Put(new FuseInitIn(7, minor, 1 << 17, flags));
        Put(new FuseInitExtIn(flags2));
        PutHeader(FuseOpcode.INIT, 0);
        return _bytes[.._length];
    }

    /// <summary>The next request; valid until the one after it.</summary>
    public ReadOnlySpan<byte> Next(out FuzzInput shape)
    {
        FuseOpcode opcode = random.OneIn(4) ? random.Pick<FuseOpcode>(s_all) : random.Pick<FuseOpcode>(s_likely);
        if (opcode is FuseOpcode.INIT or FuseOpcode.DESTROY && !random.OneIn(24)) { opcode = FuseOpcode.GETATTR; } // they end the session: not so often
        Begin();
        PutArguments(opcode);
        PutHeader(opcode, WorksInDirectory(opcode) && !random.OneIn(4) ? Directory() : Node());
        if (random.OneIn(5)) { Spoil(); }
        shape = Shape(opcode);
        return _bytes.AsSpan(0, _length);
    }

    /// <summary>Remembers what a reply told.</summary>
    public void Learn(FuseOpcode opcode, ulong node, ReadOnlySpan<byte> reply)
    {
        if (reply.Length <= FuseOutHeader.Size)
        {
            bool isStale = reply.Length == FuseOutHeader.Size && MemoryMarshal.Read<int>(reply[4..]) == -(int)Linux.Errno.ESTALE;
            if (isStale && node != 1 && !random.OneIn(4)) // some stay: stale numbers are input, too
            {
                _nodes.Remove(node);
                _directories.Remove(node);
            }
            return;
        }
        ReadOnlySpan<byte> body = reply[FuseOutHeader.Size..];
        switch (opcode)
        {
            case FuseOpcode.LOOKUP or FuseOpcode.MKNOD or FuseOpcode.MKDIR or FuseOpcode.SYMLINK or FuseOpcode.LINK:
                bool isDirectory = (MemoryMarshal.Read<uint>(body[ModeInEntry..]) & 0xF000) == 0x4000;
                Remember(isDirectory ? _directories : _nodes, MemoryMarshal.Read<ulong>(body));
                break;
            case FuseOpcode.CREATE or FuseOpcode.TMPFILE:
                Remember(_nodes, MemoryMarshal.Read<ulong>(body));
                Remember(_handles, MemoryMarshal.Read<ulong>(body[128..]));
                break;
            case FuseOpcode.OPEN or FuseOpcode.OPENDIR:
                Remember(_handles, MemoryMarshal.Read<ulong>(body));
                break;
            default:
                break;
        }
    }

    private void Remember(List<ulong> known, ulong value)
    {
        if (known.Count < MaxKnown) { known.Add(value); }
        else { known[1 + random.Next(MaxKnown - 1)] = value; } // the root stays
    }

    private void Begin()
    {
        _length = FuseInHeader.Size;
        _extensionBytes = 0;
    }

    private void PutHeader(FuseOpcode opcode, ulong node)
    {
        uint uid = random.OneIn(3) ? random.Pick<uint>([0, 1000, uint.MaxValue, 65534]) : 0;
        var header = new FuseInHeader((uint)_length, (uint)opcode, ++_unique, node, uid, uid, 1, (ushort)(_extensionBytes / 8));
        MemoryMarshal.Write(_bytes, header);
    }

    private void PutArguments(FuseOpcode opcode)
    {
        switch (opcode)
        {
            case FuseOpcode.LOOKUP or FuseOpcode.UNLINK or FuseOpcode.RMDIR:
                PutName();
                break;
            case FuseOpcode.REMOVEXATTR:
                PutText(random.Pick<string>(random.OneIn(2) ? s_xattrs : s_xattrs.AsSpan(0, 2)));
                break;
            case FuseOpcode.FORGET:
                Put(new FuseForgetIn(random.OneIn(3) ? random.Edge() : 1));
                break;
            case FuseOpcode.BATCH_FORGET:
                PutBatchForget();
                break;
            case FuseOpcode.GETATTR:
                Put(new FuseGetattrIn((uint)random.Next(2), 0, Handle()));
                break;
            case FuseOpcode.STATX:
                Put(new FuseStatxIn(0, 0, Handle(), 0, 0xfff));
                break;
            case FuseOpcode.SETATTR:
                PutSetattr();
                break;
            case FuseOpcode.SYMLINK:
                PutName();
                PutText(random.OneIn(8) ? new string('t', 4080 + random.Next(40)) : "../target");
                PutExtensions();
                break;
            case FuseOpcode.MKNOD:
                Put(new FuseMknodIn(random.Pick<uint>([0x81a4, 0x1180, 0x2180, 0x6180, 0xc1ff, 0x41ed, 0xa1ff, 0x1ff, (uint)random.Edge()]), (uint)random.Edge(), 0x12));
                PutName();
                PutExtensions();
                break;
            case FuseOpcode.MKDIR:
                Put(new FuseMkdirIn(random.OneIn(4) ? (uint)random.Edge() : 0x1ed, 0x12));
                PutName();
                PutExtensions();
                break;
            case FuseOpcode.CREATE or FuseOpcode.TMPFILE:
                Put(new FuseCreateIn(OpenFlags(), random.OneIn(4) ? (uint)random.Edge() : 0x81a4, 0x12, (uint)random.Next(2)));
                PutName();
                PutExtensions();
                break;
            case FuseOpcode.RENAME:
                Put(new FuseRenameIn(Directory()));
                PutName();
                PutName();
                break;
            case FuseOpcode.RENAME2:
                Put(new FuseRename2In(Directory(), random.OneIn(3) ? (uint)random.Next(9) : 0));
                PutName();
                PutName();
                break;
            case FuseOpcode.LINK:
                Put(new FuseLinkIn(Node()));
                PutName();
                break;
            case FuseOpcode.OPEN or FuseOpcode.OPENDIR:
                Put(new FuseOpenIn(OpenFlags(), (uint)random.Next(2)));
                break;
            case FuseOpcode.READ or FuseOpcode.READDIR or FuseOpcode.READDIRPLUS:
                Put(new FuseReadIn(Handle(), opcode == FuseOpcode.READ ? Offset() : Cookie(), Size()));
                break;
            case FuseOpcode.WRITE:
                int length = random.OneIn(64) ? random.Next(1 << 20) : random.OneIn(8) ? random.Next(20_000) : random.Next(300);
                Put(new FuseWriteIn(Handle(), Offset(), (uint)length, (uint)random.Next(8), 0, OpenFlags()));
                PutZeros(length);
                break;
            case FuseOpcode.RELEASE or FuseOpcode.RELEASEDIR:
                Put(new FuseReleaseIn(Handle(), OpenFlags(), (uint)random.Next(4), random.Edge()));
                break;
            case FuseOpcode.FSYNC or FuseOpcode.FSYNCDIR:
                Put(new FuseFsyncIn(Handle(), (uint)random.Next(3)));
                break;
            case FuseOpcode.FLUSH:
                Put(new FuseFlushIn(Handle(), 0, 0, random.Edge()));
                break;
            case FuseOpcode.SETXATTR:
                int size = random.OneIn(12) ? random.Next(66_000) : random.Next(200);
                Put(new FuseSetxattrIn((uint)size, (uint)random.Next(5), (uint)random.Next(2)));
                PutText(random.Pick<string>(random.OneIn(2) ? s_xattrs : s_xattrs.AsSpan(0, 2)));
                if (random.OneIn(2)) { PutAcl(size); }
                else { PutZeros(size); }
                break;
            case FuseOpcode.GETXATTR:
                Put(new FuseGetxattrIn(XattrRoom()));
                PutText(random.Pick<string>(random.OneIn(2) ? s_xattrs : s_xattrs.AsSpan(0, 2)));
                break;
            case FuseOpcode.LISTXATTR:
                Put(new FuseGetxattrIn(XattrRoom()));
                break;
            case FuseOpcode.INIT:
                Put(new FuseInitIn((uint)(random.OneIn(3) ? random.Next(10) : 7), (uint)random.Next(50), 1 << 17, (uint)random.Next() | (random.OneIn(2) ? 1u << 30 : 0)));
                Put(new FuseInitExtIn((uint)random.Next()));
                break;
            case FuseOpcode.FALLOCATE:
                Put(new FuseFallocateIn(Handle(), Offset(), random.OneIn(3) ? random.Edge() : (ulong)random.Next(100_000), random.Pick<uint>([0, 1, 2, 3, 0x10, 0x11, 0x12, 0x40, uint.MaxValue])));
                break;
            case FuseOpcode.LSEEK:
                Put(new FuseLseekIn(Handle(), Offset(), (uint)random.Next(6)));
                break;
            case FuseOpcode.COPY_FILE_RANGE or FuseOpcode.COPY_FILE_RANGE_64:
                Put(new FuseCopyFileRangeIn(Handle(), Offset(), Node(), Handle(), Offset(), random.OneIn(12) ? random.Edge() : (ulong)random.Next(100_000), random.OneIn(8) ? 1u : 0));
                break;
            case FuseOpcode.IOCTL:
                uint inBytes = random.OneIn(6) ? (uint)random.Edge() : (uint)random.Pick<int>([0, 4, 8, 28]);
                Put(new FuseIoctlIn(Handle(), (uint)(random.OneIn(4) ? random.Next(32) : 0), random.Pick<uint>(s_ioctls), 0, inBytes, random.OneIn(6) ? (uint)random.Edge() : 28));
                Put(random.OneIn(6) ? (uint)random.Edge() : random.Pick<uint>([0, 0, 0, 0x8, 0x10, 0x20, 0x40, 0x80]));
                PutZeros(24);
                break;
            case FuseOpcode.GETLK or FuseOpcode.SETLK or FuseOpcode.SETLKW:
                PutLock();
                break;
            case FuseOpcode.INTERRUPT:
                Put(new FuseInterruptIn(random.OneIn(6) ? random.Edge() : _unique - (ulong)random.Next(8)));
                break;
            case FuseOpcode.SYNCFS:
                Put(new FuseSyncfsIn(0));
                break;
            default:
                PutZeros(random.Next(80)); // opcodes that are not served
                break;
        }
    }

    private void PutSetattr()
    {
        uint valid = random.OneIn(6) ? (uint)random.Next() : 1u << random.Next(12) | 1u << random.Next(12);
        Put(new FuseSetattrIn((SetAttrValid)valid, 0, Handle(), Offset(), 0, Time(), Time(), Time(), Nanoseconds(), Nanoseconds(), Nanoseconds(),
            (uint)random.Next(1 << 16), 0, Id(), Id()));
    }

    /// <summary>Few owners and short ranges, so that they meet.</summary>
    private void PutLock()
    {
        ulong first = random.OneIn(8) ? random.Edge() : (ulong)random.Next(12), last = random.OneIn(3) ? long.MaxValue : random.OneIn(8) ? random.Edge() : first + (ulong)random.Next(6);
        uint kind = random.OneIn(12) ? (uint)random.Edge() : (uint)random.Next(3);
        Put(new FuseLkIn(Handle(), (ulong)random.Next(4), new FuseFileLock(first, last, kind, (uint)random.Next(5)), random.OneIn(12) ? (uint)random.Edge() : (uint)random.Next(2)));
    }

    private void PutBatchForget()
    {
        int count = random.Next(200);
        uint claimed = random.OneIn(3) ? (uint)random.Edge() : (uint)count; // counts that lie
        Put(new FuseBatchForgetIn(claimed));
        for (int i = 0; i < count; i++) { Put(new FuseForgetOne(Node(), random.OneIn(3) ? random.Edge() : 1)); }
    }

    /// <summary>None, groups, a security context, or nonsense; sometimes longer than announced.</summary>
    private void PutExtensions()
    {
        if (!random.OneIn(4)) { return; }
        int start = _length;
        for (int left = 1 + random.Next(2); left > 0; left--)
        {
            switch (random.Next(3))
            {
                case 0:
                    Put(new FuseExtHeader(random.OneIn(4) ? (uint)random.Edge() : 16, 32));
                    Put((uint)random.Next(3));
                    Put(1000u);
                    break;
                case 1:
                    Put(new FuseExtHeader(random.OneIn(4) ? (uint)random.Edge() : 40, (uint)random.Next(3)));
                    Put(new FuseSecctx(random.OneIn(4) ? (uint)random.Edge() : 7));
                    PutText("security.selinux");
                    PutZeros(7);
                    break;
                default:
                    Put(random.Edge());
                    break;
            }
        }
        while ((_length - start) % 8 != 0) { _bytes[_length++] = 0; }
        _extensionBytes = random.OneIn(6) ? random.Next(1 << 16) & ~7 : _length - start;
    }

    private void PutAcl(int size)
    {
        int start = _length;
        Put(2u); // POSIX_ACL_XATTR_VERSION
        ReadOnlySpan<ushort> tags = [1, 2, 4, 8, 0x10, 0x20, 0x40];
        while (_length - start + 8 <= size)
        {
            Put(random.Pick(tags));
            Put((ushort)random.Next(9));
            Put(random.OneIn(2) ? uint.MaxValue : 1000u);
        }
        _length = start + size;
    }

    private void PutName()
    {
        switch (random.Next(24))
        {
            case 0: PutText(new string('n', 254 + random.Next(4))); break; // 255 is the longest
            case 1: PutText("."); break;
            case 2: PutText(".."); break;
            case 3: PutText(""); break;
            case 4: PutText("a/b"); break;
            case 5: PutText("\u0001\u007f"); break;
            case 6: PutText("n" + random.Next(2000)); break;
            default: PutText(random.Pick<string>(s_names)); break;
        }
    }

    private void PutText(string text)
    {
        _length += Encoding.UTF8.GetBytes(text, _bytes.AsSpan(_length));
        _bytes[_length++] = 0;
    }

    private void PutZeros(int count)
    {
        _bytes.AsSpan(_length, count).Fill((byte)(count | 1));
        _length += count;
    }

    private void Put<T>(T value)
        where T : unmanaged
    {
        MemoryMarshal.Write(_bytes.AsSpan(_length), value);
        _length += System.Runtime.CompilerServices.Unsafe.SizeOf<T>();
    }

    private void Spoil()
    {
        switch (random.Next(7))
        {
            case 0: _length = random.Next(_length + 1); break; // cut
            case 1: _length += random.Next(64); break; // more than the header says
            case 2: MemoryMarshal.Write(_bytes, (uint)random.Edge()); break; // a length that lies
            case 3: MemoryMarshal.Write(_bytes, (uint)(_length - 8 + random.Next(17))); break;
            case 4: MemoryMarshal.Write(_bytes.AsSpan(4), random.OneIn(2) ? (uint)random.Next(80) : (uint)random.Edge()); break; // another opcode
            case 5: MemoryMarshal.Write(_bytes.AsSpan(36), (uint)random.Next()); break; // extension length
            default: random.Damage(_bytes.AsSpan(0, Math.Min(_length, 256))); break;
        }
    }

    private FuzzInput Shape(FuseOpcode opcode)
    {
        int room = random.Next(8) switch
        {
            0 => random.Next(40),
            1 => 16 + random.Next(300), // one byte too small for some reply
            2 => random.OneIn(8) ? FuzzFuseRequest.MaxBytes : 70_000,
            _ => opcode is FuseOpcode.READ or FuseOpcode.READDIR or FuseOpcode.READDIRPLUS ? 16 + 4096 : 16 + 288,
        };
        if (!random.OneIn(3)) { return new FuzzInput(room, FirstIn: FuseInHeader.Size, FirstOut: FuseOutHeader.Size); }
        bool small = _length <= 400 && room <= 400;
        return new FuzzInput(room, random.Next(100), small ? random.Next(12) : 0, random.Next(40), small ? random.Next(12) : 0);
    }

    private static bool WorksInDirectory(FuseOpcode opcode) => opcode is FuseOpcode.LOOKUP or FuseOpcode.CREATE or FuseOpcode.MKDIR or FuseOpcode.MKNOD or FuseOpcode.SYMLINK
        or FuseOpcode.LINK or FuseOpcode.UNLINK or FuseOpcode.RMDIR or FuseOpcode.RENAME or FuseOpcode.RENAME2 or FuseOpcode.OPENDIR or FuseOpcode.READDIR
        or FuseOpcode.READDIRPLUS or FuseOpcode.TMPFILE;

    private ulong Directory() => random.OneIn(8) ? Node() : _directories[random.Next(_directories.Count)];

    private ulong Node() => random.Next(12) switch
    {
        0 => (ulong)random.Next(400), // forged: inode numbers count up
        1 => random.OneIn(4) ? random.Edge() : _directories[random.Next(_directories.Count)],
        _ => _nodes[random.Next(_nodes.Count)],
    };

    private ulong Handle() => random.OneIn(6) ? random.Edge() : _handles[random.Next(_handles.Count)];

    private ulong Offset() => random.Next(6) switch
    {
        0 => random.Edge(),
        1 => (ulong)random.Next(200) * 4096,
        2 => ((ulong)random.Next(40) * 4096) - 1 + (ulong)random.Next(3),
        _ => (ulong)random.Next(9000),
    };

    private ulong Cookie() => random.Next(4) switch
    {
        0 => random.Edge(),
        1 => (ulong)random.Next(20),
        _ => 0,
    };

    private uint Size() => random.OneIn(4) ? (uint)random.Edge() : random.Pick<uint>([0, 1, 100, 4096, 4097, 65536]);

    private uint XattrRoom() => random.OneIn(4) ? (uint)random.Edge() : random.Pick<uint>([0, 0, 10, 4096, 65536]);

    private uint OpenFlags() => random.OneIn(6) ? (uint)random.Edge() : random.Pick<uint>([0, 1, 2, 0x201, 0x401, 0x402, 0x8000, 0x4002]);

    private uint Id() => random.OneIn(4) ? uint.MaxValue : (uint)random.Next(3000);

    private ulong Time() => random.OneIn(4) ? random.Edge() : 1_700_000_000;

    private uint Nanoseconds() => random.OneIn(6) ? (uint)random.Edge() : (uint)random.Next(1_000_000_000);
}
