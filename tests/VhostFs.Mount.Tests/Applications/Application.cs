using VhostFs.Campaigns;

namespace VhostFs.Mount.Tests.Applications;

/// <summary>A program that keeps data and promises when it is durable; it works until the file system dies under it.</summary>
abstract class Application : IDisposable
{
    /// <summary>Makes its data on the fresh mount; durable when this returns.</summary>
    public abstract void Prepare(MountedVolume volume);

    /// <summary>Works and counts what it was promised, until the mount is dead. Called again after each <see cref="Verify"/>.</summary>
    public abstract void WorkUntilDead(MountedVolume volume);

    /// <summary>After a power cut: its own checker is content, and everything promised is there.</summary>
    /// <exception cref="FindingException">It is not.</exception>
    public abstract void Verify(MountedVolume volume);

    public virtual void Dispose()
    {
    }

    protected static string Succeed(string program, params string[] arguments)
    {
        Finished run = Command.Run(program, arguments);
        return run.ExitStatus == 0 ? run.Output : throw new FindingException($"{program} {string.Join(' ', arguments)} ended with {run.ExitStatus}:\n{run.Output}{run.Error}");
    }

    /// <summary>What was promised is there, and at most what was asked for.</summary>
    protected static void ExpectCount(string what, long found, long promised, long asked)
    {
        if (found < promised || found > asked) { throw new FindingException($"{found} {what} are there; {promised} were acknowledged, {asked} asked for"); }
    }
}
