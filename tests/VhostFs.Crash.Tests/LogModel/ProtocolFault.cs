namespace VhostFs.Crash.Tests.LogModel;

/// <summary>One rule of the log protocol left out. Each of these must be noticed, or the model proves nothing.</summary>
public enum ProtocolFault
{
    None,

    /// <summary>A page is handed out again although the record that freed it may still be lost.</summary>
    ReuseBeforeFreeIsDurable,

    /// <summary>Recovery takes the whole chain and never looks at the pages that unproven records refer to.</summary>
    NoTailVerification,

    /// <summary>Recovery cuts at the first record whose page does not match, even if a later record frees that page.</summary>
    CutAtFirstMismatch,

    /// <summary>Recovery writes every image it finds, also over pages that a later record gave another content.</summary>
    ReplayOfRevokedImages,

    /// <summary>An image goes to its page at once, before the record that carries it is durable.</summary>
    InPlaceBeforeRecordIsDurable,

    /// <summary>The header is written without a flush between it and the checkpoint it points to.</summary>
    HeaderBeforeCheckpointIsDurable,

    /// <summary>The ring goes round without a checkpoint that releases its space.</summary>
    RingOverwritten,

    /// <summary>fsync answers without a flush.</summary>
    SyncWithoutFlush,
}
