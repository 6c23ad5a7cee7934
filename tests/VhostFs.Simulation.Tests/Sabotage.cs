namespace VhostFs.Simulation.Tests;

/// <summary>A mistake that is put into a simulation on purpose: a harness that cannot fail is worth nothing.</summary>
internal enum Sabotage
{
    None,

    /// <summary>The disk answers a flush and does nothing.</summary>
    FlushDoesNothing,

    /// <summary>Writes are acknowledged before they are on the disk, as if a reply did not wait for the log.</summary>
    WriteAcknowledgedEarly,

    /// <summary>fsync is answered without a flush.</summary>
    FsyncDoesNothing,

    /// <summary>A read returns what the same bytes were at its first look, all checksums right.</summary>
    OldDataIsRead,

    /// <summary>Now and then a request is never answered.</summary>
    ReplyIsLost,

    /// <summary>A directory that was listed in the middle of changes leaves out a name.</summary>
    NameIsNotListed,
}
