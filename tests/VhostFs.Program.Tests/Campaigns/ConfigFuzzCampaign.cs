using System.Text;
using VhostFs.Campaigns;
using VhostFs.Config;

namespace VhostFs.ProgramTests.Campaigns;

/// <summary>Configuration files that somebody, or something, has spoiled: each is read, or refused with errors that say where.</summary>
public sealed class ConfigFuzzCampaign()
    : Campaign("config-fuzz", "configuration files", floor: 200_000, "spoiled configuration files: a configuration or errors with lines, never an exception, never much memory")
{
    /// <summary>Names the file in messages; nothing is there.</summary>
    private const string FileName = "/etc/vhostfs/config.json";
    private const int FilesPerSeed = 500;

    /// <summary>Of one parse of a text of at most <see cref="ConfigMutator.MaxBytes"/>.</summary>
    private const long MaxAllocatedBytes = 32 << 20;

    public override TimeSpan Patience => TimeSpan.FromMinutes(1);

    public override long Run(ulong seed)
    {
        var mutator = new ConfigMutator(unchecked((int)seed));
        for (int i = 0; i < FilesPerSeed; i++)
        {
            byte[] text = mutator.Next();
            try
            {
                if (Judge(text) is { } problem) { throw new FindingException($"{problem}; the file, as base64:\n{Convert.ToBase64String(text)}"); }
            }
            catch (Exception e) when (e is not FindingException)
            {
                throw new FindingException($"{e}\nThe file, as base64:\n{Convert.ToBase64String(text)}");
            }
        }
        return FilesPerSeed;
    }

    /// <summary>Null, or what is wrong with how this text was read.</summary>
    internal static string? Judge(byte[] text)
    {
        var errors = new List<ConfigError>();
        long before = GC.GetAllocatedBytesForCurrentThread();
        ServeConfig? config = ConfigFile.Parse(FileName, text, errors);
        long allocated = GC.GetAllocatedBytesForCurrentThread() - before;
        if (allocated > MaxAllocatedBytes) { return $"{text.Length} bytes of text took {allocated} bytes of memory"; }
        if ((config is null) != (errors.Count > 0)) { return config is null ? "refused without an error" : $"accepted, with an error: {errors[0]}"; }
        int lines = text.Count(b => b == '\n') + 1;
        foreach (ConfigError error in errors)
        {
            if (error.Message.Length == 0 || error.Where.Line < 1 || error.Where.Line > lines) { return $"an error that does not say what or where: {error}"; }
        }
        return config is null ? null : Contradiction(config);
    }

    /// <summary>What the rest of the program takes for granted of a configuration that was accepted.</summary>
    private static string? Contradiction(ServeConfig config)
    {
        var below = new HashSet<string>();
        foreach (BdevConfig bdev in config.Bdevs)
        {
            if (bdev.Base.Length > 0 && !below.Contains(bdev.Base)) { return $"bdev '{bdev.Name}' comes before its base"; }
            if (!below.Add(bdev.Name)) { return $"two bdevs '{bdev.Name}'"; }
            if (bdev.SizeBytes < 0 || (bdev.Kind == BdevKind.Uring && bdev.FileName.Length == 0)) { return $"bdev '{bdev.Name}' is incomplete"; }
        }
        if (config.Pools.FirstOrDefault(pool => !below.Contains(pool.BdevName)) is { } homeless) { return $"pool '{homeless.Name}' is on no bdev"; }
        if (config.Exports.Count == 0) { return "nothing is exported"; }
        foreach (ExportConfig export in config.Exports)
        {
            if (config.Pools.All(pool => pool.Name != export.Pool)) { return $"export '{export.Name}' is of no pool"; }
            if ((export.Socket.Length > 0) == (export.ListenFd >= 0)) { return $"export '{export.Name}' listens nowhere, or twice"; }
            if (export.Fuse.EntryTimeout is { } timeout && (timeout < TimeSpan.Zero || timeout > TimeSpan.FromDays(366))) { return $"export '{export.Name}' has a time-out of {timeout}"; }
        }
        IEnumerable<string> texts = [.. config.Bdevs.SelectMany(b => new[] { b.Name, b.FileName, b.Base }), .. config.Pools.SelectMany(p => p.Volumes.Append(p.Name)),
            .. config.Exports.SelectMany(e => new[] { e.Name, e.Volume, e.Socket, e.SocketGroup, e.Tag })];
        // A path ends there for the kernel: another file than the one that was written would be opened.
        return texts.FirstOrDefault(text => text.Contains('\0', StringComparison.Ordinal)) is { } cut ? $"a text with a NUL in it: '{cut.Replace('\0', '?')}'" : null;
    }
}
