using System.Buffers.Binary;
using System.Runtime.InteropServices;
using VhostFs.Fuse;
using VhostFs.Linux;
using VhostFs.Virtio;
using VhostFs.VhostUser;

namespace VhostFs.GuestDriver;

/// <summary>The front-end of a test or of a benchmark: vhost-user messages, guest memory, driver queues and a minimal FUSE client.</summary>
internal sealed class FrontEnd : IDisposable
{
    public const VirtioFeatures AllFeatures = VirtioFeatures.Version1 | VirtioFeatures.EventIdx | VirtioFeatures.IndirectDesc | VirtioFeatures.ProtocolFeatures;

    /// <summary>What the ring and the transport of every device have; <see cref="AllFeatures"/> are those of a driver with split rings.</summary>
    public const VirtioFeatures Offered = AllFeatures | VirtioFeatures.RingPacked;

    // A hang is a failure, a busy machine is not.
    private const int TimeoutMs = 30_000;
    private ulong _unique;

    public FrontEnd(string path, int ramBytes = 8 << 20)
        : this(path, new GuestRam(ramBytes))
    {
    }

    /// <summary>With memory of the caller's making, which the front-end owns from here on.</summary>
    public FrontEnd(string path, GuestRam ram)
    {
        Ram = ram;
        Expect.Equal(Errno.None, UnixSocket.Connect(path, out SafeFd socket));
        Socket = socket;
    }

    /// <summary>To a device that may have been started just now, and does not listen yet.</summary>
    public static FrontEnd Connect(string path, GuestRam ram)
    {
        for (long limit = Environment.TickCount64 + TimeoutMs; ;)
        {
            try { return new FrontEnd(path, ram); }
            catch (DriverException) when (Environment.TickCount64 < limit) { Thread.Sleep(10); }
        }
    }

    public SafeFd Socket { get; }

    public GuestRam Ram { get; }

    public VirtioFeatures Features { get; private set; } = AllFeatures;

    /// <summary>Of the features of the protocol, what <see cref="Agree"/> found that both sides know.</summary>
    public VhostUserProtocolFeatures Protocol { get; private set; }

    public List<DriverQueue> Queues { get; } = [];

    public void SendRaw(ReadOnlySpan<byte> bytes, params ReadOnlySpan<int> fds) => Expect.Equal(bytes.Length, UnixSocket.Send(Socket, bytes, fds).Value);

    public void Send(MessageId id, ReadOnlySpan<byte> payload, bool needReply = false, params ReadOnlySpan<int> fds)
    {
        byte[] message = new byte[12 + payload.Length];
        MemoryMarshal.Write(message, new MessageHeader(id, MessageFlags.Version1 | (needReply ? MessageFlags.NeedReply : 0), (uint)payload.Length));
        payload.CopyTo(message.AsSpan(12));
        SendRaw(message, fds);
    }

    /// <summary>The u64 of an answer, or null when the connection has ended.</summary>
    public ulong? Receive(MessageId id) => ReceivePayload(id) is { } payload ? BinaryPrimitives.ReadUInt64LittleEndian(payload) : null;

    /// <summary>What an answer carries, or null when the connection has ended.</summary>
    /// <param name="fds">Takes the descriptors that come with it.</param>
    public byte[]? ReceivePayload(MessageId id, int payloadBytes = 8, int[]? fds = null)
    {
        byte[] reply = new byte[MessageHeader.Size + payloadBytes];
        int got = 0;
        for (long limit = Environment.TickCount64 + TimeoutMs; got < reply.Length;)
        {
            IoResult received = UnixSocket.Receive(Socket, reply.AsSpan(got), got == 0 ? fds : [], out _);
            if (received.Errno == Errno.EAGAIN)
            {
                Expect.True(Environment.TickCount64 < limit, $"no answer to {id}");
                Thread.Sleep(0);
                continue;
            }
            if (received.IsError || received.Bytes == 0) { return null; }
            got += received.Bytes;
        }
        MessageHeader header = MemoryMarshal.Read<MessageHeader>(reply);
        Expect.Equal((id, (MessageFlags)5, (uint)payloadBytes), (header.Id, header.Flags, header.PayloadBytes));
        return reply[MessageHeader.Size..];
    }

    public ulong? Get(MessageId id)
    {
        Send(id, []);
        return Receive(id);
    }

    /// <summary>0: obeyed; 1: refused; null: disconnected.</summary>
    public ulong? Set(MessageId id, ReadOnlySpan<byte> payload, params ReadOnlySpan<int> fds)
    {
        Send(id, payload, needReply: true, fds);
        return Receive(id);
    }

    public ulong? Set<T>(MessageId id, T payload, params ReadOnlySpan<int> fds)
        where T : unmanaged => Set(id, MemoryMarshal.AsBytes(new ReadOnlySpan<T>(in payload)), fds);

    /// <summary>What QEMU does at realize.</summary>
    /// <param name="offered">What the device must offer.</param>
    public void Negotiate(VirtioFeatures features = AllFeatures, VirtioFeatures offered = Offered, ulong offeredProtocol = 0xa029)
    {
        Features = features;
        Expect.Equal((ulong)offered, Get(MessageId.GetFeatures));
        ulong protocol = Get(MessageId.GetProtocolFeatures)!.Value;
        Expect.Equal(offeredProtocol, protocol);
        Send(MessageId.SetProtocolFeatures, MemoryMarshal.AsBytes(new ReadOnlySpan<ulong>(in protocol)));
        Expect.True(Get(MessageId.GetQueueNum) >= 65);
        Expect.Equal((ulong)GuestMemory.MaxRegions, Get(MessageId.GetMaxMemSlots));
        Expect.Equal(0UL, Set(MessageId.SetOwner, []));
        Expect.Equal(0UL, Set(MessageId.SetFeatures, (ulong)features));
    }

    /// <summary>What the device says, now, that it can: the first thing that a front-end asks.</summary>
    public VirtioFeatures AskFeatures() => (VirtioFeatures)Ask(MessageId.GetFeatures);

    /// <summary>As <see cref="Negotiate"/>, but with a device of which nothing is known before: what both sides know is taken.</summary>
    /// <param name="wanted">Of the device; those of the ring are wanted always.</param>
    public void Agree(VirtioFeatures wanted = VirtioFeatures.None)
    {
        const VhostUserProtocolFeatures known = VhostUserProtocolFeatures.MultiQueue | VhostUserProtocolFeatures.ReplyAck | VhostUserProtocolFeatures.Config;
        const VirtioFeatures needed = VirtioFeatures.Version1 | VirtioFeatures.IndirectDesc | VirtioFeatures.ProtocolFeatures;
        Features = AskFeatures() & (AllFeatures | wanted);
        Expect.Equal(needed, Features & needed);
        Protocol = (VhostUserProtocolFeatures)Ask(MessageId.GetProtocolFeatures) & known;
        Expect.True((Protocol & VhostUserProtocolFeatures.ReplyAck) != 0, "the device answers messages (REPLY_ACK)");
        ulong protocol = (ulong)Protocol;
        Send(MessageId.SetProtocolFeatures, MemoryMarshal.AsBytes(new ReadOnlySpan<ulong>(in protocol)));
        Expect.Equal(0UL, Set(MessageId.SetOwner, []));
        Expect.Equal(0UL, Set(MessageId.SetFeatures, (ulong)Features));
    }

    public MemoryRegion Region => new(GuestRam.GuestBase, (ulong)Ram.LengthBytes, Ram.UserBase, 0);

    public ulong? AddMemory() => Set(MessageId.AddMemReg, WithPad(Region), Ram.Fd.Fd);

    /// <summary>In the one message that every device knows.</summary>
    public ulong? SetMemoryTable()
    {
        byte[] table = new byte[8 + MemoryRegion.Size];
        table[0] = 1;
        MemoryMarshal.Write(table.AsSpan(8), Region);
        return Set(MessageId.SetMemTable, table, Ram.Fd.Fd);
    }

    public static byte[] WithPad(MemoryRegion region)
    {
        byte[] payload = new byte[40];
        MemoryMarshal.Write(payload.AsSpan(8), region);
        return payload;
    }

    public DriverQueue AddQueue(int index, int size = 64, bool enable = true, bool isCallBlocking = false)
    {
        var queue = DriverQueue.New(Ram, index, size, Features, isCallBlocking);
        Queues.Add(queue);
        Start(queue, queue.Base, enable);
        return queue;
    }

    public void Start(DriverQueue queue, uint start, bool enable = true)
    {
        var index = (uint)queue.Index;
        Expect.Equal(0UL, Set(MessageId.SetVringNum, new VringState(index, (uint)queue.Size)));
        Expect.Equal(0UL, Set(MessageId.SetVringBase, new VringState(index, start)));
        Expect.Equal(0UL, Set(MessageId.SetVringAddr, new VringAddress(index, 0, queue.Descriptors, queue.Used, queue.Available, 0)));
        Expect.Equal(0UL, Set(MessageId.SetVringCall, (ulong)index, queue.CallFd.Fd));
        Expect.Equal(0UL, Set(MessageId.SetVringErr, (ulong)index, queue.ErrFd.Fd));
        Expect.Equal(0UL, Set(MessageId.SetVringKick, (ulong)index, queue.KickFd.Fd));
        if (enable) { Expect.Equal(0UL, Set(MessageId.SetVringEnable, new VringState(index, 1))); }
    }

    /// <summary>Everything up to a FUSE session on queues 0 and 1.</summary>
    public static FrontEnd Up(string path, VirtioFeatures features = AllFeatures, GuestRam? ram = null)
    {
        FrontEnd frontEnd = ram is null ? new FrontEnd(path) : new FrontEnd(path, ram);
        frontEnd.Negotiate(features);
        Expect.Equal(0UL, frontEnd.AddMemory());
        frontEnd.AddQueue(0);
        frontEnd.AddQueue(1);
        frontEnd.Init();
        return frontEnd;
    }

    /// <param name="flags">What the guest offers; 2: locks that hold against others.</param>
    public FuseInitOut Init(uint flags = 0)
    {
        var init = new FuseInitIn(7, 31, MaxReadahead: 0, flags);
        int reply = Start(Queues[1], (uint)FuseOpcode.INIT, 0, MemoryMarshal.AsBytes(new ReadOnlySpan<FuseInitIn>(in init)), Marshal.SizeOf<FuseInitOut>(), out ushort head);
        WaitUsed(Queues[1], head);
        Expect.Equal(0, MemoryMarshal.Read<FuseOutHeader>(Ram.At(reply, FuseOutHeader.Size)).Error);
        return MemoryMarshal.Read<FuseInitOut>(Ram.At(reply + FuseOutHeader.Size, Marshal.SizeOf<FuseInitOut>()));
    }

    /// <summary>Of the configuration space.</summary>
    /// <param name="answerBytes">Of the payload of the answer; negative: as asked.</param>
    public byte[]? GetConfig(uint offset, uint size, int answerBytes = -1)
    {
        byte[] message = new byte[ConfigRange.Size + size];
        MemoryMarshal.Write(message, new ConfigRange(offset, size, 0));
        Send(MessageId.GetConfig, message);
        return ReceivePayload(MessageId.GetConfig, answerBytes < 0 ? message.Length : answerBytes)?.Skip(ConfigRange.Size).ToArray();
    }

    /// <summary>Error of a GETATTR: 0, or a negative errno.</summary>
    public int GetAttributes(DriverQueue queue, ulong node = 1) => Call(queue, 3, node, new byte[16], 104);

    public int Call(DriverQueue queue, uint opcode, ulong node, ReadOnlySpan<byte> arguments, int replyBytes)
    {
        int reply = Start(queue, opcode, node, arguments, replyBytes, out ushort head);
        uint length = WaitUsed(queue, head);
        Expect.True(length >= 16);
        Expect.Equal(length, Ram.Read32(reply));
        return (int)Ram.Read32(reply + 4);
    }

    /// <summary>Makes a request available and kicks if a driver would; returns where the reply will be.</summary>
    public int Start(DriverQueue queue, uint opcode, ulong node, ReadOnlySpan<byte> arguments, int replyBytes, out ushort head, bool kick = true)
    {
        int request = Ram.Allocate(40 + arguments.Length);
        Span<byte> bytes = Ram.At(request, 40 + arguments.Length);
        bytes.Clear();
        BinaryPrimitives.WriteUInt32LittleEndian(bytes, (uint)bytes.Length);
        BinaryPrimitives.WriteUInt32LittleEndian(bytes[4..], opcode);
        BinaryPrimitives.WriteUInt64LittleEndian(bytes[8..], ++_unique);
        BinaryPrimitives.WriteUInt64LittleEndian(bytes[16..], node);
        arguments.CopyTo(bytes[40..]);
        int reply = Ram.Allocate(16 + replyBytes);
        var readable = new Desc(GuestRam.Gpa(request), (uint)bytes.Length);
        var writable = new Desc(GuestRam.Gpa(reply), (uint)(16 + replyBytes), Desc.FlagWrite);
        if (replyBytes == 0) { head = queue.Chain(readable); }
        else { head = (Features & VirtioFeatures.IndirectDesc) != 0 ? queue.IndirectChain(readable, writable) : queue.Chain(readable, writable); }
        queue.MakeAvailable(head);
        if (kick) { queue.KickOnce(); }
        return reply;
    }

    public uint WaitUsed(DriverQueue queue, ushort head)
    {
        uint id = 0, length = 0;
        Poll(() => queue.TryTakeUsed(out id, out length), "the chain comes back");
        Expect.Equal(head, (ushort)id);
        return length;
    }

    public static void Poll(Func<bool> condition, string what)
    {
        for (long limit = Environment.TickCount64 + TimeoutMs; !condition();)
        {
            Expect.True(Environment.TickCount64 < limit, $"waited for: {what}");
            Thread.Sleep(0);
        }
    }

    /// <summary>The process that listens at the other end.</summary>
    public int DeviceProcessId
    {
        get
        {
            Expect.Equal(Errno.None, UnixSocket.PeerCredentials(Socket, out PeerCredentials peer));
            return peer.Pid;
        }
    }

    /// <summary>The device has closed the connection.</summary>
    public bool HasEnded => UnixSocket.Receive(Socket, new byte[1], [], out _) is { IsError: false, Bytes: 0 };

    public void Dispose()
    {
        Socket.Dispose();
        Queues.ForEach(q => q.Dispose());
        Ram.Dispose();
    }

    private ulong Ask(MessageId id) => Get(id) ?? throw new DriverException($"the device has closed the connection instead of answering {id}");
}
