using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using VhostFs.Linux;
using VhostFs.Reactor;

namespace VhostFs.Fuse;

// What the server keeps per request: a private copy of header and arguments, a cursor over them, reply helpers. Kept between uses, so that
// steady state allocates nothing.
public abstract partial class FuseRequest
{
    /// <summary>Arguments longer than this (SETXATTR with a large value) borrow a scratch for the time of the request.</summary>
    private const int SmallArgumentBytes = 1024;

    private NativeBuffer? _small;
    private Scratch? _largeArguments;
    private Scratch? _scratch;
    private IoVecList? _payload;
    private IoVec _arguments;   // what was copied after the in-header
    private int _cursor;        // first argument byte not yet decoded; at most the argument length
    private int _limit;         // where arguments and names end and extensions begin
    private IoTask<int> _running;
    private FuseServer? _server;
    private FinishStep? _finish;

    /// <summary>Copied once from guest memory; everything below uses this copy.</summary>
    internal FuseInHeader Header { get; private set; }

    /// <summary>The session's epoch when the request began.</summary>
    internal uint Epoch { get; set; }

    /// <summary>Not 0 while the request waits for a lock.</summary>
    internal ulong LockTicket { get; set; }

    internal FuseRequest? NextWaiting { get; set; }

    internal FuseRequest? PreviousWaiting { get; set; }

    internal FuseOpcode Opcode => (FuseOpcode)Header.Opcode;

    internal ulong NodeId => Header.NodeId;

    internal FuseCaller Caller => new(Header.Uid, Header.Gid, Header.Pid);

    /// <summary>The payload of a WRITE or the room of a READ: slices of guest memory.</summary>
    internal IoVecList Payload => _payload ??= new IoVecList();

    /// <summary>Room for what follows the out-header.</summary>
    internal int BodyRoom => (int)Math.Min(Writable.LengthBytes - FuseOutHeader.Size, int.MaxValue);

    internal bool CanReply => Writable.LengthBytes >= FuseOutHeader.Size;

    /// <summary>Argument and payload bytes after the cursor, as the header claims (and as the transport holds: checked by the server).</summary>
    internal long RemainingBytes => Header.Length - FuseInHeader.Size - _cursor;

    internal bool TryReadHeader()
    {
        FuseInHeader header = default;
        Span<byte> bytes = MemoryMarshal.AsBytes(new Span<FuseInHeader>(ref header));
        if (Readable.View().CopyTo(0, bytes) != FuseInHeader.Size) { return false; }
        Header = header;
        return true;
    }

    /// <summary>Copies up to <paramref name="maxBytes"/> of what follows the in-header. The server has checked the header's length against the segments.</summary>
    internal void CopyArguments(int maxBytes)
    {
        int length = (int)Math.Min(Header.Length - FuseInHeader.Size, maxBytes);
        if (length <= SmallArgumentBytes)
        {
            _small ??= new NativeBuffer(SmallArgumentBytes);
            _arguments = _small.Slice(0, length);
        }
        else
        {
            _largeArguments = ScratchPool.OfThisThread.Rent();
            _arguments = _largeArguments.Memory.Slice(0, length);
        }
        int copied = Readable.View().CopyTo(FuseInHeader.Size, _arguments.Span);
        Invariant.That(copied == length);
        _cursor = 0;
        _limit = length;
    }

    /// <summary>Decodes the next fixed argument; false when the request is too short for it.</summary>
    internal bool TryTake<T>(out T value)
        where T : unmanaged
    {
        if (!MemoryMarshal.TryRead(_arguments.Span[_cursor.._limit], out value)) { return false; }
        _cursor += Unsafe.SizeOf<T>();
        return true;
    }

    /// <summary>Sets <c>total_extlen</c> apart, so that a name cannot run into the extensions; false when it exceeds the request.</summary>
    internal bool TryReserveExtensions()
    {
        int extensionBytes = Header.TotalExtLen * 8;
        if (extensionBytes > _limit - _cursor) { return false; }
        _limit -= extensionBytes;
        return true;
    }

    /// <summary>The extensions: what total_extlen announces; in protocols before 7.38, which have no such field, whatever follows the names.</summary>
    internal IoVec TakeExtensions() => Header.TotalExtLen != 0 ? _arguments.Slice(_limit, Header.TotalExtLen * 8) : _arguments.Slice(_cursor, _limit - _cursor);

    /// <summary>Takes a NUL-terminated string of up to <paramref name="maxBytes"/>; what it may contain is for <see cref="FuseName"/> to say.</summary>
    internal Errno TakeString(int maxBytes, out IoVec text)
    {
        ReadOnlySpan<byte> rest = _arguments.Span[_cursor.._limit];
        int length = rest[..Math.Min(rest.Length, maxBytes + 1)].IndexOf((byte)0);
        if (length < 0)
        {
            text = default;
            return rest.Length > maxBytes ? Errno.ENAMETOOLONG : Errno.EINVAL;
        }
        text = _arguments.Slice(_cursor, length);
        _cursor += length + 1;
        return Errno.None;
    }

    /// <summary>Takes exactly <paramref name="lengthBytes"/> bytes; the caller has compared it with <see cref="RemainingBytes"/>.</summary>
    internal bool TryTakeBytes(int lengthBytes, out IoVec bytes)
    {
        if ((uint)lengthBytes > (uint)(_limit - _cursor))
        {
            bytes = default;
            return false;
        }
        bytes = _arguments.Slice(_cursor, lengthBytes);
        _cursor += lengthBytes;
        return true;
    }

    /// <summary>Unmanaged memory until the request ends; asked for at most once per request.</summary>
    internal Scratch RentScratch()
    {
        Invariant.That(_scratch is null);
        return _scratch = ScratchPool.OfThisThread.Rent();
    }

    /// <summary>Out-header and body; the server has checked that they fit.</summary>
    internal int Reply<T>(in T body)
        where T : unmanaged
    {
        int length = FuseOutHeader.Size + Unsafe.SizeOf<T>();
        Invariant.That(Writable.LengthBytes >= length);
        WriteOutHeader(length, Errno.None);
        Writable.View().CopyFrom(FuseOutHeader.Size, MemoryMarshal.AsBytes(new ReadOnlySpan<T>(in body)));
        return length;
    }

    /// <summary>Out-header and bytes; ERANGE when they do not fit.</summary>
    internal int ReplyBytes(ReadOnlySpan<byte> body)
    {
        if (body.Length > BodyRoom) { return ReplyError(Errno.ERANGE); }
        Writable.View().CopyFrom(FuseOutHeader.Size, body);
        return ReplyWritten(body.Length);
    }

    /// <summary>Out-header for a body that lies in the writable segments already.</summary>
    internal int ReplyWritten(int bodyBytes)
    {
        Invariant.That((uint)bodyBytes <= (uint)BodyRoom);
        WriteOutHeader(FuseOutHeader.Size + bodyBytes, Errno.None);
        return FuseOutHeader.Size + bodyBytes;
    }

    /// <summary>Out-header alone: success, or an error. An ENOSYS of the file system becomes EOPNOTSUPP: the kernel would never ask again.</summary>
    internal int ReplyError(Errno errno) => ReplyHeader(errno == Errno.ENOSYS ? Errno.EOPNOTSUPP : errno);

    /// <summary>ENOSYS: the kernel remembers for the life of the mount that we do not serve this opcode.</summary>
    internal int ReplyNotServed() => ReplyHeader(Errno.ENOSYS);

    /// <summary>The error this request was answered with, for the counters and the transport.</summary>
    protected internal Errno RepliedError { get; private set; }

    internal void Begin() => RepliedError = Errno.None;

    /// <summary>Goes on in <see cref="FuseServer.Finish"/> when <paramref name="running"/> completes.</summary>
    internal void FinishLater(FuseServer server, IoTask<int> running)
    {
        _server = server;
        _running = running;
        running.GetAwaiter().OnCompleted(_finish ??= new FinishStep(this));
    }

    /// <summary>Gives back what was borrowed; the request may be reused after the completion that follows.</summary>
    internal void End()
    {
        if (_largeArguments is not null) { ScratchPool.OfThisThread.Return(_largeArguments); }
        if (_scratch is not null) { ScratchPool.OfThisThread.Return(_scratch); }
        _largeArguments = null;
        _scratch = null;
        _arguments = default;
        _payload?.Clear();
    }

    private int ReplyHeader(Errno errno)
    {
        if (!CanReply) { return 0; }
        WriteOutHeader(FuseOutHeader.Size, errno);
        return FuseOutHeader.Size;
    }

    private void WriteOutHeader(int lengthBytes, Errno errno)
    {
        RepliedError = errno;
        var header = new FuseOutHeader((uint)lengthBytes, -(int)errno, Header.Unique);
        Writable.View().CopyFrom(0, MemoryMarshal.AsBytes(new ReadOnlySpan<FuseOutHeader>(in header)));
    }

    private void DisposeState()
    {
        _small?.Dispose();
        _largeArguments?.Dispose();
        _scratch?.Dispose();
        _payload?.Dispose();
    }

    private sealed class FinishStep(FuseRequest request) : IoContinuation
    {
        protected override void Continue()
        {
            IoTask<int> running = request._running;
            request._running = default;
            request._server!.Finish(request, running);
        }
    }
}
