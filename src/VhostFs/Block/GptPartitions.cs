using System.Globalization;
using VhostFs.Bdev;
using VhostFs.Config;
using VhostFs.Reactor;

namespace VhostFs.Block;

/// <summary>Partitions of GUID partition tables as bdevs: found when a bdev is examined, gone when it is deleted. There are no methods for them.</summary>
/// <remarks>Only those of SPDK's own types, as with SPDK: all others are what a guest has made on its disk, and the disk stays the guest's. A table inside of a partition is not looked at: it could go on so.</remarks>
internal sealed class GptPartitions(BdevRegistry bdevs, Log log)
{
    private static readonly Guid s_type = new("6527994e-2c5a-4eec-9613-8f5944074e8b");

    /// <summary>SPDK has always shown partitions of this type without their last block, and has to for ever (its issue 2801).</summary>
    private static readonly Guid s_oldType = new("7c5222bd-8f5d-4087-9c00-bf9843c7b58c");

    /// <summary>A bdev has appeared that nobody uses.</summary>
    public async Task ExamineAsync(RegisteredBdev bdev)
    {
        if (bdev.Module == BdevModule.Gpt) { return; }
        GptResult found = await bdev.Reactor.InvokeAsync(() => GptTable.ReadAsync(bdev.Bdev));
        string scope = $"bdev {bdev.Name}";
        if (found.Error is { } error) { log.Warn(scope, found.Partitions is null ? $"the partition table on it is not used: {error}" : $"the partition table at its beginning is damaged ({error}); that at its end is used"); }
        GptPartition[] shown = [.. (found.Partitions ?? []).Select(AsShown).Where(p => p.BlockCount > 0)];
        if (shown.Length == 0) { return; }
        if (FindConflict(bdev, shown) is { } conflict)
        {
            log.Warn(scope, $"the partitions on it are not shown: {conflict}");
            return;
        }
        var partitions = new List<RegisteredBdev>();
        foreach (GptPartition partition in shown) { partitions.Add(await PresentAsync(bdev, partition)); }
        bdev.User = new BdevsAbove(bdevs, partitions, isFoundByExamination: true);
        log.Info(scope, $"holds the partitions {ConfigCheck.Names(partitions.Select(p => p.Name))}");
        foreach (RegisteredBdev partition in partitions) { await bdevs.ExamineNewAsync(partition); }
    }

    /// <returns>With no blocks: it is not shown.</returns>
    private static GptPartition AsShown(GptPartition partition) =>
        partition.Type == s_type ? partition : partition with { BlockCount = partition.Type == s_oldType ? partition.BlockCount - 1 : 0 };

    private string? FindConflict(RegisteredBdev bdev, GptPartition[] shown)
    {
        var ids = new HashSet<Guid>();
        foreach (GptPartition partition in shown)
        {
            if (bdevs.Find(NameOf(bdev, partition)) is { } same) { return $"there is a bdev '{same.Name}' already"; }
            if (partition.Id != Guid.Empty && (!ids.Add(partition.Id) || bdevs.Find(partition.Id.ToString()) is not null)) { return $"there is a bdev {partition.Id} already"; }
        }
        return null;
    }

    private async Task<RegisteredBdev> PresentAsync(RegisteredBdev below, GptPartition partition)
    {
        (long firstByte, long sizeBytes) = (partition.FirstBlock * below.Bdev.BlockSize, partition.BlockCount * below.Bdev.BlockSize);
        IBdev bdev = await below.Reactor.InvokeAsync(() => new IoTask<IBdev>(new SplitBdev(below.Bdev, NameOf(below, partition), firstByte, sizeBytes)));
        var presented = new RegisteredBdev(BdevModule.Gpt, bdev, below.Reactor, partition.Id, below)
        {
            Details = () => Task.FromResult<object>(new Dictionary<string, object>
            {
                ["gpt"] = new Dictionary<string, object>
                {
                    ["base_bdev"] = below.Name,
                    ["offset_blocks"] = partition.FirstBlock,
                    ["partition_type_guid"] = partition.Type.ToString(),
                    ["unique_partition_guid"] = partition.Id.ToString(),
                    ["partition_name"] = partition.Name,
                },
            }),
        };
        bdevs.Present(presented);
        return presented;
    }

    private static string NameOf(RegisteredBdev bdev, GptPartition partition) => string.Create(CultureInfo.InvariantCulture, $"{bdev.Name}p{partition.Number}");
}
