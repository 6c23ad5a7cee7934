using VhostFs.Campaigns;
using VhostFs.Crash.Tests.Mutation;

namespace VhostFs.Crash.Tests.Campaigns;

/// <summary>Each seed puts one mistake into a copy of the engine; the explorer must notice.</summary>
public sealed class EngineMutationCampaign(Action<string>? report = null)
    : Campaign("engine-mutations", "mutants", EngineMutations.All.Count, "one mistake in a copy of the engine or of Blobfs per seed: the crash explorer notices it")
{
    private const long MaxStates = 100_000;

    public override TimeSpan Patience => TimeSpan.FromMinutes(15);

    public override long Run(ulong seed)
    {
        EngineMutation mutation = EngineMutations.All[(int)((seed - 1) % (ulong)EngineMutations.All.Count)];
        using MutatedEngine engine = MutatedEngine.Compile(mutation);
        string? noticed = engine.Explore(mutation.LookFirst, MaxStates);
        report?.Invoke($"{mutation}: {noticed ?? "not noticed"}");
        return noticed is not null ? 1 : throw new FindingException($"nobody notices: {mutation} ({mutation.File})");
    }
}
