using System.CommandLine;
using VhostFs.GuestDriver;
using VhostFs.LoadBench.Load;
using VhostFs.LoadBench.Measure;

namespace VhostFs.LoadBench;

/// <summary><c>loadbench run</c>: one job on a device that is being served.</summary>
internal static class RunCommand
{
    public static Command New()
    {
        var job = new Argument<string>("job") { Description = "What is done again and again" };
        job.AcceptOnlyFromAmong(Jobs.Names);
        var socket = new Option<string[]>("--socket") { Description = "vhost-user socket of the device, or of several for all at once", HelpName = "path", Required = true, AllowMultipleArgumentsPerToken = true };
        var device = new Option<DeviceKind>("--device") { Description = "What kind of device it is (default: fs)", HelpName = "fs|blk" };
        var queues = new Option<int>("--queues") { Description = "Of each device, with a thread of this program for each", HelpName = "n", DefaultValueFactory = _ => 1 };
        var depth = new Option<int>("--qd") { Description = "Operations in flight on each queue", HelpName = "n", DefaultValueFactory = _ => 1 };
        Option<long> block = Size.Option("--bs", "Bytes of a transfer", "4k"), fileBytes = Size.Option("--file-size", "Of the file, or of the part of the disk, that transfers go to", "1G");
        var seconds = new Option<double>("--seconds") { Description = "How long is measured", HelpName = "s", DefaultValueFactory = _ => 5 };
        var warmUp = new Option<double>("--warm-up") { Description = "How long it runs before that", HelpName = "s", DefaultValueFactory = _ => 0.5 };
        var operations = new Option<long>("--operations") { Description = "End after so many, if that is earlier", HelpName = "n" };
        var poll = new Option<bool>("--poll") { Description = "Look at the used ring all the time (default: sleep until the device calls)" };
        var cpu = new Option<int[]>("--cpu") { Description = "Processors of this program's threads, one after the other (default: any)", HelpName = "n", AllowMultipleArgumentsPerToken = true };
        var serverCpu = new Option<int[]>("--server-cpu") { Description = "Processor that the server is put on, or several for its serving threads (default: any)", HelpName = "n", AllowMultipleArgumentsPerToken = true };
        var pid = new Option<int>("--pid") { Description = "Process whose time and memory are taken (default: who listens on the socket), with its children", HelpName = "pid" };
        var direct = new Option<bool>("--direct") { Description = "Open the file with O_DIRECT" };
        var fill = new Option<bool>("--fill") { Description = "Write a disk from end to end first" };
        var files = new Option<int>("--files") { Description = "That job meta makes", HelpName = "n", DefaultValueFactory = _ => 5000 };
        var queueSize = new Option<int>("--queue-size") { Description = "Of the virtqueue", HelpName = "n", DefaultValueFactory = _ => 512 };
        var json = new Option<bool>("--json") { Description = "A line of JSON on standard output for each result; the one for people goes to standard error" };
        var command = new Command("run", "Run one job on a device that is being served, and say how fast it was")
        {
            job, socket, device, queues, depth, block, fileBytes, seconds, warmUp, operations, poll, cpu, serverCpu, pid, direct, fill, files, queueSize, json,
        };
        command.SetAction(parsed => Run(new LoadOptions
        {
            Job = parsed.GetValue(job)!,
            Sockets = parsed.GetValue(socket)!,
            Device = parsed.GetValue(device),
            Queues = parsed.GetValue(queues),
            Depth = parsed.GetValue(depth),
            BlockBytes = checked((int)parsed.GetValue(block)),
            FileBytes = parsed.GetValue(fileBytes),
            Seconds = parsed.GetValue(seconds),
            WarmUpSeconds = parsed.GetValue(warmUp),
            MaxOperations = parsed.GetValue(operations),
            IsPolling = parsed.GetValue(poll),
            Cpus = parsed.GetValue(cpu) ?? [],
            ServerCpus = parsed.GetValue(serverCpu) ?? [],
            ServerProcess = parsed.GetValue(pid),
            IsDirect = parsed.GetValue(direct),
            FillsDisk = parsed.GetValue(fill),
            Files = parsed.GetValue(files),
            QueueSize = parsed.GetValue(queueSize),
        }, parsed.GetValue(json)));
        return command;
    }

    private static int Run(LoadOptions options, bool isJson)
    {
        try
        {
            foreach (RunResult result in LoadRun.Run(options))
            {
                (isJson ? Console.Error : Console.Out).WriteLine(result);
                if (isJson) { Console.Out.WriteLine(result.ToJson()); }
            }
            return 0;
        }
        catch (DriverException e)
        {
            Console.Error.WriteLine($"loadbench: {e.Message}");
            return 1;
        }
    }
}
