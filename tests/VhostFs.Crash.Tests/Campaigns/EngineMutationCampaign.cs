using System.Collections.Concurrent;
using VhostFs.Campaigns;
using VhostFs.Crash.Tests.Mutation;

namespace VhostFs.Crash.Tests.Campaigns;

/// <summary>Each seed puts one mistake into a copy of the engine; the explorer must notice.</summary>
public sealed class EngineMutationCampaign(Action<string>? report = null)
    : Campaign("engine-mutations", "mutants", EngineMutations.All.Count, "one mistake in a copy of the engine or of Blobfs per seed: the crash explorer notices it")
{
    private const long MaxStates = 100_000;

    private readonly ConcurrentBag<MutationWorker> _idle = [];

    public override TimeSpan Patience => TimeSpan.FromMinutes(15);

    public override long Run(ulong seed)
    {
        int mutant = (int)((seed - 1) % (ulong)EngineMutations.All.Count);
        EngineMutation mutation = EngineMutations.All[mutant];
        string? noticed = Explore(mutant);
        report?.Invoke($"{mutation}: {noticed ?? "not noticed"}");
        return noticed is not null ? 1 : throw new FindingException($"nobody notices: {mutation} ({mutation.File})");
    }

    private string? Explore(int mutant)
    {
        while (true)
        {
            if (!_idle.TryTake(out MutationWorker? worker)) { worker = MutationWorker.Start(); }
            bool wasUsed = worker.IsUsed;
            string? noticed = worker.Explore(mutant, MaxStates, out bool died);
            if (!died) { _idle.Add(worker); }
            // It may have died of one that came before: again, in a process of its own.
            if (!died || !wasUsed) { return noticed; }
        }
    }
}
