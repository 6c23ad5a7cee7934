using System.Diagnostics;
using System.Runtime.InteropServices;
using VhostFs.Campaigns;
using VhostFs.Fuse;
using VhostFs.GuestDriver;
using VhostFs.Linux;
using VhostFs.Reactor;
using VhostFs.VhostUser;
using VhostFs.VhostUser.Tests;
using VhostFs.Virtio;
using IoReactor = VhostFs.Reactor.Reactor;

namespace VhostFs.Fuzz.Tests.VhostUser;

/// <summary>One reactor on this thread with two sessions: an honest one that stays, and hostile ones that come and go.</summary>
internal sealed class VhostUserFuzzRun : IDisposable
{
    private const int ConnectionsPerBatch = 12, MessagesPerConnection = 100;
    private const long PatienceMs = 20_000;
    private readonly FuzzRandom _random;
    private readonly FakeFs _fileSystem = new();
    private readonly HostileDevices _devices;
    private readonly IoReactor _reactor = new(Ring.Create(128), "fuzz") { Mode = ReactorMode.Interrupt };
    private readonly List<Exception> _escaped = [];
    private readonly FuzzDescriptors _descriptors = new();
    private readonly GuestRam _ram = new(1 << 18);
    private readonly DriverQueue[] _split, _packed;
    private DriverQueue[] _queues;
    private readonly MessageMaker _maker;
    private readonly byte[] _received = new byte[4096];
    private readonly int[] _receivedFds = new int[4];
    private int _receivedBytes;
    private DeviceKind _kind;
    private readonly HonestGuest _honest;
    private readonly int _dataAt;
    private IoTask<bool> _honestSession;
    private long _honestAnswers;

    public VhostUserFuzzRun(FuzzRandom random)
    {
        _random = random;
        _reactor.UnhandledException += _escaped.Add;
        _devices = new HostileDevices(random);
        _split = [.. Enumerable.Range(0, 3).Select(i => DriverQueue.New(_ram, i, 16, FrontEnd.AllFeatures))];
        _packed = [.. Enumerable.Range(0, 3).Select(i => DriverQueue.New(_ram, i, 16, FrontEnd.Offered))];
        _queues = _split;
        _dataAt = _ram.Allocate(16384, 4096);
        _maker = new MessageMaker(random, _descriptors, _ram);
        Pair(out SafeFd ours, out SafeFd theirs);
        _honest = new HonestGuest(ours, isPacked: random.OneIn(2));
        _honestSession = Serve(theirs, new VhostUserFsDevice(new FuseServer(_fileSystem, new FuseServerOptions()), 64));
        _honest.Configure();
        AskHonest(26, 0, [7, 0, 0, 0, 31, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], 64); // INIT
    }

    public int Messages { get; private set; }

    /// <summary>What a session said last.</summary>
    public string LastLine { get; private set; } = "";

    /// <summary>Descriptors and mappings at the end of a batch are what they were before it.</summary>
    public void Batch()
    {
        Idle();
        ProcessState before = ProcessState.Now();
        string descriptors = ProcessState.Describe();
        for (int i = 0; i < ConnectionsPerBatch; i++) { Connection(); }
        ProcessState after = ProcessState.Now();
        Expect(before == after, $"left behind: {before} before ({descriptors}), {after} after ({(before == after ? "" : ProcessState.Describe())})");
        Expect(_escaped.Count == 0, $"an exception escaped: {_escaped.FirstOrDefault()}");
    }

    /// <summary>Raw bytes on a connection of their own, without descriptors, as one write each.</summary>
    public void Raw(string[] writes)
    {
        ProcessState before = ProcessState.Now();
        Pair(out SafeFd ours, out SafeFd theirs);
        IoTask<bool> session = Serve(theirs, _devices.New(DeviceKind.Fs));
        foreach (string write in writes)
        {
            UnixSocket.Send(ours, Convert.FromHexString(write), []);
            Idle();
            Replies(ours);
        }
        End(ours, session);
        AskHonest(3, 1, new byte[16], 104);
        Expect(before == ProcessState.Now(), "left behind");
        Expect(_escaped.Count == 0, $"an exception escaped: {_escaped.FirstOrDefault()}");
    }

    public void Dispose()
    {
        _honest.Dispose();
        // What is left of a run that found something is not worth waiting for.
        long limit = Environment.TickCount64 + 2000;
        while (!_honestSession.IsCompleted && Environment.TickCount64 < limit) { _reactor.RunOnce(wait: false); }
        _reactor.Dispose();
        foreach (DriverQueue queue in _split.Concat(_packed)) { queue.Dispose(); }
        _ram.Dispose();
        _maker.TakeArea(null, default);
        _devices.Dispose();
        _descriptors.Dispose();
    }

    private void Connection()
    {
        _queues = _random.OneIn(2) ? _packed : _split;
        ResetRings();
        Pair(out SafeFd ours, out SafeFd theirs);
        _kind = (DeviceKind)_random.Next(3);
        IoTask<bool> session = Serve(theirs, _devices.New(_kind));
        _maker.Begin(_kind, _queues);
        _receivedBytes = 0;
        int messages = 1 + _random.Next(2 * MessagesPerConnection);
        bool open = true;
        for (int i = 0; i < messages && open && !session.IsCompleted; i++)
        {
            _maker.Next();
            Messages++;
            open = SendMessage(ours);
            if (_random.OneIn(4)) { Idle(); }
            if (_random.OneIn(4)) { Drive(); }
            if (_random.OneIn(64)) { TurnUntilDone(() => _devices.ChangeAsync(_kind)); }
            if (_random.OneIn(4)) { Replies(ours); }
            if (_random.OneIn(32)) { AskHonest(3, 1, new byte[16], 104); }
        }
        End(ours, session);
        if (LastLine.Length > 0) { CountEnd(); }
        AskHonest(3, 1, new byte[16], 104);
    }

    /// <summary>How often each message was obeyed, or answered with what was asked for, and how often refused.</summary>
    public Dictionary<(MessageId Id, bool IsObeyed), int> Answers { get; } = [];

    /// <summary>How connections ended, by the first words of why.</summary>
    public Dictionary<string, int> Ends { get; } = [];

    private void CountEnd()
    {
        string why = string.Join(' ', LastLine.Split(' ').Take(5));
        Ends[why] = Ends.GetValueOrDefault(why) + 1;
        LastLine = "";
    }

    /// <summary>False: the rest is not sent, the connection ends in the middle of a message.</summary>
    private bool SendMessage(SafeFd socket)
    {
        ReadOnlySpan<byte> bytes = _maker.Bytes;
        bool ends = _random.OneIn(300);
        if (ends) { bytes = bytes[.._random.Next(bytes.Length)]; }
        ReadOnlySpan<int> fds = _maker.Fds;
        while (!bytes.IsEmpty)
        {
            int piece = _random.OneIn(12) ? 1 + _random.Next(bytes.Length) : bytes.Length;
            IoResult sent = UnixSocket.Send(socket, bytes[..piece], fds);
            if (sent.Errno == Errno.EAGAIN)
            {
                Idle(); // it must take what is there
                Replies(socket);
                sent = UnixSocket.Send(socket, bytes[..piece], fds);
            }
            if (sent.IsError) { return false; } // hung up, as it may
            bytes = bytes[sent.Bytes..];
            fds = _random.OneIn(20) ? fds : []; // now and then the same descriptors come with the rest, too
            if (!bytes.IsEmpty) { Idle(); }
        }
        return !ends;
    }

    /// <summary>The driver's part: requests, good and bad, and kicks.</summary>
    private void Drive()
    {
        DriverQueue queue = _random.Pick<DriverQueue>(_queues);
        Span<byte> request = _ram.At(_dataAt, 128);
        request.Clear();
        int length = _devices.WriteRequest(_kind, request);
        Desc[] parts =
        [
            new(GuestRam.Gpa(_dataAt), _random.OneIn(10) ? (uint)_random.Edge() : (uint)length),
            new(_random.OneIn(10) ? _random.Edge() : GuestRam.Gpa(_dataAt + 4096), 2048, (ushort)(_random.OneIn(10) ? _random.Next(65536) & ~Desc.FlagNext : Desc.FlagWrite)),
        ];
        switch (queue)
        {
            case PackedDriverQueue packed:
                if (!packed.HasRoom(parts.Length)) { packed.AssumeUsed(); }
                packed.MakeAvailable(packed.Chain(parts));
                if (_random.OneIn(20)) { packed.WriteDescriptor(_random.Next(packed.Size), new PackedDescriptor { Address = GuestRam.Gpa(_dataAt), Length = 64, Id = (ushort)_random.Next(20), Flags = (ushort)_random.Next() }); }
                break;
            case SplitDriverQueue split:
                ushort head = split.Chain(parts);
                split.MakeAvailable(_random.OneIn(20) ? (ushort)_random.Next() : head);
                if (_random.OneIn(20)) { split.PublishAvailable((ushort)_random.Next()); }
                break;
        }
        queue.Kick();
    }

    private void ResetRings()
    {
        _ram.At(0, _dataAt).Clear();
        foreach (DriverQueue queue in _queues)
        {
            queue.Forget();
            EventFd.TryConsume(queue.KickFd, out _);
            EventFd.TryConsume(queue.CallFd, out _);
            EventFd.TryConsume(queue.ErrFd, out _);
        }
    }

    private void End(SafeFd ours, IoTask<bool> session)
    {
        Replies(ours);
        ours.Dispose();
        TurnUntil(() => session.IsCompleted, "a session whose front-end has gone does not end");
        session.GetAwaiter().GetResult(); // what escaped from it comes out here
        _maker.TakeArea(null, default);
    }

    /// <summary>Whatever is answered is an answer: version 1, reply, and as many bytes and descriptors as the message has.</summary>
    private void Replies(SafeFd socket)
    {
        while (true)
        {
            IoResult received = UnixSocket.Receive(socket, _received.AsSpan(_receivedBytes), _receivedFds, out int fdCount);
            if (received.IsError || received.Bytes == 0) { return; }
            Expect(fdCount <= 1, $"{fdCount} descriptors with an answer");
            SafeFd? area = fdCount == 1 ? new SafeFd(_receivedFds[0]) : null;
            _receivedBytes += received.Bytes;
            int at = 0;
            while (_receivedBytes - at >= MessageHeader.Size)
            {
                MessageHeader header = MemoryMarshal.Read<MessageHeader>(_received.AsSpan(at));
                bool isRight = header.Id switch
                {
                    MessageId.GetConfig => header.PayloadBytes is 0 or (> ConfigRange.Size and <= ConfigRange.Size + ConfigRange.SpaceBytes),
                    MessageId.GetInflightFd => header.PayloadBytes is InflightDescription.Size or InflightDescription.PaddedSize,
                    _ => header.PayloadBytes == 8,
                };
                Expect(isRight && header.Flags == (MessageFlags.Version1 | MessageFlags.Reply), $"an answer to {header.Id} with flags {header.Flags} and {header.PayloadBytes} bytes");
                if (_receivedBytes - at < MessageHeader.Size + (int)header.PayloadBytes) { break; }
                bool isAcknowledgement = header.Id is not (MessageId.GetFeatures or MessageId.GetProtocolFeatures or MessageId.GetQueueNum or MessageId.GetVringBase or MessageId.GetMaxMemSlots or MessageId.GetConfig or MessageId.GetInflightFd);
                var answer = (header.Id, isAcknowledgement ? _received[at + MessageHeader.Size] == 0 : header.PayloadBytes > 0);
                Answers[answer] = Answers.GetValueOrDefault(answer) + 1;
                if (header.Id == MessageId.GetInflightFd)
                {
                    _maker.TakeArea(area, _received.AsSpan(at + MessageHeader.Size, InflightDescription.Size));
                    area = null;
                }
                at += MessageHeader.Size + (int)header.PayloadBytes;
            }
            Expect(area is null, "a descriptor that belongs to no answer");
            _received.AsSpan(at, _receivedBytes - at).CopyTo(_received);
            _receivedBytes -= at;
        }
    }

    private void AskHonest(uint opcode, ulong node, ReadOnlySpan<byte> arguments, int replyBytes)
    {
        _honest.Ask(opcode, node, arguments, replyBytes);
        int error = 0;
        TurnUntil(() => _honest.IsAnswered(out error), $"the honest guest gets no answer any more, after {_honestAnswers}");
        Expect(error == 0, $"the honest guest is answered {error}");
        _honestAnswers++;
    }

    private IoTask<bool> Serve(SafeFd socket, VhostUserDevice device)
    {
        var session = new VhostUserSession(_reactor, socket, device, "fuzz", (_, line) => LastLine = line);
        IoTask<bool> running = default;
        _reactor.RunUntilComplete(() =>
        {
            running = session.RunAsync();
            return new IoTask<int>(0);
        });
        return running;
    }

    private void TurnUntilDone(Func<IoTask<bool>> work)
    {
        IoTask<bool> running = default;
        _reactor.RunUntilComplete(() =>
        {
            running = work();
            return new IoTask<int>(0);
        });
        TurnUntil(() => running.IsCompleted, "a change behind a session does not end");
        running.GetAwaiter().GetResult();
    }

    private void Idle()
    {
        for (int quiet = 0, turns = 0; quiet < 2 && turns < 1000; turns++) { quiet = _reactor.RunOnce(wait: false) ? 0 : quiet + 1; }
    }

    private void TurnUntil(Func<bool> done, string otherwise)
    {
        long start = Stopwatch.GetTimestamp();
        while (!done())
        {
            _reactor.RunOnce(wait: false);
            Expect(Stopwatch.GetElapsedTime(start).TotalMilliseconds < PatienceMs, otherwise);
        }
    }

    private static void Pair(out SafeFd ours, out SafeFd theirs)
    {
        if (UnixSocket.CreatePair(out ours, out theirs) != Errno.None) { throw new InvalidOperationException("no socket pair"); }
    }

    private static void Expect(bool condition, string otherwise)
    {
        if (!condition) { throw new FindingException(otherwise); }
    }
}
