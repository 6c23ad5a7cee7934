using System.Collections.Immutable;

namespace VhostFs.Crash.Tests.LogModel;

public enum RecordKind
{
    /// <summary>A logical block moves to a new page, written before this record.</summary>
    NewPage,

    /// <summary>The page keeps its place; its new content travels in the record and is written in place later.</summary>
    Image,

    /// <summary>A logical block becomes a hole.</summary>
    Unmap,
}

/// <summary>One record of the log, one ring slot each.</summary>
/// <param name="Lsn">Number of the record; its slot follows from it.</param>
/// <param name="DurableLsn">What was known to be durable when the record was written.</param>
/// <param name="Kind">What happens.</param>
/// <param name="Block">The logical block.</param>
/// <param name="Page">Where its content is (NewPage, Image).</param>
/// <param name="Content">NewPage: the checksum of the page. Image: the content. A content is its own perfect checksum here.</param>
/// <param name="FreedPage">The page that the block had before, if it loses it.</param>
public sealed record LogRecord(int Lsn, int DurableLsn, RecordKind Kind, int Block, int Page, long Content, int? FreedPage);

/// <summary>The map from logical blocks to pages, as of one LSN.</summary>
public sealed record Checkpoint(int Generation, ImmutableSortedDictionary<int, int> PageOf)
{
    public static Checkpoint Empty { get; } = new(0, ImmutableSortedDictionary<int, int>.Empty);
}

/// <summary>Names the newest checkpoint, and the last record that is part of it.</summary>
public sealed record Header(int Generation, int CheckpointLsn);
