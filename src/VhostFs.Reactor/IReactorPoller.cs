namespace VhostFs.Reactor;

/// <summary>A source of work that can be looked at in memory, which for a while is cheaper than being woken for it.</summary>
public interface IReactorPoller
{
    /// <summary>There is work. Looked at many times a microsecond: no system call, no allocation.</summary>
    bool HasWork { get; }

    /// <summary>Does it. The poller stays listed.</summary>
    void Run();

    /// <summary>The reactor stops looking and is going to wait: ask to be woken, or do what came meanwhile.</summary>
    void Sleep();
}
