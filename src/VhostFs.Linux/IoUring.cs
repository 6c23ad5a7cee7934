using System.Runtime.InteropServices;

namespace VhostFs.Linux;

/// <summary>The three system calls of io_uring and its structs (<c>linux/io_uring.h</c>).</summary>
public static unsafe partial class IoUring
{
    public const uint IORING_SETUP_CQSIZE = 1 << 3;
    public const uint IORING_SETUP_CLAMP = 1 << 4;
    public const uint IORING_SETUP_R_DISABLED = 1 << 6;
    public const uint IORING_SETUP_SUBMIT_ALL = 1 << 7;
    public const uint IORING_SETUP_COOP_TASKRUN = 1 << 8;
    public const uint IORING_SETUP_TASKRUN_FLAG = 1 << 9;
    public const uint IORING_SETUP_SQE128 = 1 << 10;
    public const uint IORING_SETUP_SINGLE_ISSUER = 1 << 12;
    public const uint IORING_SETUP_DEFER_TASKRUN = 1 << 13;
    public const uint IORING_FEAT_SINGLE_MMAP = 1 << 0;
    public const uint IORING_FEAT_NODROP = 1 << 1;
    public const uint IORING_FEAT_EXT_ARG = 1 << 8;
    public const uint IORING_ENTER_GETEVENTS = 1 << 0;
    public const uint IORING_ENTER_EXT_ARG = 1 << 3;
    public const uint IORING_SQ_CQ_OVERFLOW = 1 << 1;
    public const uint IORING_SQ_TASKRUN = 1 << 2;
    public const uint IORING_REGISTER_ENABLE_RINGS = 12;
    public const long IORING_OFF_SQ_RING = 0;
    public const long IORING_OFF_SQES = 0x10000000;
    public const uint IORING_CQE_F_MORE = 1 << 1;

    // Numbers shared by every architecture since Linux 5.1.
    private const nint NrSetup = 425;
    private const nint NrEnter = 426;
    private const nint NrRegister = 427;

    public static Errno Setup(uint entries, ref IoUringParams parameters, out SafeFd fd)
    {
        fixed (IoUringParams* p = &parameters)
        {
            nint raw = Syscall6Core(NrSetup, (nint)entries, (nint)p, 0, 0, 0, 0);
            fd = new SafeFd((int)raw);
            return raw >= 0 ? Errno.None : (Errno)Marshal.GetLastPInvokeError();
        }
    }

    /// <summary>EINTR is returned: the loop that waits has other work to look at.</summary>
    public static IoResult Enter(int fd, uint toSubmit, uint minComplete, uint flags, void* argument, nint argumentBytes)
    {
        nint result = Syscall6Core(NrEnter, fd, (nint)toSubmit, (nint)minComplete, (nint)flags, (nint)argument, argumentBytes);
        return result >= 0 ? new IoResult((int)result) : IoResult.FromErrno((Errno)Marshal.GetLastPInvokeError());
    }

    public static IoResult Register(SafeFd fd, uint operation, void* argument, uint count)
    {
        nint result = Syscall6Core(NrRegister, fd.Fd, (nint)operation, (nint)argument, (nint)count, 0, 0);
        return result >= 0 ? new IoResult((int)result) : IoResult.FromErrno((Errno)Marshal.GetLastPInvokeError());
    }

    [LibraryImport("libc", EntryPoint = "syscall", SetLastError = true)]
    private static partial nint Syscall6Core(nint number, nint a, nint b, nint c, nint d, nint e, nint f);
}

[StructLayout(LayoutKind.Sequential)]
public struct IoUringParams
{
    public uint SqEntries, CqEntries, Flags, SqThreadCpu, SqThreadIdle, Features, WqFd;
    public uint Reserved0, Reserved1, Reserved2;
    public uint SqHead, SqTail, SqRingMask, SqRingEntries, SqFlags, SqDropped, SqArray, SqReserved;
    public ulong SqUserAddress;
    public uint CqHead, CqTail, CqRingMask, CqRingEntries, CqOverflow, CqCqes, CqFlags, CqReserved;
    public ulong CqUserAddress;
}

/// <summary>One submission: <c>struct io_uring_sqe</c>. The ring fills in <see cref="UserData"/>.</summary>
[StructLayout(LayoutKind.Sequential)]
public struct Sqe
{
    public SqeOpcode Opcode;
    public byte Flags;
    public ushort IoPriority;
    public int Fd;
    public ulong Offset;
    public ulong Address;
    public uint Length;
    public uint OpFlags;
    public ulong UserData;
    public ushort BufferIndex;
    public ushort Personality;
    public int SpliceFd;
    public ulong Address3;
    public ulong Reserved;
}

public enum SqeOpcode : byte
{
    IORING_OP_NOP = 0,
    IORING_OP_READV = 1,
    IORING_OP_WRITEV = 2,
    IORING_OP_FSYNC = 3,
    IORING_OP_POLL_ADD = 6,
    IORING_OP_POLL_REMOVE = 7,
    IORING_OP_SENDMSG = 9,
    IORING_OP_RECVMSG = 10,
    IORING_OP_TIMEOUT = 11,
    IORING_OP_ACCEPT = 13,
    IORING_OP_ASYNC_CANCEL = 14,
    IORING_OP_CONNECT = 16,
    IORING_OP_FALLOCATE = 17,
    IORING_OP_OPENAT = 18,
    IORING_OP_CLOSE = 19,
    IORING_OP_READ = 22,
    IORING_OP_WRITE = 23,
    IORING_OP_SEND = 26,
    IORING_OP_RECV = 27,
    IORING_OP_URING_CMD = 46,
}

/// <summary><c>struct io_uring_cqe</c>.</summary>
[StructLayout(LayoutKind.Sequential)]
public readonly struct Cqe
{
    public readonly ulong UserData;
    public readonly int Result;
    public readonly uint Flags;
}

/// <summary><c>struct io_uring_getevents_arg</c>.</summary>
[StructLayout(LayoutKind.Sequential)]
public struct IoUringGetEventsArg
{
    public ulong SignalMask;
    public uint SignalMaskBytes;
    public uint MinWaitUs;
    public ulong TimeSpec;
}
