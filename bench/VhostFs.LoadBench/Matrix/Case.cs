using VhostFs.LoadBench.Load;

namespace VhostFs.LoadBench.Matrix;

/// <summary>One job at one depth.</summary>
internal readonly record struct Case(string Job, int Depth, int BlockBytes = Case.Small)
{
    public const int Small = 4096, Medium = 128 << 10, Large = 1 << 20;

    /// <summary>Large transfers one after the other.</summary>
    public static readonly Case[] Sequential = [new("seqread", 8, Medium), new("seqwrite", 8, Medium), new("seqread", 8, Large), new("seqwrite", 8, Large)];

    /// <summary>Small ones anywhere.</summary>
    public static Case[] Random(IReadOnlyList<int> depths) => [.. depths.Select(depth => new Case("randread", depth)), .. depths.Select(depth => new Case("randwrite", depth))];

    /// <summary>Whose file is long enough afterwards, and fills it fastest.</summary>
    public static Case Fill => new("seqwrite", 4, Large);

    public bool IsTransfer => Jobs.IsTransfer(Job);
}
