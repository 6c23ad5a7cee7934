using System.Runtime.InteropServices;
using VhostFs.Linux;
using VhostFs.Reactor;
using VhostFs.Simulation.Tests.World;
using VhostFs.VhostUser;
using VhostFs.Virtio;

namespace VhostFs.Simulation.Tests.Guest;

/// <summary>The vhost-user side of a guest: messages on a socket, one after another.</summary>
internal sealed class FrontEnd(SimWorld world, SafeFd socket) : IDisposable
{
    private const short PollIn = 1, PollRdHup = 0x2000;
    private readonly byte[] _reply = new byte[MessageHeader.Size + 8];
    private IoHandle _waiting;
    private bool _isClosed;

    public bool IsClosed => _isClosed;

    public static FrontEnd? TryConnect(SimWorld world, string path) =>
        UnixSocket.Connect(path, out SafeFd socket) == Errno.None ? new FrontEnd(world, socket) : null;

    /// <summary>A question and its answer; null when the connection has ended.</summary>
    public async IoTask<ulong?> GetAsync(MessageId id, ulong payload = 0, bool hasPayload = false)
    {
        if (!Send(id, hasPayload ? Bytes(payload) : [], needReply: false, null)) { return null; }
        return await ReceiveAsync();
    }

    /// <summary>A command with an acknowledgement: true when obeyed.</summary>
    public IoTask<bool> SetAsync<T>(MessageId id, T payload, SafeFd? fd = null)
        where T : unmanaged => SetBytesAsync(id, Bytes(payload), fd);

    public async IoTask<bool> SetBytesAsync(MessageId id, byte[] payload, SafeFd? fd = null)
    {
        if (!Send(id, payload, needReply: true, fd)) { return false; }
        return await ReceiveAsync() == 0;
    }

    /// <summary>Negotiates what QEMU negotiates.</summary>
    public async IoTask<bool> NegotiateAsync(VirtioFeatures features)
    {
        if (await GetAsync(MessageId.GetFeatures) is not { } offered || (offered & (ulong)features) != (ulong)features) { return false; }
        if (await GetAsync(MessageId.GetProtocolFeatures) is not { } protocol) { return false; }
        if (!Send(MessageId.SetProtocolFeatures, Bytes(protocol), needReply: false, null)) { return false; }
        if (await GetAsync(MessageId.GetQueueNum) is null) { return false; }
        return await SetBytesAsync(MessageId.SetOwner, []) && await SetAsync(MessageId.SetFeatures, (ulong)features);
    }

    public IoTask<bool> AddMemoryAsync(ulong guestAddress, ulong userAddress, ulong sizeBytes, SafeFd fd) =>
        SetBytesAsync(MessageId.AddMemReg, Region(guestAddress, userAddress, sizeBytes), fd);

    public IoTask<bool> RemoveMemoryAsync(ulong guestAddress, ulong userAddress, ulong sizeBytes) =>
        SetBytesAsync(MessageId.RemMemReg, Region(guestAddress, userAddress, sizeBytes));

    public IoTask<bool> SetMemoryTableAsync(ulong guestAddress, ulong userAddress, ulong sizeBytes, SafeFd fd)
    {
        byte[] table = Region(guestAddress, userAddress, sizeBytes);
        table[0] = 1;
        return SetBytesAsync(MessageId.SetMemTable, table, fd);
    }

    public async IoTask<bool> StartQueueAsync(GuestQueue queue, ushort start)
    {
        var index = (uint)queue.Index;
        return await SetAsync(MessageId.SetVringNum, new VringState(index, GuestQueue.Size))
            && await SetAsync(MessageId.SetVringBase, new VringState(index, start))
            && await SetAsync(MessageId.SetVringAddr, new VringAddress(index, 0, queue.DescriptorsAddress, queue.UsedAddress, queue.AvailableAddress, 0))
            && await SetAsync(MessageId.SetVringCall, (ulong)index, queue.Call)
            && await SetAsync(MessageId.SetVringKick, (ulong)index, queue.Kick)
            && await SetAsync(MessageId.SetVringEnable, new VringState(index, 1));
    }

    /// <summary>GET_VRING_BASE: the next available index; null when the connection has ended.</summary>
    public async IoTask<ushort?> StopQueueAsync(GuestQueue queue) =>
        await GetAsync(MessageId.GetVringBase, (uint)queue.Index, hasPayload: true) is { } answer ? (ushort)(answer >> 32) : null;

    public bool SendRaw(ReadOnlySpan<byte> bytes) => !_isClosed && !UnixSocket.Send(socket, bytes, []).IsError;

    public void Dispose()
    {
        if (_isClosed) { return; }
        _isClosed = true;
        world.CancelAsync(_waiting).Detach();
        socket.Dispose();
    }

    private static byte[] Bytes<T>(T value)
        where T : unmanaged => MemoryMarshal.AsBytes(new ReadOnlySpan<T>(in value)).ToArray();

    private static byte[] Region(ulong guestAddress, ulong userAddress, ulong sizeBytes) => [.. new byte[8], .. Bytes(new MemoryRegion(guestAddress, sizeBytes, userAddress, 0))];

    private bool Send(MessageId id, byte[] payload, bool needReply, SafeFd? fd)
    {
        if (_isClosed) { return false; }
        byte[] message = [.. Bytes(new MessageHeader(id, MessageFlags.Version1 | (needReply ? MessageFlags.NeedReply : 0), (uint)payload.Length)), .. payload];
        IoResult sent = UnixSocket.Send(socket, message, fd is null ? [] : [fd.Fd]);
        return !sent.IsError && sent.Bytes == message.Length;
    }

    private async IoTask<ulong?> ReceiveAsync()
    {
        int got = 0;
        while (got < _reply.Length)
        {
            if (_isClosed) { return null; }
            IoResult received = UnixSocket.Receive(socket, _reply.AsSpan(got), [], out _);
            if (received.Errno == Errno.EAGAIN)
            {
                await world.PollAsync(socket, PollIn | PollRdHup, out _waiting);
                continue;
            }
            if (received.IsError || received.Bytes == 0) { return null; }
            got += received.Bytes;
        }
        return MemoryMarshal.Read<ulong>(_reply.AsSpan(MessageHeader.Size));
    }
}
