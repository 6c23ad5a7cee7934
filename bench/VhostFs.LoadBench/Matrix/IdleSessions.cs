using System.Diagnostics;
using System.Text.Json;
using VhostFs.GuestDriver;
using VhostFs.LoadBench.Measure;

namespace VhostFs.LoadBench.Matrix;

/// <summary>Memory of servers whose guests have mounted and do nothing: of vhostfs one process with a volume for each, of the peer a process for each.</summary>
internal static class IdleSessions
{
    // Of a guest; what it takes is not the server's.
    private const int RamBytes = 256 << 10, QueueSize = 128;
    private const long BytesPerVolume = 32 << 20;
    // What a start leaves behind has been given back by then.
    private static readonly TimeSpan s_settles = TimeSpan.FromSeconds(2);

    public static SessionMemory OfVhostfs(int sessions, string program, string folder, string image)
    {
        using var server = new VhostfsManyServer(folder, program, image, sessions, Math.Max(1L << 30, sessions * BytesPerVolume));
        server.Start();
        try { return Measure(Enumerable.Range(0, sessions).Select(server.SocketOf), () => new ServerProcess(server.ProcessId).Memory); }
        finally
        {
            server.Dispose();
            File.Delete(image);
        }
    }

    public static SessionMemory OfPeer(int sessions, PeerServer server)
    {
        var processes = new List<Process>();
        IEnumerable<string> sockets = Enumerable.Range(0, sessions).Select(i =>
        {
            processes.Add(server.Start($"p{i}.sock"));
            return server.Socket;
        });
        try { return Measure(sockets, () => processes.Select(p => new ServerProcess(p.Id).Memory).Aggregate((a, b) => a + b)); }
        finally { server.Finish(); }
    }

    private static SessionMemory Measure(IEnumerable<string> sockets, Func<ServerMemory> memory)
    {
        var guests = new List<FrontEnd>();
        try
        {
            foreach (string socket in sockets) { guests.Add(Mount(socket)); }
            Thread.Sleep(s_settles);
            return new SessionMemory(guests.Count, memory().Own / 1024.0);
        }
        finally { guests.ForEach(g => g.Dispose()); }
    }

    private static FrontEnd Mount(string socket)
    {
        FrontEnd frontEnd = FrontEnd.Connect(socket, new GuestRam(RamBytes));
        frontEnd.Agree();
        Expect.Equal(0UL, frontEnd.SetMemoryTable());
        frontEnd.AddQueue(0, QueueSize);
        frontEnd.AddQueue(1, QueueSize);
        frontEnd.Init();
        Expect.Equal(0, frontEnd.GetAttributes(frontEnd.Queues[1]));
        return frontEnd;
    }

    /// <summary>vhostfs with a pool of many volumes.</summary>
    private sealed class VhostfsManyServer(string folder, string program, string image, int count, long poolBytes) : Server("vhostfs", folder)
    {
        public int ProcessId { get; private set; }

        public string SocketOf(int volume) => Path.Combine(Folder, $"v{volume}.sock");

        public override void Start()
        {
            string config = Path.Combine(Folder, "config.json");
            File.WriteAllText(config, JsonSerializer.Serialize(new
            {
                log_level = "warn",
                bdevs = new[] { new { name = "disk", filename = image, size = poolBytes.ToString(System.Globalization.CultureInfo.InvariantCulture) } },
                pools = new[] { new { name = "pool", bdev = "disk", create = true, volumes = Enumerable.Range(0, count).Select(i => new { name = $"v{i}" }) } },
                exports = Enumerable.Range(0, count).Select(i => new { volume = $"pool/v{i}", socket = SocketOf(i) }),
            }));
            Process process = Launch($"{Quote(program)} serve {Quote(config)} --rpc-socket {Quote(Path.Combine(Folder, "rpc.sock"))}");
            ProcessId = process.Id;
            Socket = SocketOf(count - 1);
            WaitForSocket(process);
        }

        public override void Finish()
        {
        }
    }
}
