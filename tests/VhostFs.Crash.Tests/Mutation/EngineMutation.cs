namespace VhostFs.Crash.Tests.Mutation;

/// <summary>One deliberate mistake in the engine: a text that occurs exactly once in a source file, and what stands there instead.</summary>
public sealed record EngineMutation(string Name, string File, string Find, string Replacement)
{
    public override string ToString() => Name;
}
