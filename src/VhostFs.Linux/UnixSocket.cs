using System.Runtime.InteropServices;
using System.Text;

namespace VhostFs.Linux;

/// <summary><c>struct ucred</c>: as the kernel knows it, and not as anybody says.</summary>
public readonly record struct PeerCredentials(int Pid, uint Uid, uint Gid);

/// <summary>Unix stream sockets that carry file descriptors. All are non-blocking: EAGAIN means wait in the ring and try again.</summary>
public static unsafe partial class UnixSocket
{
    /// <summary>SCM_MAX_FD of the kernel.</summary>
    public const int MaxFdsPerMessage = 253;

    /// <summary>0600.</summary>
    public const int OwnerOnly = 0x180;

    private const int AF_UNIX = 1;
    private const int SOCK_STREAM = 1;
    private const int SOCK_NONBLOCK = 0x800;
    private const int SOCK_CLOEXEC = 0x80000;
    private const int SOL_SOCKET = 1;
    private const int SCM_RIGHTS = 1;
    private const int SO_PEERCRED = 17;
    private const int MSG_CTRUNC = 8;
    private const int MSG_DONTWAIT = 0x40;
    private const int MSG_NOSIGNAL = 0x4000;
    private const int MSG_CMSG_CLOEXEC = 0x40000000;
    private const int MaxPathBytes = 107; // sockaddr_un.sun_path less its terminator
    private const int ControlHeaderBytes = 16; // struct cmsghdr: size_t length, int level, int type

    /// <summary>Listens on <paramref name="path"/>. A stale socket (nobody accepts) is replaced; a live one gives EADDRINUSE.</summary>
    /// <param name="mode">Permissions of the socket file (less the umask), there from its first moment.</param>
    public static Errno Listen(string path, out SafeFd listener, int backlog = 128, int mode = OwnerOnly)
    {
        Errno created = NewSocket(out listener);
        if (created != Errno.None) { return created; }
        _ = FchmodCore(listener, mode); // bind takes the mode of the unbound socket, so nobody can connect in between
        Errno bound = Bind(listener, path);
        if (bound == Errno.EADDRINUSE && IsStale(path))
        {
            FileCalls.Unlink(path);
            bound = Bind(listener, path);
        }
        if (bound == Errno.None && ListenCore(listener, backlog) != 0) { bound = LastErrno(); }
        if (bound != Errno.None)
        {
            listener.Dispose();
            listener = SafeFd.Invalid;
        }
        return bound;
    }

    public static Errno Connect(string path, out SafeFd socket)
    {
        Errno created = NewSocket(out socket);
        if (created != Errno.None) { return created; }
        Errno connected = Errno.ENAMETOOLONG;
        byte* address = stackalloc byte[2 + MaxPathBytes + 1];
        if (TryEncode(path, address, out int length))
        {
            do { connected = ConnectCore(socket, address, length) == 0 ? Errno.None : LastErrno(); }
            while (connected == Errno.EINTR);
        }
        if (connected != Errno.None)
        {
            socket.Dispose();
            socket = SafeFd.Invalid;
        }
        return connected;
    }

    public static Errno CreatePair(out SafeFd first, out SafeFd second)
    {
        int* pair = stackalloc int[2];
        if (SocketPairCore(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) != 0)
        {
            first = SafeFd.Invalid;
            second = SafeFd.Invalid;
            return LastErrno();
        }
        first = new SafeFd(pair[0]);
        second = new SafeFd(pair[1]);
        return Errno.None;
    }

    public static Errno Accept(SafeFd listener, out SafeFd socket)
    {
        while (true)
        {
            int raw = Accept4Core(listener, null, null, SOCK_NONBLOCK | SOCK_CLOEXEC);
            if (raw >= 0)
            {
                socket = new SafeFd(raw);
                return Errno.None;
            }
            Errno errno = LastErrno();
            if (errno == Errno.EINTR) { continue; }
            socket = SafeFd.Invalid;
            return errno;
        }
    }

    /// <summary>Receives bytes and the descriptors that came with them. 0 bytes: the peer closed. More descriptors than
    /// <paramref name="fds"/> holds: all are closed and EMSGSIZE is returned. The caller owns what is in <paramref name="fds"/>.</summary>
    public static IoResult Receive(SafeHandle socket, Span<byte> data, Span<int> fds, out int fdCount)
    {
        ArgumentOutOfRangeException.ThrowIfGreaterThan(fds.Length, MaxFdsPerMessage);
        fdCount = 0;
        int controlBytes = ControlSpace(fds.Length);
        byte* control = stackalloc byte[controlBytes];
        fixed (byte* target = data)
        {
            var vec = new KernelIoVec { Address = target, Length = (nuint)data.Length };
            nint received;
            MessageHeader header;
            while (true)
            {
                header = new MessageHeader { Vectors = &vec, VectorCount = 1, Control = fds.IsEmpty ? null : control, ControlLength = fds.IsEmpty ? 0 : (nuint)controlBytes };
                received = RecvMsgCore(socket, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
                if (received >= 0) { break; }
                Errno errno = LastErrno();
                if (errno != Errno.EINTR) { return errno; }
            }
            bool overflow = (header.Flags & MSG_CTRUNC) != 0;
            TakeFds(header, fds, ref fdCount, ref overflow);
            if (overflow)
            {
                for (int i = 0; i < fdCount; i++) { new SafeFd(fds[i]).Dispose(); }
                fdCount = 0;
                return Errno.EMSGSIZE;
            }
            return new IoResult((int)received);
        }
    }

    /// <summary>Sends bytes and, with the first of them, descriptors (which the caller keeps). May be short, as send is: descriptors have gone when any byte has.</summary>
    public static IoResult Send(SafeHandle socket, ReadOnlySpan<byte> data, ReadOnlySpan<int> fds)
    {
        ArgumentOutOfRangeException.ThrowIfGreaterThan(fds.Length, MaxFdsPerMessage);
        int controlBytes = ControlSpace(fds.Length);
        byte* control = stackalloc byte[controlBytes];
        new Span<byte>(control, controlBytes).Clear();
        *(nuint*)control = (nuint)(ControlHeaderBytes + fds.Length * sizeof(int));
        *(int*)(control + 8) = SOL_SOCKET;
        *(int*)(control + 12) = SCM_RIGHTS;
        fds.CopyTo(new Span<int>(control + ControlHeaderBytes, fds.Length));
        fixed (byte* source = data)
        {
            var vec = new KernelIoVec { Address = source, Length = (nuint)data.Length };
            while (true)
            {
                var header = new MessageHeader { Vectors = &vec, VectorCount = 1, Control = fds.IsEmpty ? null : control, ControlLength = fds.IsEmpty ? 0 : (nuint)controlBytes };
                nint sent = SendMsgCore(socket, &header, MSG_DONTWAIT | MSG_NOSIGNAL);
                if (sent >= 0) { return new IoResult((int)sent); }
                Errno errno = LastErrno();
                if (errno != Errno.EINTR) { return errno; }
            }
        }
    }

    /// <summary>Who is at the other end: who connected, or, after connecting, who listens there.</summary>
    public static Errno PeerCredentials(SafeHandle socket, out PeerCredentials peer)
    {
        peer = default;
        int length = sizeof(PeerCredentials);
        fixed (PeerCredentials* target = &peer) { return GetSockOptCore(socket, SOL_SOCKET, SO_PEERCRED, target, &length) == 0 ? Errno.None : LastErrno(); }
    }

    /// <summary>Removes a socket file to which nobody listens any more; everything else stays.</summary>
    public static void RemoveStale(string path)
    {
        if (IsStale(path)) { FileCalls.Unlink(path); }
    }

    private static void TakeFds(in MessageHeader header, Span<int> fds, ref int fdCount, ref bool overflow)
    {
        nuint position = 0;
        while (header.Control is not null && position + ControlHeaderBytes <= header.ControlLength)
        {
            byte* message = (byte*)header.Control + position;
            nuint length = *(nuint*)message;
            if (length < ControlHeaderBytes || length > header.ControlLength - position) { return; }
            if (*(int*)(message + 8) == SOL_SOCKET && *(int*)(message + 12) == SCM_RIGHTS)
            {
                int count = (int)((length - ControlHeaderBytes) / sizeof(int));
                for (int i = 0; i < count; i++)
                {
                    int fd = ((int*)(message + ControlHeaderBytes))[i];
                    if (fdCount < fds.Length) { fds[fdCount++] = fd; }
                    else
                    {
                        new SafeFd(fd).Dispose();
                        overflow = true;
                    }
                }
            }
            position += (length + 7) & ~(nuint)7;
        }
    }

    private static int ControlSpace(int fdCount) => ControlHeaderBytes + ((fdCount * sizeof(int) + 7) & ~7);

    private static Errno NewSocket(out SafeFd socket)
    {
        int raw = SocketCore(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        socket = new SafeFd(raw);
        return raw >= 0 ? Errno.None : LastErrno();
    }

    private static Errno Bind(SafeFd socket, string path)
    {
        byte* address = stackalloc byte[2 + MaxPathBytes + 1];
        if (!TryEncode(path, address, out int length)) { return Errno.ENAMETOOLONG; }
        return BindCore(socket, address, length) == 0 ? Errno.None : LastErrno();
    }

    private static bool IsStale(string path)
    {
        // connect() refuses a regular file just as it refuses a dead socket; only the latter is ours to remove.
        bool isSocket = FileCalls.Open(path, FileCalls.O_PATH | FileCalls.O_NOFOLLOW, 0, out SafeFd file) == Errno.None
            && FileCalls.Status(file, out FileStatus status) == Errno.None && status.IsSocket;
        file.Dispose();
        if (!isSocket) { return false; }
        Errno connected = Connect(path, out SafeFd probe);
        probe.Dispose();
        return connected == Errno.ECONNREFUSED;
    }

    private static bool TryEncode(string path, byte* address, out int length)
    {
        length = 0;
        int bytes = Encoding.UTF8.GetByteCount(path);
        if (bytes is 0 or > MaxPathBytes) { return false; }
        *(ushort*)address = AF_UNIX;
        Encoding.UTF8.GetBytes(path, new Span<byte>(address + 2, bytes));
        address[2 + bytes] = 0;
        length = 2 + bytes + 1;
        return true;
    }

    private static Errno LastErrno() => (Errno)Marshal.GetLastPInvokeError();

    [LibraryImport("libc", EntryPoint = "socket", SetLastError = true)]
    private static partial int SocketCore(int domain, int type, int protocol);

    [LibraryImport("libc", EntryPoint = "socketpair", SetLastError = true)]
    private static partial int SocketPairCore(int domain, int type, int protocol, int* pair);

    [LibraryImport("libc", EntryPoint = "fchmod")]
    private static partial int FchmodCore(SafeHandle socket, int mode);

    [LibraryImport("libc", EntryPoint = "bind", SetLastError = true)]
    private static partial int BindCore(SafeHandle socket, byte* address, int length);

    [LibraryImport("libc", EntryPoint = "listen", SetLastError = true)]
    private static partial int ListenCore(SafeHandle socket, int backlog);

    [LibraryImport("libc", EntryPoint = "connect", SetLastError = true)]
    private static partial int ConnectCore(SafeHandle socket, byte* address, int length);

    [LibraryImport("libc", EntryPoint = "accept4", SetLastError = true)]
    private static partial int Accept4Core(SafeHandle socket, void* address, void* length, int flags);

    [LibraryImport("libc", EntryPoint = "getsockopt", SetLastError = true)]
    private static partial int GetSockOptCore(SafeHandle socket, int level, int option, void* value, int* length);

    [LibraryImport("libc", EntryPoint = "recvmsg", SetLastError = true)]
    private static partial nint RecvMsgCore(SafeHandle socket, MessageHeader* header, int flags);

    [LibraryImport("libc", EntryPoint = "sendmsg", SetLastError = true)]
    private static partial nint SendMsgCore(SafeHandle socket, MessageHeader* header, int flags);

    [StructLayout(LayoutKind.Sequential)]
    private struct KernelIoVec
    {
        public byte* Address;
        public nuint Length;
    }

    /// <summary><c>struct msghdr</c> of 64-bit Linux.</summary>
    [StructLayout(LayoutKind.Sequential)]
    private struct MessageHeader
    {
        public void* Name;
        public uint NameLength;
        public KernelIoVec* Vectors;
        public nuint VectorCount;
        public void* Control;
        public nuint ControlLength;
        public int Flags;
    }
}
