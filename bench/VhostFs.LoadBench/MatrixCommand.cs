using System.CommandLine;
using System.Runtime.InteropServices;
using VhostFs.GuestDriver;
using VhostFs.LoadBench.Groups;
using VhostFs.LoadBench.Load;
using VhostFs.LoadBench.Matrix;
using VhostFs.LoadBench.Report;

namespace VhostFs.LoadBench;

/// <summary><c>loadbench matrix</c>: vhostfs and a peer side by side, as tables and pictures.</summary>
internal static class MatrixCommand
{
    private const int Interrupted = 130;

    private static string OnlyHelp => $"Measure these rows instead of the usual ones ({string.Join(", ", Group.All.Where(group => group.IsUsual).Select(group => group.Name))}). {string.Concat(Group.All.Select(group => $"\n  {group.Name}: {group.What}"))}";

    public static Command New()
    {
        var vhostfs = new Option<string>("--vhostfs") { Description = "Program to measure", HelpName = "file", DefaultValueFactory = _ => "vhostfs" };
        var directory = new Option<string>("--directory") { Description = "Where files and disks are made, and go again: the medium that is measured", HelpName = "directory", DefaultValueFactory = _ => "/dev/shm" };
        var name = new Option<string>("--name") { Description = "What the results are called (default: the type of the file system, after blk- for disks)", HelpName = "name" };
        var device = new Option<DeviceKind>("--device") { Description = "What kind of device (default: fs)", HelpName = "fs|blk" };
        var only = new Option<string[]>("--only") { Description = OnlyHelp, HelpName = "group", AllowMultipleArgumentsPerToken = true };
        only.AcceptOnlyFromAmong([.. Group.All.Select(group => group.Name)]);
        var peerCommand = new Option<string>("--peer-command") { Description = "How the peer is started, with {dir}, {socket} and {image} in it (default: virtiofsd, or qemu-storage-daemon for blk)", HelpName = "command" };
        var peerName = new Option<string>("--peer-name") { Description = "What the peer is called (default: what it answers to --version)", HelpName = "name" };
        var noPeer = new Option<bool>("--no-peer") { Description = "Compare with nobody" };
        var depths = new Option<int[]>("--depths") { Description = "Requests in flight of the curves", HelpName = "n", DefaultValueFactory = _ => [1, 2, 4, 8, 16, 32, 64], AllowMultipleArgumentsPerToken = true };
        var rounds = new Option<int>("--rounds") { Description = "How often everything is measured", HelpName = "n", DefaultValueFactory = _ => 5 };
        var seconds = new Option<double>("--seconds") { Description = "How long each time", HelpName = "s", DefaultValueFactory = _ => 1 };
        var warmUp = new Option<double>("--warm-up") { Description = "How long it runs before that", HelpName = "s", DefaultValueFactory = _ => 0.3 };
        Option<long> poolBytes = Size.Option("--size", "Of the pool of vhostfs", "8G"), fileBytes = Size.Option("--file-size", "Of the file or disk that transfers go to", "1G");
        var files = new Option<int>("--files") { Description = "That meta makes, and that start finds in a pool", HelpName = "n", DefaultValueFactory = _ => 10_000 };
        var many = new Option<int>("--many") { Description = "Sessions of group many, disks of group controllers", HelpName = "n", DefaultValueFactory = _ => 1000 };
        var direct = new Option<bool?>("--direct") { Description = "Whether files are opened with O_DIRECT (default: not on tmpfs)", HelpName = "true|false" };
        var poll = new Option<bool>("--poll") { Description = "The front-end looks at the used ring all the time" };
        var cpu = new Option<int>("--cpu") { Description = "Processor of the front-end", HelpName = "n", DefaultValueFactory = _ => Environment.ProcessorCount > 1 ? 1 : 0 };
        var serverCpu = new Option<int>("--server-cpu") { Description = "Processor of the server", HelpName = "n", DefaultValueFactory = _ => 0 };
        var sessions = new Option<int[]>("--sessions") { Description = "Numbers of idle sessions to measure memory with (0: none)", HelpName = "n", DefaultValueFactory = _ => [1, 10, 100, 1000], AllowMultipleArgumentsPerToken = true };
        var peerSessions = new Option<int[]>("--peer-sessions") { Description = "The same of the peer, a process each", HelpName = "n", DefaultValueFactory = _ => [1, 4, 16], AllowMultipleArgumentsPerToken = true };
        Option<string> pictures = ReportFiles.PicturesOption(), document = ReportFiles.DocumentOption();
        var json = new Option<string>("--json") { Description = "Keep all results of all runs there, a line each, and what they come to in the last line", HelpName = "file" };
        var command = new Command("matrix", "Measure vhostfs and a peer by turns, and write tables and pictures")
        {
            vhostfs, only, directory, name, device, peerCommand, peerName, noPeer, depths, rounds, seconds, warmUp, poolBytes, fileBytes, files, many, direct, poll, cpu, serverCpu, sessions, peerSessions, pictures, document, json,
        };
        command.Validators.Add(result =>
        {
            Group? other = GroupsOf(result.GetValue(device), result.GetValue(only) ?? []).FirstOrDefault(group => !group.Devices.Contains(result.GetValue(device)));
            if (other is not null) { result.AddError($"--only {other.Name} is for --device {string.Join(" or ", other.Devices.Select(kind => kind.ToString().ToLowerInvariant()))}"); }
        });
        command.SetAction(parsed =>
        {
            string where = parsed.GetValue(directory)!, fileSystem = Machine.FileSystemOf(where);
            DeviceKind kind = parsed.GetValue(device);
            bool isDirect = parsed.GetValue(direct) ?? fileSystem != "tmpfs";
            string? peer = parsed.GetValue(noPeer) ? null : parsed.GetValue(peerCommand) ?? PeerCommands.Default(kind, isDirect);
            return Run(new MatrixOptions
            {
                Device = kind,
                Groups = GroupsOf(kind, parsed.GetValue(only) ?? []),
                Vhostfs = parsed.GetValue(vhostfs)!,
                PeerCommand = peer,
                PeerName = peer is null ? "" : parsed.GetValue(peerName) ?? PeerCommands.NameOf(peer),
                Directory = where,
                Name = parsed.GetValue(name) ?? (kind == DeviceKind.Blk ? $"blk-{fileSystem}" : fileSystem),
                Depths = parsed.GetValue(depths)!,
                PoolBytes = parsed.GetValue(poolBytes),
                FileBytes = parsed.GetValue(fileBytes),
                Files = parsed.GetValue(files),
                Many = parsed.GetValue(many),
                Rounds = parsed.GetValue(rounds),
                Seconds = parsed.GetValue(seconds),
                WarmUpSeconds = parsed.GetValue(warmUp),
                Cpu = parsed.GetValue(cpu),
                ServerCpu = parsed.GetValue(serverCpu),
                IsDirect = isDirect,
                IsPolling = parsed.GetValue(poll),
                Sessions = [.. parsed.GetValue(sessions)!.Where(n => n > 0)],
                PeerSessions = [.. parsed.GetValue(peerSessions)!.Where(n => n > 0)],
            }, parsed.GetValue(pictures), parsed.GetValue(document), parsed.GetValue(json));
        });
        return command;
    }

    private static Group[] GroupsOf(DeviceKind device, string[] names) =>
        [.. Group.All.Where(group => names.Length == 0 ? group.IsUsual && group.Devices.Contains(device) : names.Contains(group.Name))];

    private static int Run(MatrixOptions options, string? pictures, string? document, string? json)
    {
        try
        {
            using var stop = new CancellationTokenSource();
            // Files and servers of the run go before the program does.
            void Stop(PosixSignalContext signal) => (signal.Cancel, _) = (true, stop.CancelAsync());
            using var interrupt = PosixSignalRegistration.Create(PosixSignal.SIGINT, Stop);
            using var terminate = PosixSignalRegistration.Create(PosixSignal.SIGTERM, Stop);
            using StreamWriter? raw = json is null ? null : new StreamWriter(json);
            Comparison comparison = new MatrixRun(options, Console.Error, raw, stop.Token).Run();
            raw?.WriteLine(ComparisonFile.Line(comparison));
            ReportFiles.Write(comparison, Console.Out, pictures, document);
            return 0;
        }
        catch (OperationCanceledException) { return Interrupted; }
        catch (Exception e) when (e is DriverException or IOException or UnauthorizedAccessException)
        {
            Console.Error.WriteLine($"loadbench: {e.Message}");
            return 1;
        }
    }
}
