using System.Globalization;

namespace VhostFs.LoadBench.Measure;

/// <summary>Memory of a process in KiB, as /proc/PID/smaps_rollup has it.</summary>
/// <param name="Pss">Its proportional share of everything it maps.</param>
/// <param name="Private">Mapped by nobody else.</param>
/// <param name="Anonymous">Of the share: heap and stacks.</param>
/// <param name="File">Of the share: programs and libraries.</param>
/// <param name="Shared">Of the share: memory of guests, and files on tmpfs.</param>
internal readonly record struct ServerMemory(long Pss, long Private, long Anonymous, long File, long Shared)
{
    /// <summary>What the process costs beside its guests' memory.</summary>
    public long Own => Anonymous + File;

    public static ServerMemory operator +(ServerMemory a, ServerMemory b) =>
        new(a.Pss + b.Pss, a.Private + b.Private, a.Anonymous + b.Anonymous, a.File + b.File, a.Shared + b.Shared);
}

/// <summary>The processes behind one socket or several, with their children: some back-ends listen in one process and serve in another.</summary>
internal sealed class ServerProcess
{
    private readonly int[][] _trees;
    private readonly int[] _all;

    public ServerProcess(params IEnumerable<int> processes)
    {
        ILookup<int, int> children = Children();
        _trees = [.. processes.Distinct().Select(root => Tree(root, children))];
        _all = [.. _trees.SelectMany(tree => tree).Distinct()];
    }

    public long ProcessorNs => _all.Sum(Libc.ProcessorNs);

    public ServerMemory Memory => _all.Aggregate(default(ServerMemory), (sum, id) => sum + MemoryOf(id));

    /// <summary>How often each of its threads has gone to sleep so far. One that is idle has nothing to wake up for.</summary>
    public Dictionary<string, long> Sleeps => _all.SelectMany(Threads).ToDictionary(thread => thread, SleepsOf);

    /// <summary>Since then, of the threads that there still are.</summary>
    public long SleepsSince(Dictionary<string, long> before) => Sleeps.Sum(now => now.Value - before.GetValueOrDefault(now.Key));

    /// <summary>All threads that there are; those to come inherit it. Of several processes, or of several threads that serve in one, each is put on the next of the processors.</summary>
    public void Pin(IReadOnlyList<int> cpus)
    {
        for (int i = 0; i < _trees.Length; i++)
        {
            foreach (string thread in _trees[i].SelectMany(Threads))
            {
                int place = _trees.Length > 1 ? i : ReactorOf(thread);
                Libc.SetAffinity(int.Parse(Path.GetFileName(thread), CultureInfo.InvariantCulture), Libc.MaskOf(cpus[place % cpus.Count]));
            }
        }
    }

    private static IEnumerable<string> Threads(int process)
    {
        try { return Directory.GetDirectories($"/proc/{process}/task"); }
        catch (DirectoryNotFoundException) { return []; } // has ended
    }

    // vhostfs calls its serving threads "reactor 0", "reactor 1", ...; all other threads count as the first.
    private static int ReactorOf(string thread)
    {
        string[] words = Read($"{thread}/comm").Trim().Split(' ');
        return words is ["reactor", var number] && int.TryParse(number, NumberStyles.None, CultureInfo.InvariantCulture, out int reactor) ? reactor : 0;
    }

    private static long SleepsOf(string thread)
    {
        const string field = "voluntary_ctxt_switches:";
        string? line = Read($"{thread}/status").Split('\n').FirstOrDefault(l => l.StartsWith(field, StringComparison.Ordinal));
        return line is null ? 0 : long.Parse(line[field.Length..], CultureInfo.InvariantCulture);
    }

    private static string Read(string path)
    {
        try { return File.ReadAllText(path); }
        catch (IOException) { return ""; } // has ended
    }

    private static int[] Tree(int root, ILookup<int, int> children)
    {
        var tree = new List<int> { root };
        for (int i = 0; i < tree.Count; i++) { tree.AddRange(children[tree[i]]); }
        return [.. tree];
    }

    private static ILookup<int, int> Children() => Directory.GetDirectories("/proc")
        .Select(path => int.TryParse(Path.GetFileName(path), NumberStyles.None, CultureInfo.InvariantCulture, out int id) ? id : 0)
        .Select(id => (Id: id, Parent: id == 0 ? null : ParentOf(id)))
        .Where(process => process.Parent is not null)
        .ToLookup(process => process.Parent!.Value, process => process.Id);

    // proc(5), stat: the name in field 2 may hold anything, a bracket too; the parent is the second field behind it.
    private static int? ParentOf(int process)
    {
        string stat = Read($"/proc/{process}/stat");
        return stat.Length == 0 ? null : int.Parse(stat.Split(')')[^1].Split(' ')[2], CultureInfo.InvariantCulture);
    }

    private static ServerMemory MemoryOf(int process)
    {
        var kib = new Dictionary<string, long>();
        foreach (string line in File.ReadLines($"/proc/{process}/smaps_rollup").Skip(1))
        {
            string[] words = line.Split(' ', StringSplitOptions.RemoveEmptyEntries);
            kib[words[0]] = long.Parse(words[1], CultureInfo.InvariantCulture);
        }
        return new ServerMemory(kib["Pss:"], kib["Private_Clean:"] + kib["Private_Dirty:"], kib["Pss_Anon:"], kib["Pss_File:"], kib["Pss_Shmem:"]);
    }
}
