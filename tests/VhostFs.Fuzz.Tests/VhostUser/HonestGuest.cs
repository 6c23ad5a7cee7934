using System.Buffers.Binary;
using System.Runtime.InteropServices;
using VhostFs.GuestDriver;
using VhostFs.Linux;
using VhostFs.VhostUser;
using VhostFs.Virtio;

namespace VhostFs.Fuzz.Tests.VhostUser;

/// <summary>A front-end that does as it should, on the thread of the reactor that serves it.</summary>
internal sealed class HonestGuest : IDisposable
{
    private readonly VirtioFeatures _features;
    private readonly SafeFd _socket;
    private readonly GuestRam _ram = new(1 << 20);
    private readonly DriverQueue _queue;
    private readonly int _request;
    private readonly int _reply;
    private ulong _unique;

    public HonestGuest(SafeFd socket, bool isPacked)
    {
        _features = VirtioFeatures.Version1 | VirtioFeatures.ProtocolFeatures | (isPacked ? VirtioFeatures.RingPacked : 0);
        _socket = socket;
        _queue = DriverQueue.New(_ram, 1, 16, _features);
        _request = _ram.Allocate(128);
        _reply = _ram.Allocate(256);
    }

    public void Configure()
    {
        byte[] table = new byte[40];
        table[0] = 1;
        MemoryMarshal.Write(table.AsSpan(8), new MemoryRegion(GuestRam.GuestBase, (ulong)_ram.LengthBytes, _ram.UserBase, 0));
        Send(MessageId.SetFeatures, (ulong)_features);
        Send<byte>(MessageId.SetMemTable, table, _ram.Fd.Fd);
        Send(MessageId.SetVringNum, new VringState(1, (uint)_queue.Size));
        Send(MessageId.SetVringAddr, new VringAddress(1, 0, _queue.Descriptors, _queue.Used, _queue.Available, 0));
        Send<ulong>(MessageId.SetVringCall, [1UL], _queue.CallFd.Fd);
        Send<ulong>(MessageId.SetVringKick, [1UL], _queue.KickFd.Fd);
        Send(MessageId.SetVringEnable, new VringState(1, 1));
    }

    /// <summary>Puts a request on the ring; <see cref="IsAnswered"/> says when it is back.</summary>
    public void Ask(uint opcode, ulong node, ReadOnlySpan<byte> arguments, int replyBytes)
    {
        Span<byte> bytes = _ram.At(_request, 40 + arguments.Length);
        bytes.Clear();
        BinaryPrimitives.WriteUInt32LittleEndian(bytes, (uint)bytes.Length);
        BinaryPrimitives.WriteUInt32LittleEndian(bytes[4..], opcode);
        BinaryPrimitives.WriteUInt64LittleEndian(bytes[8..], ++_unique);
        BinaryPrimitives.WriteUInt64LittleEndian(bytes[16..], node);
        arguments.CopyTo(bytes[40..]);
        _queue.MakeAvailable(_queue.Chain(new Desc(GuestRam.Gpa(_request), (uint)bytes.Length), new Desc(GuestRam.Gpa(_reply), (uint)(16 + replyBytes), Desc.FlagWrite)));
        _queue.Kick();
    }

    /// <summary>The request is back, and its reply is the one to it.</summary>
    public bool IsAnswered(out int error)
    {
        error = 0;
        if (!_queue.TryTakeUsed(out _, out uint length)) { return false; }
        bool isRight = length == _ram.Read32(_reply) && length >= 16 && BinaryPrimitives.ReadUInt64LittleEndian(_ram.At(_reply + 8, 8)) == _unique;
        error = isRight ? (int)_ram.Read32(_reply + 4) : int.MaxValue;
        return true;
    }

    public void Dispose()
    {
        _socket.Dispose();
        _queue.Dispose();
        _ram.Dispose();
    }

    private void Send<T>(MessageId id, T payload)
        where T : unmanaged => Send<T>(id, [payload]);

    private void Send<T>(MessageId id, ReadOnlySpan<T> payload, params ReadOnlySpan<int> fds)
        where T : unmanaged
    {
        ReadOnlySpan<byte> bytes = MemoryMarshal.AsBytes(payload);
        byte[] message = new byte[MessageHeader.Size + bytes.Length];
        MemoryMarshal.Write(message, new MessageHeader(id, MessageFlags.Version1, (uint)bytes.Length));
        bytes.CopyTo(message.AsSpan(MessageHeader.Size));
        if (UnixSocket.Send(_socket, message, fds).Value != message.Length) { throw new InvalidOperationException("the socket of the honest guest is full"); }
    }
}
