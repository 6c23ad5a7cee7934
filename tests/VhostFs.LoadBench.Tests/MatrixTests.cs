using System.Runtime.InteropServices;
using VhostFs.GuestDriver;
using VhostFs.LoadBench.Groups;
using VhostFs.LoadBench.Load;
using VhostFs.LoadBench.Matrix;
using VhostFs.LoadBench.Measure;

namespace VhostFs.LoadBench.Tests;

/// <summary>Jobs and comparisons on the built vhostfs: that they work, never how fast.</summary>
public sealed class MatrixTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("loadbench-test-").FullName;

    public MatrixTests() => Environment.SetEnvironmentVariable("DOTNET_ROOT", Path.GetFullPath(Path.Combine(RuntimeEnvironment.GetRuntimeDirectory(), "..", "..", "..")));

    private static string Vhostfs => Path.Combine(AppContext.BaseDirectory, "vhostfs");

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    private static LoadOptions Options(string job, params string[] sockets) => new()
    {
        Job = job,
        Sockets = sockets,
        Depth = 4,
        Seconds = 600, // never reached: operations end it
        WarmUpSeconds = 0,
        MaxOperations = 200,
        FileBytes = 1 << 20,
        Files = 30,
    };

    private VhostfsSetup Setup(string name) => new() { Name = name, Directory = _folder, PoolBytes = 256 << 20 };

    private MatrixOptions Matrix(string directory, params Group[] groups) => new()
    {
        Groups = groups,
        Vhostfs = Vhostfs,
        PeerCommand = $"{Vhostfs} serve --volume {{socket}}.img --size 256M --socket {{socket}} --rpc-socket {{socket}}.rpc",
        PeerName = "the other",
        Directory = directory,
        Name = "test",
        Depths = [1, 2],
        PoolBytes = 256 << 20,
        FileBytes = 4 << 20,
        Files = 20,
        Many = 3,
        Rounds = 2,
        Seconds = 0.01,
        ServerWarmUpSeconds = 0.01,
        SettleSeconds = 0.01,
        Cpu = 0,
        ServerCpu = 0,
        Sessions = [1, 2],
        PeerSessions = [1],
    };

    [Fact]
    public void Every_job_runs_on_a_volume()
    {
        using var server = new VhostfsServer(_folder, Vhostfs, Setup("a"));
        server.Start();
        foreach (string job in Jobs.Names.Where(j => j != "meta"))
        {
            RunResult result = Assert.Single(LoadRun.Run(Options(job, server.Socket)));
            Assert.Equal((job, 200L, 4, "irq"), (result.Job, result.Operations, result.Depth, result.Mode));
            Assert.True(result.Rate > 0 && result.LatencyUs.Max > 0 && result.ServerCpuUs > 0 && result.ServerMemoryKib.Own > 0);
        }
        Assert.Equal([("create", 30L), ("stat", 200L), ("readdirplus", 200L), ("rename", 30L), ("unlink", 30L)], LoadRun.Run(Options("meta", server.Socket)).Select(r => (r.Job, r.Operations)));
        Assert.Equal("poll", Assert.Single(LoadRun.Run(Options("randread", server.Socket) with { IsPolling = true })).Mode);
        // What jobs make for themselves is gone.
        using FrontEnd frontEnd = FrontEnd.Up(server.Socket);
        var names = new Dictionary<string, ulong>();
        Assert.Equal(Linux.Errno.None, new FuseClient(frontEnd, frontEnd.Queues[1]).List(FuseClient.Root, names));
        Assert.Equal(["loadbench.attr", "loadbench.dat"], names.Keys.Order());
    }

    [Fact]
    public void Transfers_run_on_a_disk_and_other_jobs_do_not()
    {
        string image = Path.Combine(_folder, "disk.img");
        using (FileStream file = File.Create(image)) { file.SetLength(4 << 20); }
        using var server = new VhostfsDiskServer(_folder, Vhostfs, image);
        server.Start();
        foreach (string job in Jobs.Names.Where(Jobs.IsTransfer))
        {
            RunResult result = Assert.Single(LoadRun.Run(Options(job, server.Socket) with { Device = DeviceKind.Blk, FillsDisk = true, BlockBytes = job.StartsWith("seq", StringComparison.Ordinal) ? 1 << 20 : 4096 }));
            Assert.Equal(("blk", 200L), (result.Device, result.Operations));
        }
        Assert.Throws<DriverException>(() => LoadRun.Run(Options("lookup", server.Socket) with { Device = DeviceKind.Blk }).ToList());
        server.Dispose(); // which has the image locked
        Assert.DoesNotContain((byte)0, File.ReadAllBytes(image).Take(1 << 20).Chunk(4096).Select(block => block.Max()));
    }

    [Fact]
    public void Jobs_run_on_many_queues_and_devices_at_once()
    {
        using var server = new VhostfsServer(_folder, Vhostfs, Setup("b") with { Pools = 2, Reactors = 2 });
        server.Start();
        foreach (LoadOptions options in (LoadOptions[])[Options("randwrite", server.Socket) with { Queues = 2 }, Options("getattr", [.. server.Sockets]) with { Queues = 2, Cpus = [0], ServerCpus = [0] }])
        {
            RunResult result = Assert.Single(LoadRun.Run(options));
            Assert.Equal((options.Job, 200L, 4), (result.Job, result.Operations, result.Depth));
        }
        Assert.Throws<DriverException>(() => LoadRun.Run(Options("meta", [.. server.Sockets])).ToList());
    }

    [Fact]
    public void A_comparison_measures_both_and_leaves_nothing_behind()
    {
        string directory = Directory.CreateDirectory(Path.Combine(_folder, "medium")).FullName;
        MatrixOptions options = Matrix(directory, [.. Group.All.Where(group => group.IsUsual)]);
        var raw = new StringWriter();
        Comparison comparison = new MatrixRun(options, TextWriter.Null, raw).Run();
        Assert.Equal(4 + 4 + 4 + 2 + (2 * 5), comparison.Cases.Count);
        Assert.All(comparison.Cases, c => Assert.True(c.Ours.Rate > 0 && c.Peer!.Rate > 0));
        Assert.Equal(2 * 2 * comparison.Cases.Count, raw.ToString().Split('\n', StringSplitOptions.RemoveEmptyEntries).Length);
        Assert.Equal([1, 2], comparison.OurMemory.Select(m => m.Sessions));
        Assert.True(Assert.Single(comparison.PeerMemory).Mib > 0);
        Assert.Empty(Directory.GetFileSystemEntries(directory));
    }

    /// <param name="figures">Of both servers; of ours alone.</param>
    [Theory]
    [InlineData("slow-flush", 2, 0, 0)]
    [InlineData("malloc", 6, 0, 0)]
    [InlineData("modes", 12, 0, 6)]
    [InlineData("reactors", 5, 0, 0)]
    [InlineData("many", 0, 12, 1)]
    [InlineData("start", 0, 2, 4)]
    [InlineData("controllers", 0, 0, 9)]
    [InlineData("pauses", 8, 0, 4)]
    public void Special_groups_measure_what_they_say_and_leave_nothing_behind(string name, int cases, int figures, int ourFigures)
    {
        string directory = Directory.CreateDirectory(Path.Combine(_folder, "medium")).FullName;
        Group group = Assert.Single(Group.All, group => group.Name == name);
        Comparison comparison = new MatrixRun(Matrix(directory, group) with { Device = group.Devices[0], Rounds = 1 }, TextWriter.Null, null).Run();
        Assert.Equal(cases, comparison.Cases.Count);
        Assert.All(comparison.Cases, c => Assert.True(c.Ours.Rate > 0 && c.Variant.Length > 0));
        Assert.Equal((figures, ourFigures), (comparison.Figures.Count(f => f.Peer is not null), comparison.Figures.Count(f => f.Peer is null)));
        Assert.All(comparison.Figures, f => Assert.True(f.Ours > 0 || (f.Ours == 0 && (name == "pauses" || f.What.Contains("idle", StringComparison.Ordinal))), f.What));
        Assert.Empty(Directory.GetFileSystemEntries(directory));
    }

    [Fact]
    public void A_server_that_does_not_start_ends_the_comparison_with_its_words()
    {
        using var peer = new PeerServer("the other", _folder, "sh -c 'echo out of order >&2; exit 3'", _folder, "");
        Assert.Contains("out of order", Assert.Throws<DriverException>(peer.Start).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_server_that_never_listens_is_not_waited_for_without_end()
    {
        using var peer = new PeerServer("the other", _folder, "sh -c 'echo still busy; exec sleep 60'", _folder, "") { Patience = TimeSpan.FromSeconds(0.5) };
        string message = Assert.Throws<DriverException>(peer.Start).Message;
        Assert.Contains("still busy", message, StringComparison.Ordinal);
        Assert.Contains("peer0.sock", message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_call_that_the_daemon_refuses_ends_the_comparison_with_its_words()
    {
        using var target = new VhostfsTarget(_folder, Vhostfs);
        target.Start();
        using RpcClient rpc = target.Connect();
        Assert.Contains("No such device", Assert.Throws<DriverException>(() => rpc.Call("vhost_create_blk_controller", new { ctrlr = "c", dev_name = "none" })).Message, StringComparison.Ordinal);
    }
}
