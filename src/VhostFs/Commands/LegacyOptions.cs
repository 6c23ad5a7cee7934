using VhostFs.Config;
using VhostFs.Fuse;

namespace VhostFs.Commands;

/// <summary><c>-o cache=auto,xattr,...</c>: how the first virtiofsd took its options, and how Kata and older libvirt still write them.</summary>
internal static class LegacyOptions
{
    public static FuseWishes Apply(IEnumerable<string> values, FuseWishes wishes, List<ConfigError> errors, List<string> notes)
    {
        foreach (string item in values.SelectMany(v => v.Split(',', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries)))
        {
            int equals = item.IndexOf('=', StringComparison.Ordinal);
            string name = equals < 0 ? item : item[..equals];
            string value = equals < 0 ? "" : item[(equals + 1)..];
            wishes = ApplyOne(name, value, wishes, errors, notes);
        }
        return wishes;
    }

    /// <summary>It means something for a server of files, wherever they are mounted.</summary>
    public static bool IsKnown(string name) => name is "sharing" or "atime" or "cache" or "writeback" or "no_writeback" or "xattr" or "no_xattr" or "posix_acl" or "no_posix_acl"
        or "security_label" or "no_security_label" or "readdirplus" or "no_readdirplus" or "killpriv_v2" or "no_killpriv_v2" or "allow_mmap"
        or "posix_lock" or "no_posix_lock" or "flock" or "no_flock";

    private static FuseWishes ApplyOne(string name, string value, FuseWishes wishes, List<ConfigError> errors, List<string> notes)
    {
        var where = ConfigLocation.CommandLine($"-o {name}");
        switch (name)
        {
            case "sharing":
                if (ConfigNames.SharingModes.TryGetValue(value, out SharingMode sharing)) { return wishes with { Sharing = sharing }; }
                errors.Add(new ConfigError(where, $"'{value}' is not one of {string.Join(", ", ConfigNames.SharingModes.Keys)}"));
                return wishes;
            case "cache":
                if (ConfigNames.CacheModes.TryGetValue(value == "none" ? "never" : value, out FuseCacheMode cache)) { return wishes with { Cache = cache }; }
                errors.Add(new ConfigError(where, $"'{value}' is not one of {string.Join(", ", ConfigNames.CacheModes.Keys)}"));
                return wishes;
            case "atime":
                if (ConfigNames.AccessTimeModes.TryGetValue(value, out AccessTimeMode accessTimes)) { return wishes with { Others = wishes.Others with { AccessTimes = accessTimes } }; }
                errors.Add(new ConfigError(where, $"'{value}' is not one of {string.Join(", ", ConfigNames.AccessTimeModes.Keys)}"));
                return wishes;
            case "writeback": return wishes with { Writeback = true };
            case "no_writeback": return wishes with { Writeback = false };
            case "xattr": return wishes with { Others = wishes.Others with { Xattr = true } };
            case "no_xattr": return wishes with { Others = wishes.Others with { Xattr = false, PosixAcl = false } };
            case "posix_acl": return wishes with { Others = wishes.Others with { PosixAcl = true } };
            case "no_posix_acl": return wishes with { Others = wishes.Others with { PosixAcl = false } };
            case "security_label": return wishes with { Others = wishes.Others with { SecurityLabel = true } };
            case "no_security_label": return wishes with { Others = wishes.Others with { SecurityLabel = false } };
            case "readdirplus": return wishes with { ReadDirectoryPlus = true };
            case "no_readdirplus": return wishes with { ReadDirectoryPlus = false };
            case "killpriv_v2": return wishes with { Others = wishes.Others with { KillPrivilegesV2 = true } };
            case "no_killpriv_v2": return wishes with { Others = wishes.Others with { KillPrivilegesV2 = false } };
            case "announce_submounts": return wishes with { Others = wishes.Others with { AnnounceSubmounts = true } };
            case "allow_mmap": return wishes with { Others = wishes.Others with { AllowMmap = true } };
            case "posix_lock": return wishes with { PosixLocks = true };
            case "no_posix_lock": return wishes with { PosixLocks = false };
            case "flock": return wishes with { FlockLocks = true };
            case "no_flock": return wishes with { FlockLocks = false };
            case "source":
                errors.Add(new ConfigError(where, "a volume is served, not a host directory; give --volume disk.img instead"));
                return wishes;
            case "allow_direct_io" or "no_allow_direct_io" or "sandbox" or "modcaps" or "timeout" or "log_level" or "thread_pool_size" or "no_announce_submounts":
                notes.Add($"-o {name} is ignored");
                return wishes;
            default:
                errors.Add(new ConfigError(where, "unknown option; the options of this program are in 'vhostfs serve --help'"));
                return wishes;
        }
    }
}
