namespace VhostFs.VhostUser;

/// <summary>A request that may wait for ever. Of the front-end it holds a head of its ring, nothing else: no memory is pinned, and no pause, stop or end waits for it.</summary>
internal interface IParkedRequest
{
    /// <summary>It has its answer, and waits for the ring to be served again.</summary>
    bool IsReady { get; }

    /// <summary>The ring is served: it may answer.</summary>
    void Deliver();

    /// <summary>The driver that made it is gone: it ends without an answer.</summary>
    void Drop();
}
