using System.Diagnostics;
using System.Globalization;
using System.Runtime.InteropServices;

namespace VhostFs.Crash.Tests.Mutation;

/// <summary>A process that explores mutants one after the other. An engine with a mistake in it may spoil memory that no runtime guards, and then takes its process along.</summary>
/// <remarks>It reads the numbers of mutants, one a line, and answers each with a line; the end of its input ends it.</remarks>
internal sealed class MutationWorker
{
    private const string NotNoticed = "-";
    private const string NoMutant = "! ";

    private readonly Process _process;
    private int _served;

    private MutationWorker(Process process) => _process = process;

    /// <summary>Some mutant has been here: what happens now may be its doing.</summary>
    public bool IsUsed => _served > 0;

    public static MutationWorker Start()
    {
        // .../shared/Microsoft.NETCore.App/VERSION/
        string dotnet = Path.GetFullPath(Path.Combine(RuntimeEnvironment.GetRuntimeDirectory(), "..", "..", "..", "dotnet"));
        var start = new ProcessStartInfo(dotnet, ["exec", typeof(MutationWorker).Assembly.Location]) { RedirectStandardInput = true, RedirectStandardOutput = true };
        return new MutationWorker(Process.Start(start) ?? throw new InvalidOperationException($"{dotnet} cannot be started"));
    }

    /// <summary>What of the mutant was noticed, null for nothing.</summary>
    /// <param name="died">The process is no more, and this is to be thrown away.</param>
    /// <exception cref="InvalidOperationException">There is no such mutant.</exception>
    public string? Explore(int mutant, long maxStates, out bool died)
    {
        try { _process.StandardInput.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{mutant} {maxStates}")); }
        catch (IOException) { } // it died after its last answer
        string? answer = _process.StandardOutput.ReadLine();
        _served++;
        died = answer is null;
        if (answer?.StartsWith(NoMutant, StringComparison.Ordinal) == true) { throw new InvalidOperationException(answer[NoMutant.Length..]); }
        if (!died) { return answer == NotNoticed ? null : answer; }
        _process.WaitForExit();
        return string.Create(CultureInfo.InvariantCulture, $"the process died, with status {_process.ExitCode}");
    }

    /// <summary>The worker's side.</summary>
    public static int Serve()
    {
        while (Console.ReadLine() is { } line)
        {
            string[] words = line.Split(' ');
            EngineMutation mutation = EngineMutations.All[int.Parse(words[0], CultureInfo.InvariantCulture)];
            Console.WriteLine(Explore(mutation, long.Parse(words[1], CultureInfo.InvariantCulture))?.ReplaceLineEndings(" ") ?? NotNoticed);
        }
        return 0;
    }

    private static string? Explore(EngineMutation mutation, long maxStates)
    {
        MutatedEngine engine;
        try { engine = MutatedEngine.Compile(mutation); }
        catch (InvalidOperationException e) { return NoMutant + e.Message; }
        using (engine) { return engine.Explore(mutation.LookFirst, maxStates); }
    }
}
