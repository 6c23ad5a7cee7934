using VhostFs.Linux;
using VhostFs.Reactor;

namespace VhostFs.Failure.Tests;

/// <summary>One operation; the text is its errno, or all that it answered. A success is an answer that it also gives when nothing fails.</summary>
public sealed record Step(string Name, Func<FailureWorld, IoTask<string>> Run);

/// <summary>Some operations on a disk that is known, during any part of which the bdev may fail.</summary>
/// <param name="Disk">What the disk holds before.</param>
/// <param name="Steps">One after the other; the last is the same everywhere: does the volume go on?</param>
public sealed record Scenario(string Name, Disk Disk, IReadOnlyList<Step> Steps)
{
    /// <summary>Happens between the mount and the first operation that may fail.</summary>
    public Func<FailureWorld, IoTask<string>>? Prelude { get; init; }

    /// <summary>Opening, recovery and mount may fail as well.</summary>
    public bool FailsWhileOpening { get; init; }

    /// <summary>All steps but the last are started at once. They must not depend on each other.</summary>
    public bool IsConcurrent { get; init; }

    /// <summary>Works in steps of its own: an error may leave the content of this file anywhere between before and after (docs/blobfs.md).</summary>
    public string? Partial { get; init; }

    /// <summary>Volumes come or go: the other one may be gone afterwards.</summary>
    public bool ChangesVolumes { get; init; }

    /// <summary>What was looked up is forgotten after each step: files without names are deleted right then.</summary>
    public bool Forgets { get; init; }

    public override string ToString() => Name;
}

/// <summary>The bytes that a scenario begins with, made once.</summary>
public sealed class Disk(string name, Func<byte[]> make)
{
    private readonly Lazy<byte[]> _bytes = new(make);

    public string Name => name;

    public byte[] Bytes => _bytes.Value;

    /// <summary>ENOSPC is an answer to expect.</summary>
    public bool IsFull { get; init; }
}
