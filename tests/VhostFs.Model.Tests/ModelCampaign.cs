using FsCheck;
using FsCheck.Fluent;
using VhostFs.Campaigns;
using VhostFs.Fuse;

namespace VhostFs.Model.Tests;

/// <summary>Random sequences of operations on blobfs and on a plain specification of a file system. FsCheck makes them, and makes them small when answers differ.</summary>
public sealed class ModelCampaign() : Campaign("model", "sequences", floor: 20_000,
    "100 operations by 1 to 4 sessions, some at once: every answer and errno equals a plain specification's, in some order; remounts and crashes in between; all space comes back")
{
    internal const int Operations = 100;
    private const int SequencesPerSeed = 25;

    public override long Run(ulong seed)
    {
        int number = unchecked((int)seed);
        var setting = new ModelSetting(number, (number & 3) + 1, (number & 4) != 0 ? 128 << 10 : 64 << 20, IsSlow: (number & 24) != 0, Collides: (number & 96) == 96);
        string? problem = Find(seed, setting, static session => session, SequencesPerSeed);
        return problem is null ? SequencesPerSeed : throw new FindingException(problem);
    }

    /// <summary>Null, or the smallest sequence that was found whose answers differ.</summary>
    internal static string? Find(ulong seed, ModelSetting setting, Func<IFileSystem, IFileSystem> wrap, int sequences)
    {
        string? smallest = null;
        int length = int.MaxValue;
        Property holds = Prop.ForAll(Arb.From(Sequence, Smaller), drafts =>
        {
            var run = new ModelSequence(setting, wrap);
            string? problem;
            try { problem = run.Run(drafts); }
#pragma warning disable CA1031 // whatever escapes is a finding
            catch (Exception e) when (e is not OutOfMemoryException) { problem = e.ToString(); }
#pragma warning restore CA1031
            if (problem is not null && drafts.Length < length)
            {
                length = drafts.Length;
                smallest = $"{setting}\n{run.Story()}\n{problem}";
            }
            return problem is null;
        });
        Config config = Config.Quick.WithMaxTest(sequences).WithReplay(seed, (2 * seed) + 1).WithQuietOnSuccess(true).WithRunner(Silent.Instance);
        Check.One(config, holds);
        return smallest;
    }

    private static Gen<Draft[]> Sequence { get; } = (
        from kind in Gen.Choose(0, 1_000_000)
        from a in Gen.Choose(0, 1_000_000)
        from b in Gen.Choose(0, 1_000_000)
        from together in Gen.Choose(0, 2)
        select new Draft(kind, a, b, together == 0)).ArrayOf(Operations);

    /// <summary>Fewer operations first, then plainer ones.</summary>
    private static IEnumerable<Draft[]> Smaller(Draft[] drafts)
    {
        for (int size = drafts.Length / 2; size >= 1; size /= 2)
        {
            for (int at = 0; at + size <= drafts.Length; at += size) { yield return [.. drafts[..at], .. drafts[(at + size)..]]; }
        }
        for (int i = 0; i < drafts.Length; i++)
        {
            if (drafts[i].Together) { yield return With(drafts, i, drafts[i] with { Together = false }); }
        }
    }

    private static Draft[] With(Draft[] drafts, int index, Draft draft)
    {
        Draft[] copy = [.. drafts];
        copy[index] = draft;
        return copy;
    }

    /// <summary>The campaign reports; FsCheck need not.</summary>
    private sealed class Silent : IRunner
    {
        public static Silent Instance { get; } = new();

        public void OnStartFixture(Type t)
        {
        }

        public void OnArguments(int ntest, Microsoft.FSharp.Collections.FSharpList<object> args, Microsoft.FSharp.Core.FSharpFunc<int, Microsoft.FSharp.Core.FSharpFunc<Microsoft.FSharp.Collections.FSharpList<object>, string>> every)
        {
        }

        public void OnShrink(Microsoft.FSharp.Collections.FSharpList<object> args, Microsoft.FSharp.Core.FSharpFunc<Microsoft.FSharp.Collections.FSharpList<object>, string> everyShrink)
        {
        }

        public void OnFinished(string name, TestResult result)
        {
        }
    }
}
