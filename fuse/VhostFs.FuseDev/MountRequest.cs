using VhostFs.Linux;

namespace VhostFs.FuseDev;

/// <summary>How requests come from the kernel and replies go to it.</summary>
public enum MountTransport
{
    /// <summary>Through io_uring when the kernel offers it, else by read and write.</summary>
    Auto,

    /// <summary>Through io_uring, or not at all.</summary>
    Uring,

    /// <summary>By read and write.</summary>
    ReadWrite,
}

/// <summary>How a file system is to be mounted on this host.</summary>
public sealed record MountRequest
{
    public required string MountPoint { get; init; }

    /// <summary>The device column of mount tables.</summary>
    public required string Source { get; init; }

    /// <summary>The type column, after "fuse.".</summary>
    public string Subtype { get; init; } = "vhostfs";

    /// <summary>MS_* flags.</summary>
    public ulong Flags { get; init; } = MountCalls.MS_NOSUID | MountCalls.MS_NODEV;

    /// <summary>Users other than the one who mounts may enter; null: when root mounts, as with a disk.</summary>
    public bool? AllowOther { get; init; }

    /// <summary>How requests come from the kernel.</summary>
    public MountTransport Transport { get; init; }

    /// <summary>Longest READ in bytes; 0: as the protocol settles it.</summary>
    public uint MaxReadBytes { get; init; }
}
