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

/// <summary>The process behind a socket, with its children: some back-ends listen in one process and serve in another.</summary>
internal sealed class ServerProcess(int process)
{
    private readonly int[] _tree = Tree(process);

    public long ProcessorNs => _tree.Sum(Libc.ProcessorNs);

    public ServerMemory Memory => _tree.Aggregate(default(ServerMemory), (sum, id) => sum + MemoryOf(id));

    /// <summary>All threads that there are; those to come inherit it.</summary>
    public void Pin(int cpu)
    {
        foreach (int id in _tree)
        {
            foreach (string thread in Directory.GetDirectories($"/proc/{id}/task")) { Libc.SetAffinity(int.Parse(Path.GetFileName(thread), CultureInfo.InvariantCulture), Libc.MaskOf(cpu)); }
        }
    }

    private static int[] Tree(int root)
    {
        var children = new Dictionary<int, List<int>>();
        foreach (string path in Directory.GetDirectories("/proc"))
        {
            if (!int.TryParse(Path.GetFileName(path), NumberStyles.None, CultureInfo.InvariantCulture, out int id) || ParentOf(id) is not { } parent) { continue; }
            if (!children.TryGetValue(parent, out List<int>? siblings)) { children[parent] = siblings = []; }
            siblings.Add(id);
        }
        var tree = new List<int> { root };
        for (int i = 0; i < tree.Count; i++) { tree.AddRange(children.GetValueOrDefault(tree[i], [])); }
        return [.. tree];
    }

    // proc(5), stat: the name in field 2 may hold anything, a bracket too; the parent is the second field behind it.
    private static int? ParentOf(int process)
    {
        try { return int.Parse(File.ReadAllText($"/proc/{process}/stat").Split(')')[^1].Split(' ')[2], CultureInfo.InvariantCulture); }
        catch (IOException) { return null; } // has ended
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
