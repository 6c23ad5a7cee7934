using System.Text.Json.Nodes;
using VhostFs.Fuse;

namespace VhostFs.Config;

/// <summary>How a volume is served, as keys of an export in the configuration file, and of the parameters of an attached mount.</summary>
internal static class FuseSection
{
    public static FuseWishes Read(ConfigSection section)
    {
        bool xattr = section.Flag("xattr", true);
        FuseCacheMode cache = section.Choice("cache", FuseCacheMode.Auto, ConfigNames.CacheModes);
        return new FuseWishes
        {
            Sharing = section.Choice("sharing", SharingMode.Unsaid, ConfigNames.SharingModes),
            Cache = section.Has("cache") ? cache : null,
            EntryTimeout = section.Seconds("entry_timeout"),
            AttributeTimeout = section.Seconds("attr_timeout"),
            NegativeTimeout = section.Seconds("negative_timeout"),
            Writeback = section.OptionalFlag("writeback"),
            ReadOnly = section.OptionalFlag("readonly"),
            ReadDirectoryPlus = section.OptionalFlag("readdirplus"),
            PosixLocks = section.OptionalFlag("posix_lock"),
            FlockLocks = section.OptionalFlag("flock"),
            Others = new FuseServerOptions
            {
                Xattr = xattr,
                PosixAcl = section.Flag("posix_acl", xattr),
                SecurityLabel = section.Flag("security_label", false),
                KillPrivilegesV2 = section.Flag("killpriv_v2", true),
                AnnounceSubmounts = section.Flag("announce_submounts", false),
                AllowMmap = section.Flag("allow_mmap", false),
                AccessTimes = section.Choice("atime", AccessTimeMode.Relative, ConfigNames.AccessTimeModes),
            },
        };
    }

    /// <summary>What <see cref="Read"/> reads as the same wishes.</summary>
    public static JsonObject Write(FuseWishes wishes)
    {
        var json = new JsonObject
        {
            ["xattr"] = wishes.Others.Xattr,
            ["posix_acl"] = wishes.Others.PosixAcl,
            ["security_label"] = wishes.Others.SecurityLabel,
            ["killpriv_v2"] = wishes.Others.KillPrivilegesV2,
            ["announce_submounts"] = wishes.Others.AnnounceSubmounts,
            ["allow_mmap"] = wishes.Others.AllowMmap,
            ["atime"] = NameOf(wishes.Others.AccessTimes, ConfigNames.AccessTimeModes),
        };
        if (wishes.Sharing != SharingMode.Unsaid) { json["sharing"] = NameOf(wishes.Sharing, ConfigNames.SharingModes); }
        if (wishes.Cache is { } cache) { json["cache"] = NameOf(cache, ConfigNames.CacheModes); }
        if (wishes.Writeback is { } writeback) { json["writeback"] = writeback; }
        if (wishes.ReadOnly is { } readOnly) { json["readonly"] = readOnly; }
        if (wishes.ReadDirectoryPlus is { } plus) { json["readdirplus"] = plus; }
        if (wishes.PosixLocks is { } posix) { json["posix_lock"] = posix; }
        if (wishes.FlockLocks is { } flock) { json["flock"] = flock; }
        if (wishes.EntryTimeout is { } entry) { json["entry_timeout"] = entry.TotalSeconds; }
        if (wishes.AttributeTimeout is { } attributes) { json["attr_timeout"] = attributes.TotalSeconds; }
        if (wishes.NegativeTimeout is { } negative) { json["negative_timeout"] = negative.TotalSeconds; }
        return json;
    }

    private static string NameOf<T>(T value, Dictionary<string, T> names) => names.First(n => EqualityComparer<T>.Default.Equals(n.Value, value)).Key;
}
