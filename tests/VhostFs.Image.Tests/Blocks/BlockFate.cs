using VhostFs.Blobstore.Check;
using VhostFs.Crash.Tests.Explorer;
using VhostFs.Image.Tests.Images;

namespace VhostFs.Image.Tests.Blocks;

/// <summary>What the engine did with a damaged block.</summary>
internal enum Fate
{
    /// <summary>Everything reads as before.</summary>
    Unharmed,

    /// <summary>The same; the engine says that a copy was bad, and after the next opening and closing it is whole again.</summary>
    Repaired,

    /// <summary>What needs the block is answered with an error, everything else reads as before.</summary>
    ReadError,

    /// <summary>The end of the log counts as torn: the volume is as it was a moment earlier.</summary>
    TailDropped,
    VolumeRefused,
    PoolRefused,
}

/// <summary>What the checker said.</summary>
internal enum Verdict
{
    Silent,
    Warning,
    Error,
}

/// <summary>Tells what became of an image, and that nothing wrong was handed out.</summary>
internal sealed class BlockJudge
{
    private static readonly CheckOptions s_options = new() { VerifyFreeClusters = true };

    private readonly Dictionary<string, Dictionary<string, string>> _sound;

    /// <summary>Contents of "a" that a power cut may leave.</summary>
    private readonly List<Dictionary<string, string>> _earlier = [];

    public BlockJudge(DiskImage image, BlockMap map)
    {
        image.Reset();
        using (var bdev = new ImageBdev(image)) { _sound = ImageRun.Of(bdev, s_options).Contents; }
        int[] tail = [.. map.Of(BlockKind.LogTailBatch, 1)];
        for (int first = 0; first < tail.Length; first++)
        {
            image.Reset();
            image.Clear((long)tail[first] * DiskFormat.BlockBytes, DiskFormat.BlockBytes);
            using var bdev = new ImageBdev(image);
            _earlier.Add(ImageRun.Of(bdev, s_options).Contents["a"]);
        }
    }

    /// <exception cref="InvalidOperationException">Something wrong was handed out, or more than one volume suffers.</exception>
    public (Fate Fate, Verdict Verdict) Judge(BlockDamage damage, DiskImage image)
    {
        ImageRun run;
        using (var bdev = damage.Apply(image)) { run = ImageRun.Of(bdev, s_options); }
        Verdict verdict = run.Check.IsClean ? run.Check.WarningCount > 0 ? Verdict.Warning : Verdict.Silent : Verdict.Error;
        return (FateOf(run, damage), verdict);
    }

    private Fate FateOf(ImageRun run, BlockDamage damage)
    {
        if (run.PoolError is not null) { return Fate.PoolRefused; }
        string neighbour = damage.Owner == 2 ? "a" : "b", affected = damage.Owner == 2 ? "b" : "a";
        if (run.VolumeErrors[neighbour] is { } refused) { throw new InvalidOperationException($"the other volume was refused: {refused}"); }
        if (Difference(_sound[neighbour], run.Contents[neighbour]) is { } harmed) { throw new InvalidOperationException($"the other volume has changed: {harmed}"); }
        if (run.VolumeErrors[affected] is not null) { return Fate.VolumeRefused; }
        Dictionary<string, string> content = run.Contents[affected];
        if (Difference(_sound[affected], content) is { } wrong)
        {
            return _earlier.Any(earlier => Difference(earlier, content) is null) ? Fate.TailDropped : throw new InvalidOperationException($"wrong data was handed out: {wrong}");
        }
        if (content.Values.Any(IsError)) { return run.Reports.Count > 0 || damage.Corruption == Corruption.Unreadable ? Fate.ReadError : throw new InvalidOperationException("an error that nobody reported"); }
        if (run.Closed != Linux.Errno.None) { throw new InvalidOperationException($"everything reads well, but closing failed: {run.Closed}"); }
        CheckReport after = run.CheckAfter!;
        if (damage.Kind != BlockKind.FreeCluster && damage.Corruption != Corruption.Unreadable && (!after.IsClean || after.WarningCount > 0))
        {
            throw new InvalidOperationException($"opening and closing did not make it whole: {string.Join("; ", after.Findings)}");
        }
        return run.Reports.Count > 0 ? Fate.Repaired : Fate.Unharmed;
    }

    /// <summary>Null: what can be read is what there was. An error is no difference, nor is that names below it are missing.</summary>
    private static string? Difference(Dictionary<string, string> sound, Dictionary<string, string> found)
    {
        foreach ((string path, string value) in found)
        {
            if (path.EndsWith('*') || IsError(value)) { continue; }
            if (!sound.TryGetValue(path, out string? expected)) { return $"{path} was not there"; }
            if (expected != value) { return $"{path} is '{value}', it was '{expected}'"; }
        }
        foreach (string path in sound.Keys)
        {
            if (found.ContainsKey(path)) { continue; }
            bool isExcused = found.Any(entry => IsError(entry.Value) && (entry.Key.EndsWith('*') ? path.StartsWith(entry.Key[..^1], StringComparison.Ordinal) : path.StartsWith(entry.Key, StringComparison.Ordinal)));
            if (!isExcused) { return $"{path} is gone"; }
        }
        return null;
    }

    private static bool IsError(string value) => value.StartsWith('E');
}
