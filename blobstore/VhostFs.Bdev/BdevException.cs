using VhostFs.Linux;

namespace VhostFs.Bdev;

/// <summary>A bdev could not be created; the message says why, for a person.</summary>
public sealed class BdevException(Errno errno, string message) : Exception(message)
{
    public Errno Errno { get; } = errno;
}
