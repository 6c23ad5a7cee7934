using VhostFs.Bdev;
using VhostFs.Fuse;
using VhostFs.Reactor;

namespace VhostFs.Config;

/// <summary>The words of the configuration, the same ones in the file and on the command line.</summary>
internal static class ConfigNames
{
    public static readonly Dictionary<string, LogLevel> LogLevels = new(StringComparer.Ordinal)
    {
        ["off"] = LogLevel.Off,
        ["error"] = LogLevel.Error,
        ["warn"] = LogLevel.Warn,
        ["info"] = LogLevel.Info,
        ["debug"] = LogLevel.Debug,
        ["trace"] = LogLevel.Trace,
    };

    public static readonly Dictionary<string, ReactorMode> ReactorModes = new(StringComparer.Ordinal)
    {
        ["adaptive"] = ReactorMode.Adaptive,
        ["interrupt"] = ReactorMode.Interrupt,
        ["poll"] = ReactorMode.Poll,
    };

    public static readonly Dictionary<string, FuseCacheMode> CacheModes = new(StringComparer.Ordinal)
    {
        ["auto"] = FuseCacheMode.Auto,
        ["always"] = FuseCacheMode.Always,
        ["never"] = FuseCacheMode.Never,
        ["metadata"] = FuseCacheMode.Metadata,
    };

    public static readonly Dictionary<string, AccessTimeMode> AccessTimeModes = new(StringComparer.Ordinal)
    {
        ["relatime"] = AccessTimeMode.Relative,
        ["strict"] = AccessTimeMode.Strict,
        ["off"] = AccessTimeMode.Off,
    };

    public static readonly Dictionary<string, SharingMode> SharingModes = new(StringComparer.Ordinal)
    {
        ["exclusive"] = SharingMode.Exclusive,
        ["shared-ro"] = SharingMode.SharedReadOnly,
        ["shared"] = SharingMode.Shared,
    };

    public static readonly Dictionary<string, BdevKind> BdevKinds = new(StringComparer.Ordinal)
    {
        ["uring"] = BdevKind.Uring,
        ["malloc"] = BdevKind.Malloc,
        ["null"] = BdevKind.Null,
        ["delay"] = BdevKind.Delay,
        ["error"] = BdevKind.Error,
        ["volatile"] = BdevKind.Volatile,
    };

    public static readonly Dictionary<string, BdevCache> BdevCaches = new(StringComparer.Ordinal)
    {
        ["auto"] = BdevCache.Auto,
        ["direct"] = BdevCache.Direct,
        ["buffered"] = BdevCache.Buffered,
    };

    public static readonly Dictionary<string, BdevOperations> BdevOperations = new(StringComparer.Ordinal)
    {
        ["all"] = Bdev.BdevOperations.All,
        ["read"] = Bdev.BdevOperations.Read,
        ["write"] = Bdev.BdevOperations.Write,
        ["flush"] = Bdev.BdevOperations.Flush,
        ["unmap"] = Bdev.BdevOperations.Unmap,
    };

    /// <summary>The size of <c>virtio_fs_config.tag</c>.</summary>
    public const int MaxTagBytes = 36;
    public const int MaxVolumeNameBytes = 255;
}
