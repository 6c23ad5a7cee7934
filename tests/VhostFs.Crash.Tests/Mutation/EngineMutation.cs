namespace VhostFs.Crash.Tests.Mutation;

/// <summary>One deliberate mistake: a text that occurs exactly once in a source file of the engine or of Blobfs, and what stands there instead.</summary>
public sealed record EngineMutation(string Name, string File, string Find, string Replacement, params string[] SeenBy)
{
    private const string FilesPrefix = "Blobfs/";

    /// <summary>The assembly that the mistake is in.</summary>
    public string Assembly => $"VhostFs.{File[..File.IndexOf('/', StringComparison.Ordinal)]}";

    /// <summary>Where to look first: names of <see cref="MutationProbe"/>. What is in Blobfs shows in short sequences of file operations.</summary>
    public IReadOnlyList<string> LookFirst => SeenBy.Length > 0 ? SeenBy : File.StartsWith(FilesPrefix, StringComparison.Ordinal) ? ["ace-1", "ace-2"] : [];

    public override string ToString() => Name;
}
