using VhostFs.Bdev;
using VhostFs.Reactor;

namespace VhostFs.Config;

/// <summary>The configuration file of <c>serve</c>; its schema is in docs/operations.md. This reads; <see cref="ConfigCheck"/> looks for contradictions.</summary>
internal static class ConfigFile
{
    private const long MaxFileBytes = 16 << 20;

    /// <summary>Null when there is anything wrong; <paramref name="errors"/> then names everything.</summary>
    /// <param name="serves">The file is to say what is served: without an export it is wrong.</param>
    public static ServeConfig? Load(string path, List<ConfigError> errors, bool serves = true)
    {
        var where = new ConfigLocation(path, 1, "");
        byte[] text;
        try
        {
            if (Directory.Exists(path))
            {
                errors.Add(new ConfigError(where, "is a directory; name a configuration file"));
                return null;
            }
            if (new FileInfo(path) is { Exists: true, Length: > MaxFileBytes })
            {
                errors.Add(new ConfigError(where, $"is larger than {Sizes.Human(MaxFileBytes)}: not a configuration file; to serve a disk image, write --volume {path}"));
                return null;
            }
            text = File.ReadAllBytes(path);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            errors.Add(new ConfigError(where, e is FileNotFoundException or DirectoryNotFoundException ? "no such file" : e.Message));
            return null;
        }
        return Parse(path, text, errors, serves);
    }

    /// <param name="file">The name for messages; relative paths in the text are relative to its directory.</param>
    public static ServeConfig? Parse(string file, ReadOnlySpan<byte> text, List<ConfigError> errors, bool serves = true)
    {
        if (ConfigParser.Parse(file, text, errors) is not { } root) { return null; }
        string directory = Path.GetDirectoryName(Path.GetFullPath(file)) ?? "/";
        var section = new ConfigSection(root, errors);
        var bdevs = section.List("bdevs").Select(s => ReadBdev(s, directory)).ToList();
        var pools = section.List("pools").Select(ReadPool).ToList();
        var config = new ServeConfig
        {
            LogLevel = section.Has("log_level") ? section.Choice("log_level", LogLevel.Info, ConfigNames.LogLevels) : null,
            Reactors = section.Count("reactors", otherwise: 1, least: 1, most: 256),
            ReactorMode = section.Choice("reactor_mode", ReactorMode.Adaptive, ConfigNames.ReactorModes),
            Bdevs = bdevs,
            Pools = pools,
            Exports = section.List("exports").Select(s => ReadExport(s, directory, pools)).ToList(),
        };
        section.End();
        if (errors.Count > 0) { return null; } // names that could not be read would only cause more messages
        if (serves && config.Exports.Count == 0) { errors.Add(new ConfigError(new ConfigLocation(file, 1, "exports"), "nothing to serve; declare at least one export with a volume and a socket")); }
        ConfigCheck.Run(config, errors);
        return errors.Count == 0 ? config with { Bdevs = ConfigCheck.BasesFirst(bdevs) } : null;
    }

    private static BdevConfig ReadBdev(ConfigSection section, string directory)
    {
        var bdev = new BdevConfig
        {
            Where = section.Where,
            Name = section.RequiredText("name", "disk0"),
            Kind = section.Choice("kind", BdevKind.Uring, ConfigNames.BdevKinds),
        };
        bdev = bdev.Kind switch
        {
            BdevKind.Uring => bdev with
            {
                FileName = Path.Combine(directory, section.RequiredText("filename", "/var/lib/vhostfs/disk0.img")),
                Cache = section.Choice("cache", BdevCache.Auto, ConfigNames.BdevCaches),
                SizeBytes = section.Size("size"),
            },
            BdevKind.Malloc or BdevKind.Null => bdev with { SizeBytes = section.Size("size") },
            BdevKind.Delay => bdev with
            {
                Base = section.RequiredText("base", "disk0"),
                ReadDelayUs = section.Count("read_us", 0, 0, 60_000_000),
                WriteDelayUs = section.Count("write_us", 0, 0, 60_000_000),
                FlushDelayUs = section.Count("flush_us", 0, 0, 60_000_000),
            },
            BdevKind.Volatile => bdev with
            {
                Base = section.RequiredText("base", "disk0"),
                Seed = section.Count("seed", 1, 0, int.MaxValue),
                EarlyPercent = section.Count("early_percent", 20, 0, 100),
            },
            _ => bdev with
            {
                Base = section.RequiredText("base", "disk0"),
                ErrorOperations = section.Choice("fail", BdevOperations.All, ConfigNames.BdevOperations),
                ErrorSkip = section.Count("skip", 0, 0, int.MaxValue),
                ErrorCount = section.Count("count", 0, 0, int.MaxValue),
            },
        };
        if (bdev.Kind is BdevKind.Malloc or BdevKind.Null && bdev.SizeBytes == 0)
        {
            section.Fail(section.At("size"), "a memory bdev needs a size; write for example \"size\": \"256M\"");
        }
        section.End();
        return bdev;
    }

    private static PoolConfig ReadPool(ConfigSection section)
    {
        var volumes = new List<string>();
        foreach (ConfigSection volume in section.List("volumes"))
        {
            string name = volume.RequiredText("name", "web");
            if (name.Length > 0 && ConfigCheck.VolumeNameError(name) is { } error) { volume.Fail(volume.At("name"), error); }
            if (volumes.Contains(name)) { volume.Fail(volume.At("name"), $"'{name}' is declared twice in this pool"); }
            volumes.Add(name);
            volume.End();
        }
        var pool = new PoolConfig
        {
            Where = section.Where,
            Name = section.RequiredText("name", "pool0"),
            BdevName = section.RequiredText("bdev", "disk0"),
            Create = section.Flag("create", false),
            Volumes = volumes,
        };
        if (pool.Name.Contains('/', StringComparison.Ordinal)) { section.Fail(section.At("name"), "must not contain '/': exports name a volume as pool/volume"); }
        section.End();
        return pool;
    }

    private static ExportConfig ReadExport(ConfigSection section, string directory, List<PoolConfig> pools)
    {
        string written = section.RequiredText("volume", "pool0/web");
        int slash = written.IndexOf('/', StringComparison.Ordinal);
        string pool = slash >= 0 ? written[..slash] : pools.Count == 1 ? pools[0].Name : "";
        string volume = written[(slash + 1)..];
        if (written.Length > 0 && pool.Length == 0) { section.Fail(section.At("volume"), $"which pool? write \"pool/{volume}\"; pools here: {ConfigCheck.Names(pools.Select(p => p.Name))}"); }
        string socket = section.OptionalText("socket") ?? "";
        FuseWishes wishes = FuseSection.Read(section);
        var export = new ExportConfig
        {
            Where = section.Where,
            VolumeWhere = section.At("volume"),
            Name = section.OptionalText("name") ?? volume,
            Pool = pool,
            Volume = volume,
            Socket = socket.Length == 0 ? "" : Path.Combine(directory, socket),
            SocketGroup = section.OptionalText("socket_group") ?? "",
            ListenFd = section.Count("fd", -1, 0, 1 << 20),
            Tag = section.OptionalText("tag") ?? "",
            Sharing = wishes.Sharing,
            Fuse = wishes.Settle(),
        };
        section.End();
        return export;
    }
}
