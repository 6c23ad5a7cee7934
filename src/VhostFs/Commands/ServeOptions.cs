using System.CommandLine;
using VhostFs.Config;
using VhostFs.Fuse;
using VhostFs.Reactor;

namespace VhostFs.Commands;

/// <summary>The options of <c>serve</c>, named as virtiofsd names them, and the configuration they mean.</summary>
internal sealed class ServeOptions
{
    private readonly Option<string> _volume = Declare.Text("--volume", "file", "Serve a volume of the pool in this image file or on this device");
    private readonly Option<string> _volumeName = Declare.Text("--volume-name", "name", "Which volume of the pool (default: the only one)");
    private readonly Option<long> _size = Declare.Size("--size", "Make the file with this size when it is not there");
    private readonly Option<BdevCache> _diskCache = Declare.Choice("--disk-cache", ConfigNames.BdevCaches, "Whether the host caches the image file (default: auto, which avoids it)");
    private readonly Option<string> _socket = Declare.Text("--socket-path", "path", "Listen on this unix socket", "--socket");
    private readonly Option<string> _socketGroup = Declare.Text("--socket-group", "group", "Let this group connect to the socket");
    private readonly Option<int?> _fd = new("--fd") { Description = "Use this listening socket, which the caller made (systemd, libvirt)", HelpName = "number" };
    private readonly Option<string> _tag = Declare.Text("--tag", "tag", "Name in the printed QEMU options (default: the volume's name)");
    private readonly Option<SharingMode> _sharing = Declare.Choice("--sharing", ConfigNames.SharingModes, "Who else uses the volume at the same time; decides what the guest may keep");
    private readonly Option<FuseCacheMode> _cache = Declare.Choice("--cache", ConfigNames.CacheModes, "What the guest may keep (default: auto)");
    private readonly Option<bool> _writeback = Declare.Flag("--writeback", "The guest collects small writes (one guest per volume)");
    private readonly Option<bool> _readOnly = Declare.Flag("--readonly", "Refuse every change");
    private readonly Option<bool> _xattr = Declare.Flag("--xattr", "Extended attributes (the default)");
    private readonly Option<bool> _noXattr = Declare.Flag("--no-xattr", "No extended attributes, and no ACLs");
    private readonly Option<bool> _posixAcl = Declare.Flag("--posix-acl", "POSIX ACLs (the default with extended attributes)");
    private readonly Option<bool> _noPosixAcl = Declare.Flag("--no-posix-acl", "No POSIX ACLs");
    private readonly Option<bool> _securityLabel = Declare.Flag("--security-label", "Take SELinux labels of new files from the guest");
    private readonly Option<bool> _announceSubmounts = Declare.Flag("--announce-submounts", "Show mount points inside the volume to the guest");
    private readonly Option<AccessTimeMode> _accessTimes = Declare.Choice("--atime", ConfigNames.AccessTimeModes, "When reading moves access times (default: relatime)");
    private readonly Option<bool> _allowMmap = Declare.Flag("--allow-mmap", "Shared mmap with cache=never and cache=metadata");
    private readonly Option<bool> _noReadDirPlus = Declare.Flag("--no-readdirplus", "Do not send attributes with directory listings");
    private readonly Option<bool> _noKillPriv = Declare.Flag("--no-killpriv-v2", "Let the guest clear set-id bits itself");
    private readonly Option<bool> _posixLock = Declare.Flag("--posix-lock", "fcntl locks hold between all who use the volume, not only inside the guest (default: when shared)");
    private readonly Option<bool> _flock = Declare.Flag("--flock", "The same for flock locks");
    private readonly Option<string[]> _legacy = new("-o") { Description = "virtiofsd's old syntax: cache=auto,xattr,...", HelpName = "option,...", Arity = ArgumentArity.OneOrMore };
    private readonly Option<ReactorMode?> _reactorMode;
    private readonly Option<LogLevel?> _logLevel;
    private readonly Option<bool> _debug = Declare.Flag("-d", "Same as --log-level debug");

    public ServeOptions()
    {
        Dictionary<string, LogLevel?> levels = ConfigNames.LogLevels.ToDictionary(l => l.Key, l => (LogLevel?)l.Value);
        _reactorMode = Declare.Choice("--reactor-mode", ConfigNames.ReactorModes.ToDictionary(m => m.Key, m => (ReactorMode?)m.Value), "How serving threads wait: adaptive looks on while requests come densely, interrupt sleeps at once, poll never sleeps (default: adaptive)");
        _logLevel = Declare.Choice("--log-level", levels, "How much to log (default: info)");
    }

    private readonly Option<string> _socketDirectory = Declare.Text("--socket-dir", "directory", "Where the sockets of block devices appear that clients of the RPC socket make (default: the current directory)", "-S");
    private readonly Option<string> _rpcSocket = Declare.Text("--rpc-socket", "path", "Listen for JSON-RPC there (default: vhostfs/PID.sock in the runtime directory)", "-r");

    private readonly Option<string> _allowedMethods = Declare.Text("--rpcs-allowed", "method,...", "Let clients of the RPC socket call these methods, and no others (default: all)", "--rpc-allow");

    private readonly Option<string> _savedConfig = Declare.Text("--json", "file", "Make the bdevs and controllers in this file, which a client has saved (rpc.py save_config)", "-c");

    public Argument<string?> ConfigPath { get; } = new("config.json") { Description = "Serve what this file describes", Arity = ArgumentArity.ZeroOrOne };

    public Option<bool> CheckConfig { get; } = Declare.Flag("--check-config", "Say whether the configuration is right, and end");

    public Option<bool> PrintCapabilities { get; } = Declare.Flag("--print-capabilities", "Print what this back-end can do, as JSON, and end");

    private Option[] VolumeOptions =>
    [
        _volume, _volumeName, _size, _diskCache, _socket, _socketGroup, _fd, _tag, _sharing, _cache, _writeback, _readOnly, _xattr, _noXattr, _posixAcl, _noPosixAcl,
        _securityLabel, _announceSubmounts, _allowMmap, _accessTimes, _noReadDirPlus, _noKillPriv, _posixLock, _flock, _legacy, .. IgnoredOptions.All,
    ];

    public void AddTo(Command command)
    {
        command.Arguments.Add(ConfigPath);
        foreach (Option option in (Option[])[.. VolumeOptions, _rpcSocket, _socketDirectory, _allowedMethods, _savedConfig, _reactorMode, _logLevel, _debug, CheckConfig, PrintCapabilities]) { command.Options.Add(option); }
        // A mistyped option would be taken for the name of the file.
        ConfigPath.Validators.Add(result =>
        {
            string word = result.Tokens.Count > 0 ? result.Tokens[0].Value : "";
            if (word.Length < 2 || word[0] != '-') { return; }
            string hint = Suggestion.Nearest(word, command.Options.SelectMany(o => o.Aliases.Prepend(o.Name))) is { } near ? $"did you mean {near}?" : "see 'vhostfs serve --help'";
            result.AddError($"unknown option {word}; {hint}");
        });
    }

    /// <summary>Null when something is wrong; <paramref name="errors"/> says what. <paramref name="notes"/>: options that were accepted and mean nothing here.</summary>
    public ServeConfig? Read(ParseResult parsed, List<ConfigError> errors, List<string> notes)
    {
        LogLevel? level = parsed.GetValue(_debug) ? LogLevel.Debug : parsed.GetValue(_logLevel);
        string? rpcSocket = parsed.GetValue(_rpcSocket), socketDirectory = parsed.GetValue(_socketDirectory);
        string? savedConfig = parsed.GetValue(_savedConfig);
        bool isTarget = rpcSocket is not null || socketDirectory is not null || savedConfig is not null;
        ServeConfig? config;
        if (parsed.GetValue(ConfigPath) is { Length: > 0 } file)
        {
            foreach (Option option in VolumeOptions.Where(o => parsed.GetResult(o) is { Implicit: false }))
            {
                errors.Add(new ConfigError(ConfigLocation.CommandLine(option.Name), $"does not go together with a configuration file; write it in {file}"));
            }
            config = errors.Count == 0 ? ConfigFile.Load(file, errors, serves: !isTarget) : null;
        }
        else if (isTarget && !VolumeOptions.Any(o => parsed.GetResult(o) is { Implicit: false })) { config = new ServeConfig(); }
        else { config = ReadVolume(parsed, errors, notes); }
        if (socketDirectory is not null && !Directory.Exists(socketDirectory)) { errors.Add(new ConfigError(ConfigLocation.CommandLine("--socket-dir"), $"the directory {socketDirectory} does not exist; make it first")); }
        if (errors.Count > 0 || config is null) { return null; }
        return config with
        {
            LogLevel = level ?? config.LogLevel,
            ReactorMode = parsed.GetValue(_reactorMode) ?? config.ReactorMode,
            RpcSocket = rpcSocket is null ? "" : Path.GetFullPath(rpcSocket),
            AllowedMethods = parsed.GetValue(_allowedMethods)?.Split(',', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries),
            SocketDirectory = Path.GetFullPath(socketDirectory ?? "."),
            SavedConfig = savedConfig is null ? "" : Path.GetFullPath(savedConfig),
            IsBlockTarget = isTarget,
        };
    }

    private ServeConfig? ReadVolume(ParseResult parsed, List<ConfigError> errors, List<string> notes)
    {
        string volume = parsed.GetValue(_volume) ?? "";
        if (volume.Length == 0)
        {
            errors.Add(new ConfigError(ConfigLocation.CommandLine("serve"), "say what to serve: a configuration file, --volume disk.img --socket /run/vm1.sock, or --rpc-socket /run/vhostfs.sock for block devices that clients make"));
            return null;
        }
        string path = Path.GetFullPath(volume);
        string stem = Path.GetFileNameWithoutExtension(path);
        string volumeName = parsed.GetValue(_volumeName) ?? "";
        long size = parsed.GetValue(_size);
        if (size == 0 && !File.Exists(path))
        {
            errors.Add(new ConfigError(ConfigLocation.CommandLine("--volume"), $"{volume} does not exist; give a size to make it, for example --size 10G"));
        }
        if (volumeName.Length > 0 && ConfigCheck.VolumeNameError(volumeName) is { } nameError) { errors.Add(new ConfigError(ConfigLocation.CommandLine("--volume-name"), nameError)); }
        string socket = parsed.GetValue(_socket) ?? "";
        IgnoredOptions.Note(parsed, notes);
        FuseWishes wishes = LegacyOptions.Apply(parsed.GetValue(_legacy) ?? [], ReadFuse(parsed), errors, notes);
        string name = volumeName.Length > 0 ? volumeName : stem;
        var bdev = new BdevConfig { Where = ConfigLocation.CommandLine("--volume"), Name = stem, FileName = path, Cache = parsed.GetValue(_diskCache), SizeBytes = size };
        // A pool made for one volume: the volume is called like the file.
        var pool = new PoolConfig { Where = ConfigLocation.CommandLine("--volume"), Name = stem, BdevName = stem, Create = size > 0, Volumes = [name], OnlyInEmptyPool = true };
        var export = new ExportConfig
        {
            Where = ConfigLocation.CommandLine("serve"),
            VolumeWhere = ConfigLocation.CommandLine(volumeName.Length > 0 ? "--volume-name" : "--volume"),
            Name = name,
            Pool = stem,
            Volume = volumeName,
            Socket = socket.Length == 0 ? "" : Path.GetFullPath(socket),
            SocketGroup = parsed.GetValue(_socketGroup) ?? "",
            ListenFd = parsed.GetValue(_fd) ?? -1,
            Tag = parsed.GetValue(_tag) ?? "",
            Sharing = wishes.Sharing,
            Fuse = wishes.Settle(),
        };
        var config = new ServeConfig { Bdevs = [bdev], Pools = [pool], Exports = [export] };
        ConfigCheck.CheckExport(config, export, errors);
        return config;
    }

    private FuseWishes ReadFuse(ParseResult parsed)
    {
        bool xattr = !parsed.GetValue(_noXattr) || parsed.GetValue(_xattr);
        return new FuseWishes
        {
            Sharing = parsed.GetValue(_sharing),
            Cache = parsed.GetResult(_cache) is { Implicit: false } ? parsed.GetValue(_cache) : null,
            Writeback = parsed.GetValue(_writeback) ? true : null,
            ReadOnly = parsed.GetValue(_readOnly) ? true : null,
            ReadDirectoryPlus = parsed.GetValue(_noReadDirPlus) ? false : null,
            PosixLocks = parsed.GetValue(_posixLock) ? true : null,
            FlockLocks = parsed.GetValue(_flock) ? true : null,
            Others = new FuseServerOptions
            {
                Xattr = xattr,
                PosixAcl = parsed.GetValue(_posixAcl) || (xattr && !parsed.GetValue(_noPosixAcl)),
                SecurityLabel = parsed.GetValue(_securityLabel),
                AnnounceSubmounts = parsed.GetValue(_announceSubmounts),
                AllowMmap = parsed.GetValue(_allowMmap),
                AccessTimes = parsed.GetValue(_accessTimes),
                KillPrivilegesV2 = !parsed.GetValue(_noKillPriv),
            },
        };
    }
}
