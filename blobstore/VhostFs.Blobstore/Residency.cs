using VhostFs.Linux;

namespace VhostFs.Blobstore;

/// <summary>The answer "a node this needs is not in memory": load it with <see cref="Volume.LoadMissingAsync"/> and start over. Never leaves the file system layer.</summary>
public static class Residency
{
    public const Errno NotResident = (Errno)4095;
}

/// <summary>A value, or a sentence for humans that says why there is none and what to do.</summary>
public readonly record struct OpenResult<T>(T? Value, string? Error)
    where T : class
{
    public bool IsError => Error is not null;

    public static implicit operator OpenResult<T>(T value) => new(value, null);

    public static implicit operator OpenResult<T>(string error) => new(null, error);
}

/// <summary>Consecutive 4 KiB blocks of the device.</summary>
public readonly record struct BlockRun(ulong First, int Count)
{
    public ulong Limit => First + (ulong)Count;
}
