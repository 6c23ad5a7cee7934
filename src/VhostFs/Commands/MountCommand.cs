using System.CommandLine;
using VhostFs.Config;
using VhostFs.FuseDev;
using VhostFs.Hosting;

namespace VhostFs.Commands;

/// <summary><c>vhostfs mount</c>: a volume on this host, served by this process until it is unmounted.</summary>
internal static class MountCommand
{
    // umount(8) comes back before the process that served the mount has written everything and let go of the file.
    private static readonly TimeSpan s_patience = TimeSpan.FromSeconds(5);

    public static Command New(Terminal terminal)
    {
        var source = new Argument<string>("source") { Description = "Image file or device with the pool; FILE/VOLUME when it has several volumes; with --config: POOL/VOLUME" };
        var target = new Argument<string>("mountpoint") { Description = "Directory to mount on" };
        var options = new Option<string[]>("-o") { Description = "ro, allow_other, noatime, fsname=NAME, volume=NAME, cache=auto|always|never|metadata, writeback, ...", HelpName = "option,...", Arity = ArgumentArity.OneOrMore };
        Option<string> config = Declare.Text("--config", "file", "Take pool and bdevs from this configuration file; its exports are not served");
        Option<BdevCache> diskCache = Declare.Choice("--disk-cache", ConfigNames.BdevCaches, "Whether the host caches the image file (default: auto, which avoids it)");
        Option<string> rpcSocket = Declare.Text("--rpc-socket", "path", "Mount through the daemon that listens there (default: the one that has the pool, if there is one)", "-r");
        Option<bool> foreground = Declare.Flag("--foreground", "Stay in the foreground (the default)");
        Option<bool> background = Declare.Flag(Background.Option, "Return when the volume is mounted; another process serves it");
        Option<LogLevel> logLevel = Declare.Choice("--log-level", ConfigNames.LogLevels, "How much to log (default: info)");
        logLevel.DefaultValueFactory = _ => LogLevel.Info;
        var command = new Command("mount", "Mount a volume on this host, until it is unmounted or SIGTERM") { source, target, options, config, diskCache, rpcSocket, foreground, background, logLevel };
        command.SetAction(async (parsed, _) =>
        {
            var errors = new List<ConfigError>();
            var notes = new List<string>();
            string volume = parsed.GetValue(source)!;
            bool hasConfig = parsed.GetValue(config) is { Length: > 0 };
            var request = new MountRequest { MountPoint = Path.GetFullPath(parsed.GetValue(target)!), Source = hasConfig ? volume : Path.GetFullPath(volume) };
            MountOptionList list = MountOptionList.Read(parsed.GetValue(options) ?? [], request, errors, notes);
            if (list.IsRemount && errors.Count == 0) { return Remount(terminal, list.Request); }
            ServeConfig? serve = hasConfig
                ? FromFile(parsed.GetValue(config)!, volume, list, errors)
                : FromImage(volume, parsed.GetValue(diskCache), list);
            if (serve is null || errors.Count > 0)
            {
                foreach (ConfigError error in errors) { terminal.Fail(error.ToString()); }
                return ExitCode.Usage;
            }
            if (parsed.GetValue(background)) { return await Background.StartAsync(terminal); }
            Background.Detach();
            var log = new Log(terminal.Error, parsed.GetValue(logLevel));
            foreach (string note in notes) { log.Info("", note); }
            return await RunAsync(serve, parsed.GetValue(rpcSocket) ?? "", log, terminal);
        });
        return command;
    }

    private static int Remount(Terminal terminal, MountRequest request)
    {
        string wrong = HostMountPoint.Remount(request);
        if (wrong.Length == 0) { return ExitCode.Ok; }
        terminal.Fail(wrong);
        return ExitCode.Failure;
    }

    /// <summary>Through the daemon that has the pool; in a process of its own when nobody has it.</summary>
    private static async Task<int> RunAsync(ServeConfig serve, string rpcSocket, Log log, Terminal terminal)
    {
        string file = BdevFactory.Bottom(serve.Bdevs, serve.Pools[0].BdevName).FileName;
        if (file.Length > 0 || rpcSocket.Length > 0)
        {
            var daemons = new DaemonFinder(file, rpcSocket);
            if (daemons.TryConnect(out string error) is { } daemon) { return await MountHolder.RunAsync(serve.Mounts[0], daemons, daemon, log); }
            if (rpcSocket.Length > 0)
            {
                log.Error("", error);
                return ExitCode.Failure;
            }
        }
        return await Daemon.RunAsync(serve, log, terminal.Output);
    }

    private static ServeConfig FromImage(string source, BdevCache cache, MountOptionList list)
    {
        string path = Path.GetFullPath(source), volume = list.Volume;
        // disk.img/web: what is below a file can only be one of its volumes.
        if (volume.Length == 0 && !Path.Exists(path) && Path.GetDirectoryName(path) is { } above && File.Exists(above))
        {
            volume = Path.GetFileName(path);
            path = above;
        }
        string name = Path.GetFileNameWithoutExtension(path);
        ConfigLocation where = ConfigLocation.CommandLine("source");
        return new ServeConfig
        {
            Bdevs = [new BdevConfig { Where = where, Name = name, FileName = path, Cache = cache }],
            Pools = [new PoolConfig { Where = where, Name = name, BdevName = name, Patience = s_patience }],
            Mounts = [NewMount(name, volume, list)],
        };
    }

    private static ServeConfig? FromFile(string file, string source, MountOptionList list, List<ConfigError> errors)
    {
        if (ConfigFile.Load(file, errors, serves: false) is not { } config) { return null; }
        int slash = source.IndexOf('/', StringComparison.Ordinal);
        string name = slash < 0 ? source : source[..slash], volume = slash < 0 ? list.Volume : source[(slash + 1)..];
        if (config.Pools.FirstOrDefault(p => p.Name == name) is not { } pool)
        {
            errors.Add(new ConfigError(ConfigLocation.CommandLine("source"), $"no such pool '{name}' in {file}; declared are {ConfigCheck.Names(config.Pools.Select(p => p.Name))}"));
            return null;
        }
        return config with { Reactors = 1, Pools = [pool with { Patience = s_patience }], Exports = [], Mounts = [NewMount(name, volume, list)] };
    }

    private static MountConfig NewMount(string pool, string volume, MountOptionList list) => new()
    {
        VolumeWhere = ConfigLocation.CommandLine("source"),
        Pool = pool,
        Volume = volume,
        Request = list.Request,
        Wishes = list.Wishes,
        ReconnectTime = list.ReconnectTime,
    };
}
