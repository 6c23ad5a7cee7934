using System.Buffers.Binary;
using System.Diagnostics;
using System.Runtime.InteropServices;
using VhostFs.Linux;
using VhostFs.Virtio;
using Xunit.Abstractions;

namespace VhostFs.VhostUser.Tests;

/// <summary>A front-end takes away memory that it shares with us, whatever kind it is and whatever we are doing with it.</summary>
[Collection(nameof(GuestMemoryLossTests))]
[CollectionDefinition(nameof(GuestMemoryLossTests), DisableParallelization = true)] // compares rates
public sealed partial class GuestMemoryLossTests(ITestOutputHelper output)
{
    /// <summary>What is gone when the back-end comes to it.</summary>
    public enum Loss
    {
        DescriptorTable,
        AvailableRing,
        UsedRing,
        RequestHeader,
        IndirectTable,
        WritePayload,
        ReplyRoom,
        ReadTargetInSystemCall,
        Everything,
        EverythingDuringService,
    }

    private const int HugePageBytes = 2 << 20;
    private const int HugePageCount = 16;

    public static TheoryData<Loss> Losses => [.. Enum.GetValues<Loss>()];

    [Theory, CombinatorialLosses]
    public void Whatever_is_gone_and_whatever_it_was_the_session_ends_and_the_next_is_served(string kind, Loss loss)
    {
        LoseAndServeTheNext(kind, 1 << 16, loss);
    }

    [HugePagesTheory, MemberData(nameof(Losses))]
    public void Huge_pages_that_are_gone_end_the_session_as_well(Loss loss)
    {
        using HugePages? pages = HugePages.TryReserve(HugePageCount);
        Assert.NotNull(pages);
        LoseAndServeTheNext("hugetlb", HugePageBytes, loss);
    }

    private static void LoseAndServeTheNext(string kind, int unit, Loss loss)
    {
        using var export = new Export();
        using var content = new ContentFile();
        export.Fs.Content = loss == Loss.ReadTargetInSystemCall ? content.Fd : null;
        long faults = SharedMemoryGuard.FaultCount;
        LoseMemory(export.Path0, Memory(kind, 5 * unit), unit, loss);
        if (loss != Loss.ReadTargetInSystemCall) { Assert.True(SharedMemoryGuard.FaultCount > faults); }
        using FrontEnd next = FrontEnd.Up(export.Path0);
        Assert.Equal(0, next.GetAttributes(next.Queues[1]));
        Assert.Equal(1, export.Server.MemoryLostCount);
        Assert.Single(export.Log, line => line.Contains("guest memory was taken away", StringComparison.Ordinal));
    }

    [Fact]
    public void Other_guests_keep_their_answers_and_their_rate_while_one_takes_its_memory_away_a_thousand_times()
    {
        const int rounds = 10, sessionsPerRound = 100;
        using var shared = new Export(count: 2);
        using var alone = new Export();
        using var first = new Neighbour(shared.Paths[1]);
        using var second = new Neighbour(alone.Path0);
        using var collector = new Collector();
        Loss[] losses = [.. Enum.GetValues<Loss>().Where(loss => loss != Loss.ReadTargetInSystemCall)];
        double quiet = 0, hostile = 0;
        long faults = SharedMemoryGuard.FaultCount;
        for (int round = 0; round < rounds; round++)
        {
            // The same work with and without, in turns: what else the machine does meets both.
            quiet += Rate(first, second, () => Sessions(i => { ComeAndGo(shared.Path0); }));
            hostile += Rate(first, second, () => Sessions(i => LoseMemory(shared.Path0, Memory("memfd", 5 << 16), 1 << 16, losses[i % losses.Length])));
        }
        long survived = SharedMemoryGuard.FaultCount - faults;
        output.WriteLine($"{survived} faults, {collector.Collections} collections; neighbours: {quiet / rounds:n0} requests/s beside harmless sessions, {hostile / rounds:n0} beside hostile ones");
        Assert.True(survived >= rounds * sessionsPerRound, $"{survived} faults");
        Assert.True(hostile > quiet / 2, $"{hostile / rounds:n0} of {quiet / rounds:n0} requests/s");
        Assert.Equal(rounds * sessionsPerRound, shared.Server.MemoryLostCount);
        first.Check();
        second.Check();

        static void Sessions(Action<int> run)
        {
            for (int i = 0; i < sessionsPerRound; i++) { run(i); }
        }
    }

    [Fact]
    public void A_region_that_was_removed_or_replaced_is_guarded_no_more_and_the_new_one_is()
    {
        int before = SharedMemoryGuard.RegionCount;
        using (var export = new Export())
        using (FrontEnd frontEnd = FrontEnd.Up(export.Path0))
        using (var extra = new GuestRam(1 << 20))
        {
            var region = new MemoryRegion(0x8_0000_0000, 1 << 20, extra.UserBase, 0);
            for (int i = 0; i < 50; i++)
            {
                Assert.Equal(0UL, frontEnd.Set(MessageId.AddMemReg, FrontEnd.WithPad(region), extra.Fd.Fd));
                Assert.Equal(before + 2, SharedMemoryGuard.RegionCount);
                Assert.Equal(0UL, frontEnd.Set(MessageId.RemMemReg, FrontEnd.WithPad(region)));
                Assert.Equal(before + 1, SharedMemoryGuard.RegionCount);
            }
            // Taken away after it was removed: nobody minds.
            Assert.Equal(Errno.None, FileCalls.Truncate(extra.Fd, 0));
            Assert.Equal(0, frontEnd.GetAttributes(frontEnd.Queues[1]));
            byte[] table = new byte[8 + 32];
            table[0] = 1;
            MemoryMarshal.Write(table.AsSpan(8), frontEnd.Region);
            Assert.Equal(0UL, frontEnd.Set(MessageId.SetMemTable, table, frontEnd.Ram.Fd.Fd));
            Assert.Equal(before + 1, SharedMemoryGuard.RegionCount);
            Assert.Equal(0, frontEnd.GetAttributes(frontEnd.Queues[1]));
            Assert.Equal(Errno.None, FileCalls.Truncate(frontEnd.Ram.Fd, 0));
            frontEnd.Queues[1].Kick();
            Assert.Null(frontEnd.Receive(MessageId.GetFeatures));
            Assert.Equal(Errno.None, FileCalls.Truncate(frontEnd.Ram.Fd, frontEnd.Ram.LengthBytes));
        }
        Assert.Equal(before, SharedMemoryGuard.RegionCount);
    }

    [Theory]
    [InlineData("guest", true)]
    [InlineData("foreign", false)]
    public void A_fault_elsewhere_still_ends_the_process(string memory, bool survives)
    {
        using Process probe = Process.Start(new ProcessStartInfo("dotnet", [typeof(FaultProbe).Assembly.Location, memory])
        {
            RedirectStandardOutput = true,
            RedirectStandardError = true,
            Environment = { ["DOTNET_DbgEnableMiniDump"] = "0" },
        })!;
        string said = probe.StandardOutput.ReadToEnd();
        string errors = probe.StandardError.ReadToEnd();
        probe.WaitForExit();
        Assert.Equal(survives, said.Contains(FaultProbe.Survived, StringComparison.Ordinal));
        if (survives) { Assert.Equal(0, probe.ExitCode); }
        else { Assert.True(probe.ExitCode > 128, $"exit status {probe.ExitCode}: {errors}"); } // by a signal
    }

    [Fact]
    public void Both_handlers_fit_a_page_and_name_their_two_addresses()
    {
        Span<byte> code = stackalloc byte[4096];
        const ulong table = 0x1122334455667788, previous = 0x99aabbccddeeff00;
        int bytes = FaultHandlerX64.Write(code, table, previous);
        Assert.InRange(bytes, 100, 256);
        Assert.True(code[..bytes].IndexOf(BitConverter.GetBytes(table)) > 0 && code[..bytes].IndexOf(BitConverter.GetBytes(previous)) > 0);
        bytes = FaultHandlerArm64.Write(code, table, previous);
        int constants = FaultHandlerArm64.Code.Length * 4;
        Assert.Equal(constants + 16, bytes);
        Assert.Equal(0, constants % 8);
        Assert.Equal((table, previous), (BinaryPrimitives.ReadUInt64LittleEndian(code[constants..]), BinaryPrimitives.ReadUInt64LittleEndian(code[(constants + 8)..])));
    }

    /// <summary>Every branch and every load relative to the program counter, decoded: where it goes is where the comment beside it says.</summary>
    [Fact]
    public void The_branches_of_the_arm64_handler_go_where_they_should()
    {
        ReadOnlySpan<uint> code = FaultHandlerArm64.Code;
        var targets = new List<(int From, int To)>();
        for (int i = 0; i < code.Length; i++)
        {
            uint word = code[i];
            if ((word & 0xff000010) == 0x54000000 || (word & 0x7e000000) == 0x34000000 || (word & 0xff000000) == 0x58000000) { targets.Add((i, i + (((int)word << 8) >> 13))); } // b.cond, cbz/cbnz, ldr literal
            else if ((word & 0xfc000000) == 0x14000000) { targets.Add((i, i + (((int)word << 6) >> 6))); }
        }
        const int loop = 8, next = 20, found = 23, total = 28, failed = 46, chain = 49, constants = 52;
        Assert.Equal([(2, chain), (4, constants), (loop, chain), (10, next), (16, next), (19, found), (22, loop), (26, found), (31, total), (44, failed), (chain, constants + 2)], targets);
        Assert.Equal(constants, code.Length);
        Assert.Equal((0xd4000001u, 0xd65f03c0u, 0xd61f0200u), (code[42], code[45], code[50])); // svc #0, ret, br x16
    }

    /// <summary>One session up to the loss; returns when the back-end has hung up.</summary>
    private static void LoseMemory(string path, GuestRam ram, int unit, Loss loss)
    {
        using FrontEnd frontEnd = FrontEnd.Up(path, ram: ram);
        int low = ram.Allocate(4096, 4096);
        ram.Rewind(unit);
        DriverQueue queue = frontEnd.AddQueue(2, size: 16);
        int rings = (int)(queue.Descriptors - ram.UserBase);
        int header = loss is Loss.RequestHeader or Loss.WritePayload ? 2 * unit : low, payload = 3 * unit, reply = 4 * unit;
        bool reads = loss is Loss.ReplyRoom or Loss.ReadTargetInSystemCall or Loss.EverythingDuringService;
        PutRequest(ram.At(header, 80), reads);
        Desc[] parts = reads
            ? [new Desc(GuestRam.Gpa(header), 80), new Desc(GuestRam.Gpa(low + 256), 16, Desc.FlagWrite), new Desc(GuestRam.Gpa(reply), 4096, Desc.FlagWrite)]
            : [new Desc(GuestRam.Gpa(header), 80), new Desc(GuestRam.Gpa(payload), 4096), new Desc(GuestRam.Gpa(low + 256), 24, Desc.FlagWrite)];
        if (loss == Loss.IndirectTable) { ram.Rewind(2 * unit); }
        bool ringsGo = loss is Loss.DescriptorTable or Loss.AvailableRing or Loss.UsedRing or Loss.Everything;
        ushort head = loss is Loss.IndirectTable or Loss.EverythingDuringService ? queue.IndirectChain(parts) : queue.Chain(parts);
        if (loss == Loss.EverythingDuringService)
        {
            for (int i = 0; i < 14; i++) { queue.MakeAvailable(i == 0 ? head : queue.IndirectChain(parts)); }
            queue.Kick();
        }
        long cut = loss switch
        {
            Loss.DescriptorTable => rings,
            Loss.AvailableRing => unit == HugePageBytes ? rings : rings + 4096,
            Loss.UsedRing => unit == HugePageBytes ? rings : rings + 8192,
            Loss.RequestHeader or Loss.IndirectTable => 2 * unit,
            Loss.WritePayload => payload,
            Loss.ReplyRoom or Loss.ReadTargetInSystemCall => reply,
            _ => 0,
        };
        Assert.Equal(Errno.None, FileCalls.Truncate(ram.Fd, cut));
        // From here on nothing of ours may touch what is gone either.
        if (!ringsGo && loss != Loss.EverythingDuringService) { queue.MakeAvailable(head); }
        queue.Kick();
        Assert.Null(frontEnd.Receive(MessageId.GetFeatures));
    }

    private static void ComeAndGo(string path)
    {
        using FrontEnd frontEnd = FrontEnd.Up(path, ram: Memory("memfd", 5 << 16));
        frontEnd.AddQueue(2, size: 16);
        Assert.Equal(0, frontEnd.GetAttributes(frontEnd.Queues[1]));
    }

    private static void PutRequest(Span<byte> at, bool reads)
    {
        at.Clear();
        BinaryPrimitives.WriteUInt32LittleEndian(at, reads ? 80u : 80u + 4096);
        BinaryPrimitives.WriteUInt32LittleEndian(at[4..], reads ? 15u : 16u);
        BinaryPrimitives.WriteUInt64LittleEndian(at[16..], 2);
        BinaryPrimitives.WriteUInt32LittleEndian(at[56..], 4096); // size
    }

    private static GuestRam Memory(string kind, int lengthBytes)
    {
        switch (kind)
        {
            case "memfd": return new GuestRam(lengthBytes);
            case "hugetlb":
                var huge = new SafeFd(MemfdCreate("guest", 4 | 1)); // MFD_HUGETLB
                Assert.False(huge.IsInvalid);
                return new GuestRam(huge, lengthBytes);
            default:
                string directory = kind == "tmpfs" ? "/dev/shm" : AppContext.BaseDirectory;
                string path = Path.Combine(directory, $"vhostfs-test-{Guid.NewGuid():n}");
                Assert.Equal(Errno.None, FileCalls.Open(path, FileCalls.O_RDWR | FileCalls.O_CREAT, 0x180, out SafeFd file));
                File.Delete(path);
                return new GuestRam(file, lengthBytes);
        }
    }

    private static double Rate(Neighbour first, Neighbour second, Action work)
    {
        long before = first.Answers + second.Answers;
        var clock = Stopwatch.StartNew();
        work();
        return (first.Answers + second.Answers - before) / clock.Elapsed.TotalSeconds;
    }

    [LibraryImport("libc", EntryPoint = "memfd_create", StringMarshalling = StringMarshalling.Utf8)]
    private static partial int MemfdCreate(string name, uint flags);

    /// <summary>Skipped, visibly, where the host has no huge pages to give.</summary>
    private sealed class HugePagesTheoryAttribute : TheoryAttribute
    {
        public HugePagesTheoryAttribute()
        {
            using HugePages? pages = HugePages.TryReserve(HugePageCount);
            if (pages is null) { Skip = "needs root, and 32 MiB of huge pages"; }
        }
    }

    /// <summary>Every kind of memory with every loss; huge pages, which not every host has, by themselves.</summary>
    private sealed class CombinatorialLossesAttribute : Xunit.Sdk.DataAttribute
    {
        public override IEnumerable<object[]> GetData(System.Reflection.MethodInfo testMethod) =>
            from kind in (string[])["memfd", "tmpfs", "disk"]
            from loss in Enum.GetValues<Loss>()
            select new object[] { kind, loss };
    }

    /// <summary>A guest that does nothing wrong, on a thread of its own.</summary>
    private sealed class Neighbour : IDisposable
    {
        private readonly Thread _thread;
        private readonly string _path;
        private volatile bool _stop;
        private Exception? _failure;
        private long _answers;

        public Neighbour(string path)
        {
            _path = path;
            _thread = new Thread(Work);
            _thread.Start();
        }

        public long Answers => Volatile.Read(ref _answers);

        public void Check()
        {
            Stop();
            if (_failure is { } failure) { Assert.Fail(failure.ToString()); }
        }

        public void Dispose() => Stop();

        private void Stop()
        {
            _stop = true;
            _thread.Join();
        }

        private void Work()
        {
#pragma warning disable CA1031 // told to the test by Check
            try
            {
                using FrontEnd frontEnd = FrontEnd.Up(_path);
                int mark = frontEnd.Ram.Mark;
                while (!_stop)
                {
                    frontEnd.Ram.Rewind(mark);
                    Assert.Equal(0, frontEnd.GetAttributes(frontEnd.Queues[1]));
                    Assert.Equal(-(int)Errno.ESTALE, frontEnd.GetAttributes(frontEnd.Queues[1], 1234));
                    Volatile.Write(ref _answers, _answers + 2);
                }
            }
            catch (Exception failure) { _failure = failure; }
#pragma warning restore CA1031
        }
    }

    private sealed class Collector : IDisposable
    {
        private readonly Thread _thread;
        private volatile bool _stop;

        public Collector()
        {
            _thread = new Thread(() =>
            {
                while (!_stop)
                {
                    GC.Collect();
                    Collections++;
                    Assert.Throws<NullReferenceException>(static () => _ = ((string)null!).Length); // the runtime's own faults
                    Thread.Sleep(1);
                }
            });
            _thread.Start();
        }

        public long Collections { get; private set; }

        public void Dispose()
        {
            _stop = true;
            _thread.Join();
        }
    }

    /// <summary>A file that is read through the ring.</summary>
    private sealed class ContentFile : IDisposable
    {
        public ContentFile()
        {
            Assert.Equal(Errno.None, MemoryCalls.CreateMemfd("content", sealable: false, out SafeFd fd));
            Fd = fd;
            Assert.Equal(Errno.None, FileCalls.Truncate(fd, 1 << 20));
        }

        public SafeFd Fd { get; }

        public void Dispose() => Fd.Dispose();
    }

    /// <summary>Huge pages of the host while the test runs; what was there before comes back.</summary>
    private sealed class HugePages : IDisposable
    {
        private const string Setting = "/proc/sys/vm/nr_hugepages";
        private readonly string _before;

        private HugePages(string before) => _before = before;

        public static HugePages? TryReserve(int count)
        {
            try
            {
                string before = File.ReadAllText(Setting);
                int wanted = int.Parse(before, System.Globalization.CultureInfo.InvariantCulture) + count;
                File.WriteAllText(Setting, wanted.ToString(System.Globalization.CultureInfo.InvariantCulture));
                var pages = new HugePages(before);
                if (int.Parse(File.ReadAllText(Setting), System.Globalization.CultureInfo.InvariantCulture) >= wanted) { return pages; }
                pages.Dispose();
                return null;
            }
            catch (Exception refused) when (refused is IOException or UnauthorizedAccessException or FormatException) { return null; }
        }

        public void Dispose() => File.WriteAllText(Setting, _before);
    }
}
