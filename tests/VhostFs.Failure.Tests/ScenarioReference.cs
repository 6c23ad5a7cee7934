using System.Collections.Concurrent;
using VhostFs.Crash.Tests.Explorer;
using VhostFs.Linux;
using VhostFs.Reactor;
using IoReactor = VhostFs.Reactor.Reactor;

namespace VhostFs.Failure.Tests;

/// <summary>What a scenario answers and leaves behind when nothing fails: for each subset of its steps that may have been done.</summary>
/// <remarks>A set of steps is a bit mask.</remarks>
internal sealed class ScenarioReference
{
    private static readonly ConcurrentDictionary<Scenario, Lazy<ScenarioReference>> s_all = new();

    private readonly string[][] _answers;
    private readonly string[] _content;

    private ScenarioReference(Scenario scenario)
    {
        int sets = 1 << scenario.Steps.Count;
        _answers = new string[sets][];
        _content = new string[sets];
        for (int done = 0; done < sets; done++) { (_answers[done], _content[done]) = Run(scenario, done); }
    }

    public static ScenarioReference Of(Scenario scenario) => s_all.GetOrAdd(scenario, static s => new Lazy<ScenarioReference>(() => new ScenarioReference(s))).Value;

    /// <summary>Content of the scenario's volume when exactly these steps were done.</summary>
    public string Content(int done) => _content[done];

    /// <summary>It is what the step says when it succeeds, whatever was done before.</summary>
    public bool IsAnswer(int step, string answer)
    {
        for (int done = 0; done < _answers.Length; done++)
        {
            if ((done & (1 << step)) != 0 && _answers[done][step] == answer) { return true; }
        }
        return false;
    }

    private static (string[] Answers, string Content) Run(Scenario scenario, int done)
    {
        var image = new DiskImage(scenario.Disk.Bytes);
        using var bdev = new FaultBdev(new ImageBdev(image));
        using var reactor = new IoReactor(new SimulatedDriver(), "reference");
        using var world = new FailureWorld(bdev, [FailureWorld.Main, FailureWorld.Other]) { Client = { Forgets = scenario.Forgets } };
        string[] answers = new string[scenario.Steps.Count];
        string content = "";
        string? problem = reactor.RunUntilComplete(async IoTask<string?> () =>
        {
            if (await world.OpenAsync() is { } unopened) { return unopened; }
            if (scenario.Prelude is { } prelude && await prelude(world) is var first && first != "None") { return $"prelude: {first}"; }
            for (int i = 0; i < answers.Length; i++)
            {
                if ((done & (1 << i)) == 0) { continue; }
                world.Clock = NthFailureRun.ClockOf(i);
                answers[i] = await scenario.Steps[i].Run(world);
            }
            content = await world.LookAsync(0);
            Errno closed = await world.CloseAsync();
            return closed == Errno.None ? null : $"closing: {closed}";
        });
        return problem is null ? (answers, content) : throw new InvalidOperationException($"{scenario.Name} without a failure: {problem}");
    }
}
