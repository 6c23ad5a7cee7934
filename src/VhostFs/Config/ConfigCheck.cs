using System.Text;
using VhostFs.Fuse;

namespace VhostFs.Config;

/// <summary>What can be seen to be wrong before anything is opened: names that lead nowhere, things used twice, options that contradict.</summary>
internal static class ConfigCheck
{
    public static void Run(ServeConfig config, List<ConfigError> errors)
    {
        CheckBdevs(config, errors);
        CheckPools(config, errors);
        foreach (ExportConfig export in config.Exports) { CheckExport(config, export, errors); }
        Unique(config.Exports, e => e.Name, e => e.Where, "name", "two exports are called", errors);
        Unique(config.Exports.Where(e => e.Socket.Length > 0), e => e.Socket, e => e.Where, "socket", "two exports listen on", errors);
        Unique(config.Exports.Where(e => e.ListenFd >= 0), e => $"{e.ListenFd}", e => e.Where, "fd", "two exports use descriptor", errors);
        CheckSharing(config, errors);
    }

    /// <summary>Errors of one export that do not depend on others; also for the command line.</summary>
    public static void CheckExport(ServeConfig config, ExportConfig export, List<ConfigError> errors)
    {
        void Fail(string key, string message) => errors.Add(new ConfigError(Under(export.Where, key), message));
        if (!config.Pools.Any(p => p.Name == export.Pool))
        {
            errors.Add(new ConfigError(export.VolumeWhere, $"no such pool '{export.Pool}'; declared are {Names(config.Pools.Select(p => p.Name))}"));
        }
        if (export.Socket.Length == 0 && export.ListenFd < 0) { Fail("socket", "needs a socket path; write for example \"socket\": \"/run/vm1.sock\""); }
        if (export.ListenFd >= 0 && export.Socket.Length > 0) { Fail("fd", "a descriptor and a socket path exclude each other; keep one"); }
        if (export.ListenFd >= 0 && export.SocketGroup.Length > 0) { Fail("socket_group", "has no effect on a descriptor; whoever made the socket sets its group"); }
        if (Encoding.UTF8.GetByteCount(export.Tag) > ConfigNames.MaxTagBytes) { Fail("tag", $"'{export.Tag}' is longer than {ConfigNames.MaxTagBytes} bytes"); }
        if (OptionsError(export.Sharing, export.Fuse) is { } error) { Fail(error.Key, error.Message); }
    }

    /// <summary>Null, or the option that contradicts another.</summary>
    public static (string Key, string Message)? OptionsError(SharingMode sharing, FuseServerOptions fuse)
    {
        if (fuse.PosixAcl && !fuse.Xattr) { return ("posix_acl", "ACLs are stored as extended attributes; turn xattr on, or posix_acl off"); }
        if (fuse.SecurityLabel && !fuse.Xattr) { return ("security_label", "labels are stored as extended attributes; turn xattr on"); }
        if (fuse.Writeback && fuse.Cache == FuseCacheMode.Never) { return ("writeback", "the guest cannot collect writes with cache 'never'; choose auto, always or metadata"); }
        if (fuse.Writeback && fuse.ReadOnly) { return ("writeback", "a read-only export has no writes to collect; drop one of the two"); }
        if (sharing == SharingMode.Shared && fuse.Writeback)
        {
            return ("writeback", "with sharing 'shared' others write, too, and collected writes would undo theirs; drop writeback, or say sharing 'exclusive'");
        }
        if (sharing == SharingMode.SharedReadOnly && !fuse.ReadOnly) { return ("readonly", "sharing 'shared-ro' is for reading; leave it read-only, or say sharing 'shared'"); }
        return null;
    }

    public static string? VolumeNameError(string name)
    {
        if (Encoding.UTF8.GetByteCount(name) > ConfigNames.MaxVolumeNameBytes) { return $"'{name}' is longer than {ConfigNames.MaxVolumeNameBytes} bytes"; }
        if (name.Any(c => c == '/' || char.IsControl(c))) { return $"'{Log.OneLine(name)}' is not a volume name; use no '/' and no control characters"; }
        return name.Length == 0 ? "a volume needs a name" : null;
    }

    /// <summary>Each bdev after its base. Call it on a checked list only: it assumes there is no cycle.</summary>
    public static List<BdevConfig> BasesFirst(IReadOnlyList<BdevConfig> bdevs)
    {
        var ordered = new List<BdevConfig>(bdevs.Count);
        void Add(BdevConfig bdev)
        {
            if (ordered.Contains(bdev)) { return; }
            if (bdev.Base.Length > 0) { Add(bdevs.First(b => b.Name == bdev.Base)); }
            ordered.Add(bdev);
        }
        foreach (BdevConfig bdev in bdevs) { Add(bdev); }
        return ordered;
    }

    public static string Names(IEnumerable<string> names)
    {
        string list = string.Join(", ", names.Select(n => $"'{n}'"));
        return list.Length == 0 ? "none" : list;
    }

    private static void CheckBdevs(ServeConfig config, List<ConfigError> errors)
    {
        Unique(config.Bdevs, b => b.Name, b => b.Where, "name", "two bdevs are called", errors);
        Unique(config.Bdevs.Where(b => b.FileName.Length > 0), b => b.FileName, b => b.Where, "filename", "two bdevs open", errors);
        Unique(config.Bdevs.Where(b => b.Base.Length > 0), b => b.Base, b => b.Where, "base", "two bdevs stand on", errors);
        foreach (BdevConfig bdev in config.Bdevs.Where(b => b.Base.Length > 0))
        {
            BdevConfig? below = bdev;
            for (int steps = 0; below is { Base.Length: > 0 }; steps++)
            {
                string name = below.Base;
                below = steps > config.Bdevs.Count ? null : config.Bdevs.FirstOrDefault(b => b.Name == name);
            }
            if (below is null)
            {
                bool exists = config.Bdevs.Any(b => b.Name == bdev.Base);
                errors.Add(new ConfigError(Under(bdev.Where, "base"), exists
                    ? $"'{bdev.Base}' does not end at a real bdev: the bases go in a circle or lead nowhere"
                    : $"no such bdev '{bdev.Base}'; declared are {Names(config.Bdevs.Select(b => b.Name))}"));
            }
        }
    }

    private static void CheckPools(ServeConfig config, List<ConfigError> errors)
    {
        Unique(config.Pools, p => p.Name, p => p.Where, "name", "two pools are called", errors);
        Unique(config.Pools, p => p.BdevName, p => p.Where, "bdev", "two pools are on", errors);
        foreach (PoolConfig pool in config.Pools)
        {
            if (!config.Bdevs.Any(b => b.Name == pool.BdevName))
            {
                errors.Add(new ConfigError(Under(pool.Where, "bdev"), $"no such bdev '{pool.BdevName}'; declared are {Names(config.Bdevs.Select(b => b.Name))}"));
            }
            else if (config.Bdevs.FirstOrDefault(b => b.Base == pool.BdevName && b.Name != pool.BdevName) is { } above)
            {
                errors.Add(new ConfigError(Under(pool.Where, "bdev"), $"'{pool.BdevName}' is the base of '{above.Name}'; put the pool on '{above.Name}'"));
            }
        }
    }

    // What can be seen before anybody connects of the rule that VolumeClaims keeps.
    private static void CheckSharing(ServeConfig config, List<ConfigError> errors)
    {
        foreach (ExportConfig export in config.Exports)
        {
            ExportConfig[] others = [.. config.Exports.Where(e => e != export && e.Pool == export.Pool && e.Volume == export.Volume)];
            if (others.Length == 0) { continue; }
            if (export.Sharing == SharingMode.Exclusive)
            {
                errors.Add(new ConfigError(Under(export.Where, "sharing"), $"export '{others[0].Name}' serves the same volume; 'exclusive' is for a volume with one guest: say 'shared', or 'shared-ro' when nobody writes"));
            }
            // With the writeback cache the guest owns size and mtime: a second guest would see, and bring back, old ones.
            else if (export.Fuse.Writeback)
            {
                errors.Add(new ConfigError(Under(export.Where, "writeback"), $"export '{others[0].Name}' serves the same volume; writeback is for a volume with one guest"));
            }
            else if (export.Sharing == SharingMode.SharedReadOnly && others.FirstOrDefault(e => !e.Fuse.ReadOnly) is { } writer)
            {
                errors.Add(new ConfigError(Under(export.Where, "sharing"), $"export '{writer.Name}' may write to the same volume, and readers with 'shared-ro' never look again; make it read-only, or say 'shared' for both"));
            }
        }
    }

    private static void Unique<T>(IEnumerable<T> items, Func<T, string> value, Func<T, ConfigLocation> where, string key, string sentence, List<ConfigError> errors)
    {
        var seen = new Dictionary<string, ConfigLocation>(StringComparer.Ordinal);
        foreach (T item in items)
        {
            string text = value(item);
            if (seen.TryAdd(text, where(item))) { continue; }
            errors.Add(new ConfigError(Under(where(item), key), $"{sentence} '{text}' (the first: {seen[text].Path} on line {seen[text].Line})"));
        }
    }

    private static ConfigLocation Under(ConfigLocation where, string key) =>
        where.File.Length == 0 ? ConfigLocation.CommandLine("--" + key.Replace('_', '-')) : where with { Path = $"{where.Path}.{key}" };
}
