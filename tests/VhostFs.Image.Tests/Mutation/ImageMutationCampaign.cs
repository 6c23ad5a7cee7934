using System.Collections.Concurrent;
using VhostFs.Campaigns;
using VhostFs.Crash.Tests.Explorer;
using VhostFs.Image.Tests.Images;

namespace VhostFs.Image.Tests.Mutation;

/// <summary>Disk images by somebody who knows the format and its checksums: each is opened, read, changed and closed, or refused.</summary>
public sealed class ImageMutationCampaign()
    : Campaign("image-mutation", "mutated images", floor: 200_000, "disk images with forged structures and right checksums: success or an error, no crash, no loop, the other volume untouched, checker and engine agree")
{
    private const int ImagesPerSeed = 200;

    // Built once: the same for all seeds.
    private readonly Lazy<BaseImages> _images = new(() => ImageBuilder.Build(1));
    private readonly ConcurrentBag<Bench> _benches = [];

    public override TimeSpan Patience => TimeSpan.FromMinutes(2);

    public override long Run(ulong seed)
    {
        bool crashed = seed % 2 == 0;
        Bench bench = _benches.TryTake(out Bench? free) ? free : new Bench(_images.Value);
        for (int i = 0; i < ImagesPerSeed; i++)
        {
            if (Try(bench, crashed, unchecked(((int)seed * ImagesPerSeed) + i)) is { } problem) { throw new FindingException(problem); }
        }
        _benches.Add(bench);
        return ImagesPerSeed;
    }

    /// <summary>One image; null, or what is wrong with what became of it.</summary>
    internal static string? Try(Bench bench, bool crashed, int seed)
    {
        (ImageMutator mutator, DiskImage image) = crashed ? bench.Crashed : bench.Clean;
        MutationScope scope = mutator.Next(seed, image);
        string? problem;
        try { problem = bench.Judge.Judge(scope, image, mutator.Layout); }
        catch (Exception e) { problem = e.ToString(); }
        return problem is null ? null : $"image {seed}{(crashed ? " (crashed)" : "")}: {mutator.Description}\n{problem}";
    }

    /// <summary>What one thread needs.</summary>
    internal sealed class Bench(BaseImages images)
    {
        public (ImageMutator, DiskImage) Clean { get; } = (new ImageMutator(images.Clean), new DiskImage(images.Clean));

        public (ImageMutator, DiskImage) Crashed { get; } = (new ImageMutator(images.Crashed), new DiskImage(images.Crashed));

        public MutantJudge Judge { get; init; } = new();
    }
}
