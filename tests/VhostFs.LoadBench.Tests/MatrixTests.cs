using System.Runtime.InteropServices;
using VhostFs.GuestDriver;
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

    private static LoadOptions Options(string job, string socket, bool isPolling = false) => new()
    {
        Job = job,
        Socket = socket,
        Depth = 4,
        Seconds = 600, // never reached: operations end it
        WarmUpSeconds = 0,
        MaxOperations = 200,
        FileBytes = 1 << 20,
        Files = 30,
        IsPolling = isPolling,
    };

    [Fact]
    public void Every_job_runs_on_a_volume()
    {
        using var server = new VhostfsFileServer(_folder, Vhostfs, Path.Combine(_folder, "a.img"), 256 << 20);
        server.Start();
        foreach (string job in Jobs.Names.Where(j => j != "meta"))
        {
            RunResult result = Assert.Single(LoadRun.Run(Options(job, server.Socket)));
            Assert.Equal((job, 200L, 4, "irq"), (result.Job, result.Operations, result.Depth, result.Mode));
            Assert.True(result.Rate > 0 && result.LatencyUs.Max > 0 && result.ServerCpuUs > 0 && result.ServerMemoryKib.Own > 0);
        }
        Assert.Equal([("create", 30L), ("stat", 200L), ("readdirplus", 200L), ("rename", 30L), ("unlink", 30L)], LoadRun.Run(Options("meta", server.Socket)).Select(r => (r.Job, r.Operations)));
        Assert.Equal("poll", Assert.Single(LoadRun.Run(Options("randread", server.Socket, isPolling: true))).Mode);
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
    public void A_comparison_measures_both_and_leaves_nothing_behind()
    {
        string directory = Directory.CreateDirectory(Path.Combine(_folder, "medium")).FullName;
        var options = new MatrixOptions
        {
            Vhostfs = Vhostfs,
            PeerCommand = $"{Vhostfs} serve --volume {{image}} --size 256M --socket {{socket}} --rpc-socket {_folder}/peer-rpc.sock",
            PeerName = "the other",
            Directory = directory,
            Name = "test",
            Depths = [1, 2],
            PoolBytes = 256 << 20,
            FileBytes = 4 << 20,
            Files = 20,
            Rounds = 2,
            Seconds = 0.01,
            ServerWarmUpSeconds = 0.01,
            Cpu = 0,
            ServerCpu = 0,
            Sessions = [1, 2],
            PeerSessions = [1],
        };
        var raw = new StringWriter();
        Comparison comparison = new MatrixRun(options, TextWriter.Null, raw).Run();
        Assert.Equal(4 + 2 + 3 + 5, comparison.Cases.Count);
        Assert.All(comparison.Cases, c => Assert.True(c.Ours.Rate > 0 && c.Peer!.Rate > 0));
        Assert.Equal(2 * 2 * comparison.Cases.Count, raw.ToString().Split('\n', StringSplitOptions.RemoveEmptyEntries).Length);
        Assert.Equal([1, 2], comparison.OurMemory.Select(m => m.Sessions));
        Assert.True(Assert.Single(comparison.PeerMemory).Mib > 0);
        Assert.Empty(Directory.GetFileSystemEntries(directory));
    }

    [Fact]
    public void A_server_that_does_not_start_ends_the_comparison_with_its_words()
    {
        using var peer = new PeerServer("the other", _folder, "sh -c 'echo out of order >&2; exit 3'", _folder, "");
        Assert.Contains("out of order", Assert.Throws<DriverException>(peer.Start).Message, StringComparison.Ordinal);
    }
}
