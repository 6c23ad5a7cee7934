namespace VhostFs.VhostUser;

public enum VhostLogLevel
{
    Debug,
    Info,
    Warning,
    Error,
}

/// <summary>Where the vhost-user code says what happened to a connection. Never called per request.</summary>
public delegate void VhostLog(VhostLogLevel level, string message);
