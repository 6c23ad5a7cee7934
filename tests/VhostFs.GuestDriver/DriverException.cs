namespace VhostFs.GuestDriver;

/// <summary>The device, or the machine, did not do what a driver relies on.</summary>
internal sealed class DriverException : Exception
{
    public DriverException()
    {
    }

    public DriverException(string message)
        : base(message)
    {
    }

    public DriverException(string message, Exception inner)
        : base(message, inner)
    {
    }
}
