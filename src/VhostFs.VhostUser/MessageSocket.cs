using System.Runtime.InteropServices;
using VhostFs.Linux;

namespace VhostFs.VhostUser;

/// <summary>Frames vhost-user messages on one connection. The stream may come in any pieces; descriptors ride with any of them.</summary>
/// <remarks>Invariants: every descriptor received is owned here until taken with <see cref="TakeFd"/> and closed with the message otherwise;
/// never reads beyond the message at hand, so that descriptors cannot reach the wrong one.</remarks>
internal sealed class MessageSocket(SafeFd socket) : IDisposable
{
    /// <summary>SET_MEM_TABLE carries up to 8; anything beyond this bound ends the connection.</summary>
    private const int MaxFds = 16;

    /// <summary>GET_CONFIG has the longest answer.</summary>
    private const int MaxReplyBytes = ConfigRange.Size + ConfigRange.SpaceBytes;

    private readonly byte[] _buffer = new byte[MessageHeader.Size + MessageHeader.MaxPayloadBytes];
    private readonly int[] _fds = new int[MaxFds];
    private int _received;
    private int _fdCount;

    public SafeFd Socket => socket;

    public MessageHeader Header { get; private set; }

    public ReadOnlySpan<byte> Payload => _buffer.AsSpan(MessageHeader.Size, (int)Header.PayloadBytes);

    public int FdCount => _fdCount;

    /// <summary>None: a message is here until <see cref="Finish"/>. EAGAIN: wait for more. Anything else ends the connection (EPIPE: the peer closed).</summary>
    public Errno TryReceive()
    {
        while (true)
        {
            int wanted = MessageHeader.Size;
            if (_received >= MessageHeader.Size)
            {
                Header = MemoryMarshal.Read<MessageHeader>(_buffer);
                if ((Header.Flags & (MessageFlags.VersionMask | MessageFlags.Reply)) != MessageFlags.Version1) { return Errno.EPROTO; }
                if (Header.PayloadBytes > MessageHeader.MaxPayloadBytes) { return Errno.EMSGSIZE; }
                wanted += (int)Header.PayloadBytes;
                if (_received == wanted) { return Errno.None; }
            }
            IoResult received = UnixSocket.Receive(socket, _buffer.AsSpan(_received, wanted - _received), _fds.AsSpan(_fdCount), out int fdCount);
            if (received.IsError) { return received.Errno; }
            _fdCount += fdCount;
            if (received.Bytes == 0) { return Errno.EPIPE; }
            _received += received.Bytes;
        }
    }

    /// <summary>The message's descriptor, owned by the caller from now on.</summary>
    public SafeFd TakeFd(int index)
    {
        Invariant.That(index < _fdCount && _fds[index] >= 0);
        var fd = new SafeFd(_fds[index]);
        _fds[index] = -1;
        return fd;
    }

    /// <summary>Done with the message: closes what nobody took.</summary>
    public void Finish()
    {
        CloseFds();
        _received = 0;
    }

    /// <summary>Answers the message at hand. A front-end that lets its socket fill up with replies is not reading: an error ends the connection.</summary>
    public Errno Reply(ReadOnlySpan<byte> payload, params ReadOnlySpan<int> fds)
    {
        Span<byte> message = stackalloc byte[MessageHeader.Size + MaxReplyBytes];
        var header = new MessageHeader(Header.Id, MessageFlags.Version1 | MessageFlags.Reply, (uint)payload.Length);
        MemoryMarshal.Write(message, header);
        payload.CopyTo(message[MessageHeader.Size..]);
        message = message[..(MessageHeader.Size + payload.Length)];
        IoResult sent = UnixSocket.Send(socket, message, fds);
        if (sent.IsError) { return sent.Errno; }
        return sent.Bytes == message.Length ? Errno.None : Errno.ENOBUFS;
    }

    public void Dispose()
    {
        CloseFds();
        socket.Dispose();
    }

    private void CloseFds()
    {
        for (int i = 0; i < _fdCount; i++)
        {
            if (_fds[i] >= 0) { new SafeFd(_fds[i]).Dispose(); }
        }
        _fdCount = 0;
    }
}
