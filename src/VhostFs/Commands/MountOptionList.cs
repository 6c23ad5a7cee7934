using System.Globalization;
using VhostFs.Config;
using VhostFs.Fuse;
using VhostFs.FuseDev;
using VhostFs.Linux;

namespace VhostFs.Commands;

/// <summary><c>-o ro,allow_other,...</c> of <c>mount</c>, as users of mount.fuse and fstab know it.</summary>
internal sealed class MountOptionList
{
    // The later one of two that contradict wins, as with mount(8).
    private static readonly Dictionary<string, (ulong Set, ulong Clear)> s_flags = new(StringComparer.Ordinal)
    {
        ["ro"] = (MountCalls.MS_RDONLY, 0),
        ["rw"] = (0, MountCalls.MS_RDONLY),
        ["nosuid"] = (MountCalls.MS_NOSUID, 0),
        ["suid"] = (0, MountCalls.MS_NOSUID),
        ["nodev"] = (MountCalls.MS_NODEV, 0),
        ["dev"] = (0, MountCalls.MS_NODEV),
        ["noexec"] = (MountCalls.MS_NOEXEC, 0),
        ["exec"] = (0, MountCalls.MS_NOEXEC),
        ["sync"] = (MountCalls.MS_SYNCHRONOUS, 0),
        ["async"] = (0, MountCalls.MS_SYNCHRONOUS),
        ["dirsync"] = (MountCalls.MS_DIRSYNC, 0),
        ["noatime"] = (MountCalls.MS_NOATIME, 0),
        ["atime"] = (0, MountCalls.MS_NOATIME),
        ["nodiratime"] = (MountCalls.MS_NODIRATIME, 0),
        ["diratime"] = (0, MountCalls.MS_NODIRATIME),
        ["relatime"] = (MountCalls.MS_RELATIME, 0),
        ["norelatime"] = (0, MountCalls.MS_RELATIME),
        ["strictatime"] = (MountCalls.MS_STRICTATIME, 0),
        ["lazytime"] = (MountCalls.MS_LAZYTIME, 0),
        ["nolazytime"] = (0, MountCalls.MS_LAZYTIME),
    };

    private static readonly string[] s_names = [.. s_flags.Keys, "remount", "allow_other", "noallow_other", "default_permissions", "fsname", "subtype", "volume", "max_read", "reconnect",
        "entry_timeout", "attr_timeout", "negative_timeout", "sharing", "atime", "cache", "writeback", "no_xattr", "no_posix_acl", "no_readdirplus", "security_label", "allow_mmap",
        "no_posix_lock", "no_flock", "io_uring", "no_io_uring"];

    private readonly List<ConfigError> _errors;
    private readonly List<string> _serverOptions = [];
    private FuseWishes _wishes = new() { IsHostMount = true };

    private MountOptionList(List<ConfigError> errors, MountRequest request)
    {
        _errors = errors;
        Request = request;
    }

    /// <summary>Which volume of the pool (<c>volume=web</c>); empty when not said.</summary>
    public string Volume { get; private set; } = "";

    public MountRequest Request { get; private set; }

    public FuseWishes Wishes => _wishes;

    /// <summary>The volume is mounted already, and is to get these flags.</summary>
    public bool IsRemount { get; private set; }

    /// <summary>How long a mount waits for a daemon to come back.</summary>
    public TimeSpan ReconnectTime { get; private set; } = TimeSpan.FromMinutes(1);

    public static MountOptionList Read(IEnumerable<string> values, MountRequest request, List<ConfigError> errors, List<string> notes)
    {
        var list = new MountOptionList(errors, request);
        foreach (string item in values.SelectMany(Split)) { list.Take(item); }
        // The kernel leaves access times of FUSE mounts to the server: what the mount's own options say is for us. "atime=" says it more exactly.
        ulong flags = list.Request.Flags;
        AccessTimeMode accessTimes = (flags & MountCalls.MS_NOATIME) != 0 ? AccessTimeMode.Off : (flags & MountCalls.MS_STRICTATIME) != 0 ? AccessTimeMode.Strict : AccessTimeMode.Relative;
        list._wishes = list._wishes with { Others = list._wishes.Others with { AccessTimes = accessTimes } };
        list._wishes = LegacyOptions.Apply(list._serverOptions, list._wishes, errors, notes);
        FuseServerOptions fuse = list._wishes.Settle();
        if (fuse.ReadOnly) { list.Request = list.Request with { Flags = list.Request.Flags | MountCalls.MS_RDONLY }; }
        if (ConfigCheck.OptionsError(list.Wishes.Sharing, fuse) is { } contradiction) { list.Fail(contradiction.Key, contradiction.Message); }
        return list;
    }

    // A backslash before a comma keeps it, as in fsname=a\,b.
    private static IEnumerable<string> Split(string list)
    {
        const string keptComma = "\u0001";
        return list.Replace("\\,", keptComma, StringComparison.Ordinal).Split(',', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries)
            .Select(item => item.Replace(keptComma, ",", StringComparison.Ordinal));
    }

    private void Take(string item)
    {
        int equals = item.IndexOf('=', StringComparison.Ordinal);
        string name = equals < 0 ? item : item[..equals], value = equals < 0 ? "" : item[(equals + 1)..];
        if (s_flags.TryGetValue(item, out (ulong Set, ulong Clear) flag))
        {
            Request = Request with { Flags = (Request.Flags | flag.Set) & ~flag.Clear };
            if (((flag.Set | flag.Clear) & MountCalls.MS_RDONLY) != 0) { _wishes = _wishes with { ReadOnly = flag.Set != 0 }; }
            return;
        }
        switch (name)
        {
            case "allow_other": Request = Request with { AllowOther = true }; break;
            case "noallow_other": Request = Request with { AllowOther = false }; break;
            case "default_permissions": break; // always
            case "remount": IsRemount = true; break;
            case "user_id" or "group_id": break; // what mount(8) repeats from the mount table when it remounts
            case "fsname" when value.Length > 0: Request = Request with { Source = value }; break;
            case "subtype" when value.Length > 0: Request = Request with { Subtype = value }; break;
            case "volume" when value.Length > 0: Volume = value; break;
            case "max_read":
                if (uint.TryParse(value, NumberStyles.None, CultureInfo.InvariantCulture, out uint bytes) && bytes >= 4096) { Request = Request with { MaxReadBytes = bytes }; }
                else { Fail(name, $"'{value}' is not a number of bytes from 4096 on"); }
                break;
            case "io_uring": Request = Request with { Transport = MountTransport.Uring }; break;
            case "no_io_uring": Request = Request with { Transport = MountTransport.ReadWrite }; break;
            case "reconnect": ReconnectTime = Seconds(name, value) ?? ReconnectTime; break;
            case "entry_timeout": _wishes = _wishes with { EntryTimeout = Seconds(name, value) }; break;
            case "attr_timeout": _wishes = _wishes with { AttributeTimeout = Seconds(name, value) }; break;
            case "negative_timeout": _wishes = _wishes with { NegativeTimeout = Seconds(name, value) }; break;
            // For mount(8) and systemd, not for us.
            case "defaults" or "auto" or "noauto" or "user" or "nouser" or "users" or "owner" or "group" or "nofail" or "_netdev": break;
            case var _ when name.StartsWith("x-", StringComparison.Ordinal) || name.StartsWith("comment", StringComparison.Ordinal): break;
            case "allow_root" or "auto_unmount" or "nonempty": Fail(name, "is not supported"); break;
            default:
                if (LegacyOptions.IsKnown(name)) { _serverOptions.Add(item); }
                else { Fail(name, $"unknown option; {(Suggestion.Nearest(name, s_names) is { } near ? $"did you mean {near}?" : "docs/operations.md lists them")}"); }
                break;
        }
    }

    private TimeSpan? Seconds(string name, string value)
    {
        const double mostSeconds = 365.0 * 86400;
        if (double.TryParse(value, NumberStyles.AllowDecimalPoint, CultureInfo.InvariantCulture, out double seconds) && seconds <= mostSeconds) { return TimeSpan.FromSeconds(seconds); }
        Fail(name, $"'{value}' is not a number of seconds up to a year");
        return null;
    }

    private void Fail(string name, string message) => _errors.Add(new ConfigError(ConfigLocation.CommandLine($"-o {name}"), message));
}
