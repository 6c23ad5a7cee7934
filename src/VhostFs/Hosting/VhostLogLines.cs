using VhostFs.VhostUser;

namespace VhostFs.Hosting;

/// <summary>What a vhost-user server says, as lines of our log.</summary>
internal static class VhostLogLines
{
    /// <param name="name">How the server calls itself in front of its messages; the scope of our line does that already.</param>
    public static void Write(Log log, string scope, string name, VhostLogLevel level, string message)
    {
        if (message.StartsWith(name + ": ", StringComparison.Ordinal)) { message = message[(name.Length + 2)..]; }
        switch (level)
        {
            case VhostLogLevel.Debug: log.Debug(scope, message); break;
            case VhostLogLevel.Info: log.Info(scope, message); break;
            case VhostLogLevel.Warning: log.Warn(scope, message); break;
            default: log.Error(scope, message); break;
        }
    }
}
