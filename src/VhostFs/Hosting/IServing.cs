namespace VhostFs.Hosting;

/// <summary>A volume on its way to a user: an export for a VM, or a mount on this host.</summary>
internal interface IServing
{
    /// <summary>As the log names it: "export vm1".</summary>
    string Scope { get; }

    string PoolName { get; }

    /// <summary>Completes when it has ended by itself: a mount that was unmounted. An export goes on for ever.</summary>
    Task Ended { get; }

    /// <summary>Null, or why not and what to do.</summary>
    Task<string?> StartAsync(PoolHost pool, Reactor.Reactor reactor);

    /// <summary>Requests under way finish, and nothing more is taken. Also after it has ended by itself, or did not start.</summary>
    Task StopAsync(Reactor.Reactor reactor);
}
