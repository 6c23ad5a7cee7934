using System.Globalization;
using System.Text.RegularExpressions;
using VhostFs.Campaigns;

namespace VhostFs.Mount.Tests.Applications;

/// <summary>RocksDB: db_bench writes keys 0, 1, 2, ... with a sync each; small buffers, so that it flushes and compacts. A database for each cut.</summary>
sealed partial class RocksDbApplication : Application
{
    private long _promised;
    private int _databases;

    public override void Prepare(MountedVolume volume)
    {
    }

    public override void WorkUntilDead(MountedVolume volume)
    {
        _databases++;
        _promised = 0;
        // Its progress goes to stderr: "... thread 0: (10,4711) ops and ...".
        using var bench = new Conversation("/bin/sh", "-c", $"exec db_bench --benchmarks=fillseq --db='{Database(volume)}' --num=100000000 --sync=1 --value_size=300 --write_buffer_size=65536 "
            + "--target_file_size_base=65536 --max_bytes_for_level_base=262144 --level0_file_num_compaction_trigger=2 --stats_interval=5 2>&1");
        while (bench.Next("") is { } line)
        {
            if (Progress().Match(line) is { Success: true } progress) { _promised = long.Parse(progress.Groups[1].ValueSpan, CultureInfo.InvariantCulture); }
        }
    }

    public override void Verify(MountedVolume volume)
    {
        if (!File.Exists(Path.Combine(Database(volume), "CURRENT")))
        {
            if (_promised > 0) { throw new FindingException($"there is no database; {_promised} writes were acknowledged"); }
            return; // cut before it was made
        }
        string database = $"--db={Database(volume)}";
        string consistent = Succeed("ldb", database, "checkconsistency");
        if (!consistent.Contains("OK", StringComparison.Ordinal)) { throw new FindingException($"ldb checkconsistency: {consistent}"); }
        string[] keys = Succeed("ldb", database, "scan", "--key_hex", "--no_value").Split('\n', StringSplitOptions.RemoveEmptyEntries);
        for (int i = 0; i < keys.Length; i++)
        {
            // The number, most significant byte first, and eight '0' as filling.
            if (!keys[i].StartsWith(string.Create(CultureInfo.InvariantCulture, $"0x{i:X16}"), StringComparison.Ordinal)) { throw new FindingException($"key {i} of {keys.Length} is {keys[i]}"); }
        }
        ExpectCount("keys", keys.Length, _promised, long.MaxValue);
        Directory.Delete(Database(volume), recursive: true);
    }

    [GeneratedRegex(@"thread 0: \(\d+,(\d+)\) ops")]
    private static partial Regex Progress();

    private string Database(MountedVolume volume) => Path.Combine(volume.MountPoint, string.Create(CultureInfo.InvariantCulture, $"rocks{_databases}"));
}
