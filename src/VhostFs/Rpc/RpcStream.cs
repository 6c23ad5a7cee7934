using System.Net.Sockets;
using VhostFs.Linux;

namespace VhostFs.Rpc;

/// <summary>One end of a unix stream of JSON values, which may bring file descriptors along. Both sides use it.</summary>
/// <remarks>Bounds: a value of <see cref="MaxRequestBytes"/> or <see cref="MaxAnswerBytes"/>, <see cref="MaxDescriptors"/> descriptors that nobody has taken. Beyond them the stream is over.</remarks>
internal sealed class RpcStream : IDisposable
{
    /// <summary>Of anybody who may connect.</summary>
    public const int MaxRequestBytes = 256 << 10;

    /// <summary>Of the daemon: lists of all that there is are as long as there is much.</summary>
    public const int MaxAnswerBytes = 1 << 30;

    public const int MaxDescriptors = 16;
    private const int FirstBufferBytes = 4096;

    private readonly Socket _socket;
    private readonly int _maxValueBytes;
    private readonly Queue<SafeFd> _descriptors = new();
    private byte[] _buffer = new byte[FirstBufferBytes];
    private int _length;
    private int _consumed;

    /// <param name="socket">Connected; the stream owns it.</param>
    /// <param name="maxValueBytes">Of what the other side sends.</param>
    public RpcStream(Socket socket, int maxValueBytes)
    {
        _socket = socket;
        _maxValueBytes = maxValueBytes;
    }

    /// <summary>The next object or list; empty at the end of the stream. Valid until the next call.</summary>
    /// <exception cref="RpcException">What comes is no JSON value, or too much.</exception>
    /// <exception cref="SocketException">The connection is broken.</exception>
    public async Task<ReadOnlyMemory<byte>> ReadAsync(CancellationToken cancel = default)
    {
        _buffer.AsSpan(_consumed, _length - _consumed).CopyTo(_buffer);
        _length -= _consumed;
        _consumed = 0;
        var scanner = default(JsonValueScanner);
        while (true)
        {
            switch (scanner.Scan(_buffer.AsSpan(0, _length)))
            {
                case JsonScan.Complete:
                    _consumed = scanner.Limit;
                    return _buffer.AsMemory(scanner.Start, scanner.Limit - scanner.Start);
                case JsonScan.Malformed:
                    throw new RpcException(RpcErrorCode.ParseError, "this is not JSON: an object or a list is expected");
            }
            if (_length == _maxValueBytes) { throw new RpcException(RpcErrorCode.InvalidRequest, $"{(_maxValueBytes == MaxRequestBytes ? "a request" : "an answer")} has more than {_maxValueBytes} bytes"); }
            if (_length == _buffer.Length) { Array.Resize(ref _buffer, (int)Math.Min(2L * _buffer.Length, _maxValueBytes)); }
            if (!await ReceiveAsync(cancel)) { return default; }
        }
    }

    /// <summary>Sends one value; the caller keeps the descriptors.</summary>
    public async Task WriteAsync(ReadOnlyMemory<byte> value, params SafeFd[] descriptors)
    {
        if (descriptors.Length > 0)
        {
            // Nothing waits in a new connection's buffer, so there is room for the byte that carries them.
            IoResult sent = UnixSocket.Send(_socket.SafeHandle, value.Span[..1], Array.ConvertAll(descriptors, d => d.Fd));
            if (sent.IsError) { throw new SocketException((int)sent.Errno); }
            value = value[1..];
        }
        while (value.Length > 0) { value = value[await _socket.SendAsync(value, SocketFlags.None)..]; }
    }

    /// <summary>The next descriptor that came; null when there is none. The caller owns it.</summary>
    public SafeFd? TakeDescriptor() => _descriptors.TryDequeue(out SafeFd? descriptor) ? descriptor : null;

    public void CloseDescriptors()
    {
        while (_descriptors.TryDequeue(out SafeFd? descriptor)) { descriptor.Dispose(); }
    }

    public void Dispose()
    {
        CloseDescriptors();
        _socket.Dispose();
    }

    private async Task<bool> ReceiveAsync(CancellationToken cancel)
    {
        // The runtime's sockets wait, but know nothing of descriptors: a look without taking first, then recvmsg(2).
        byte[] look = new byte[1];
        if (await _socket.ReceiveAsync(look, SocketFlags.Peek, cancel) == 0) { return false; }
        int[] descriptors = new int[MaxDescriptors];
        IoResult received = UnixSocket.Receive(_socket.SafeHandle, _buffer.AsSpan(_length), descriptors, out int count);
        foreach (int descriptor in descriptors.AsSpan(0, count)) { _descriptors.Enqueue(new SafeFd(descriptor)); }
        if (_descriptors.Count > MaxDescriptors || received.Errno == Errno.EMSGSIZE) { throw new RpcException(RpcErrorCode.InvalidRequest, $"more than {MaxDescriptors} descriptors"); }
        if (received.IsError && received.Errno != Errno.EAGAIN) { throw new SocketException((int)received.Errno); }
        _length += Math.Max(received.Value, 0);
        return received.Value != 0;
    }
}
