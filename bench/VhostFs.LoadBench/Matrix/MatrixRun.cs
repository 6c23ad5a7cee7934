using System.Globalization;
using VhostFs.LoadBench.Groups;
using VhostFs.LoadBench.Load;
using VhostFs.LoadBench.Measure;

namespace VhostFs.LoadBench.Matrix;

/// <summary>A comparison, from its first file to its last.</summary>
/// <param name="progress">A line per run.</param>
/// <param name="raw">A line of JSON per run; null: nobody wants them.</param>
/// <param name="stop">Ends it before the next run, with an exception.</param>
internal sealed class MatrixRun(MatrixOptions options, TextWriter progress, TextWriter? raw, CancellationToken stop = default)
{
    public Comparison Run()
    {
        string sockets = Directory.CreateTempSubdirectory("loadbench-").FullName;
        string files = Directory.CreateDirectory(Path.Combine(options.Directory, $"loadbench-{Environment.ProcessId}")).FullName;
        try { return Run(sockets, files); }
        finally
        {
            Directory.Delete(sockets, recursive: true);
            Directory.Delete(files, recursive: true);
        }
    }

    private Comparison Run(string sockets, string files)
    {
        string machine = Machine.Describe(), loadBefore = MachineTime.LoadAverage;
        var results = new Results(progress, raw);
        using (var rig = new Rig(options, sockets, files, results, stop))
        {
            foreach (Group group in options.Groups)
            {
                progress.WriteLine($"{group.Name}: {group.What}");
                group.Run(rig);
            }
        }
        return new Comparison(options.Name, "vhostfs", options.PeerName, $"{machine}; load average {loadBefore} before, {MachineTime.LoadAverage} after; others used {results.Others} of a processor", Method(),
            results.Cases, results.Figures, results.OurMemory, results.PeerMemory);
    }

    private string Method() => string.Create(CultureInfo.InvariantCulture,
        $"Medians of {options.Rounds} rounds of {options.Seconds} s, by turns; the front-end {(options.IsPolling ? "polls" : "sleeps until it is called")}, on processor {options.Cpu}, the server on {options.ServerCpu}; {(options.Device == DeviceKind.Blk ? "a disk" : "a file")} of {Size.Text(options.FileBytes)}{(options.IsDirect ? ", opened with O_DIRECT" : "")}");
}
