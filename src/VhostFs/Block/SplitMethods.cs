using System.Globalization;
using System.Security.Cryptography;
using System.Text;
using VhostFs.Bdev;
using VhostFs.Linux;
using VhostFs.Rpc;

namespace VhostFs.Block;

/// <summary>bdev_split_create and bdev_split_delete: parts of a bdev, all of them at once.</summary>
internal sealed class SplitMethods(BdevRegistry bdevs, ControlTurn turn)
{
    private const long MiB = 1 << 20;
    private const uint MaxSplits = 1024;

    private static readonly RpcRefusal s_wrong = new(RpcErrorCode.InvalidParams, "Invalid parameters");

    public Dictionary<string, RpcMethod> Methods => new(StringComparer.Ordinal)
    {
        ["bdev_split_create"] = turn.Whole(CreateAsync),
        ["bdev_split_delete"] = DeleteAsync,
    };

    private async Task<object?> CreateAsync(RpcCall call)
    {
        var parameters = new RpcParameters(call, s_wrong);
        string baseName = parameters.Text("base_bdev");
        uint count = (uint)parameters.Number("split_count", uint.MaxValue);
        long sizeMiB = (long)(parameters.OptionalNumber("split_size_mb", long.MaxValue / MiB) ?? 0);
        parameters.End();
        RpcException Failure(Errno errno, string reason) =>
            new(RpcErrorCode.InvalidParams, string.Create(CultureInfo.InvariantCulture, $"Failed to create {count} split bdevs from '{baseName}': {RpcException.Text(errno)}"), reason);

        if (count == 0) { throw Failure(Errno.EINVAL, "there must be a split"); }
        if (bdevs.Find(baseName) is not { } below) { throw Failure(Errno.ENODEV, $"there is no bdev '{baseName}'"); }
        if (SplitsOf(below) is not null) { throw Failure(Errno.EEXIST, $"bdev '{below.Name}' is split already"); }
        BdevRegistry.CheckFree(below, Failure);
        long sizeBytes = sizeMiB > 0 ? sizeMiB * MiB : below.Bdev.SizeBytes / count & -(long)below.Bdev.BlockSize;
        if (sizeBytes == 0 || sizeBytes > below.Bdev.SizeBytes) { throw Failure(Errno.EINVAL, $"bdev '{below.Name}' has {below.Bdev.SizeBytes} bytes: too few"); }
        long fitting = Math.Min(count, below.Bdev.SizeBytes / sizeBytes); // as with SPDK, no more than fit
        if (fitting > MaxSplits) { throw Failure(Errno.EINVAL, $"a bdev has at most {MaxSplits} splits"); }
        try { return (await SplitAsync(call, below, sizeBytes, (int)fitting)).Select(b => b.Name); }
        catch (RpcException e) { throw new RpcException(RpcErrorCode.InvalidParams, Failure((Errno)(-e.Code), "").Message, e.Reason); }
    }

    private async Task<object?> DeleteAsync(RpcCall call)
    {
        var parameters = new RpcParameters(call, s_wrong);
        string baseName = parameters.Text("base_bdev");
        parameters.End();
        await turn.RunAroundAsync(
            async () =>
            {
                (RegisteredBdev below, BdevsAbove splits) = await FindAsync(baseName);
                return splits.QuiesceAsync(below);
            },
            async () =>
            {
                (RegisteredBdev below, BdevsAbove splits) = await FindAsync(baseName);
                await splits.LetGoAsync(below);
                return true;
            },
            RpcException.InvalidParams);
        return true;
    }

    /// <summary>A bdev that is split, and whose splits may go.</summary>
    private async Task<(RegisteredBdev Base, BdevsAbove Splits)> FindAsync(string baseName)
    {
        if (bdevs.Find(baseName) is not { } below || SplitsOf(below) is not { } splits) { throw RpcException.InvalidParams(Errno.ENOENT, $"there is no bdev '{baseName}' that is split"); }
        if (await splits.FindRefusalAsync(below) is { } refusal) { throw RpcException.InvalidParams(Errno.EBUSY, $"a split of '{below.Name}' is used by {refusal}; delete that first"); }
        return (below, splits);
    }

    private async Task<List<RegisteredBdev>> SplitAsync(RpcCall call, RegisteredBdev below, long sizeBytes, int count)
    {
        string[] names = [.. Enumerable.Range(0, count).Select(i => string.Create(CultureInfo.InvariantCulture, $"{below.Name}p{i}"))];
        foreach (string name in names) { bdevs.CheckNew(name, Guid.Empty); } // all or none
        var splits = new List<RegisteredBdev>();
        for (int i = 0; i < count; i++)
        {
            (string name, long firstByte) = (names[i], sizeBytes * i);
            object Describe(IBdev _) => new Dictionary<string, object>
            {
                ["split"] = new Dictionary<string, object> { ["base_bdev"] = below.Name, ["offset_blocks"] = firstByte / below.Bdev.BlockSize },
            };
            splits.Add(await bdevs.AddAsync(call, BdevModule.Split, name, UuidOf(below, name), below.Reactor, below, () => new SplitBdev(below.Bdev, name, firstByte, sizeBytes), Describe));
        }
        below.User = new BdevsAbove(bdevs, splits);
        return splits;
    }

    /// <summary>The same for the same part of the same bdev: a name-based UUID (RFC 9562, version 5) in the space of the base's.</summary>
    private static Guid UuidOf(RegisteredBdev below, string name)
    {
#pragma warning disable CA5350 // that UUID is made so; nothing depends on it being hard to forge
        byte[] hash = SHA1.HashData([.. Guid.Parse(below.Uuid).ToByteArray(bigEndian: true), .. Encoding.UTF8.GetBytes(name)]);
#pragma warning restore CA5350
        hash[6] = (byte)((hash[6] & 0x0F) | 0x50);
        hash[8] = (byte)((hash[8] & 0x3F) | 0x80);
        return new Guid(hash.AsSpan(0, 16), bigEndian: true);
    }

    private static BdevsAbove? SplitsOf(RegisteredBdev bdev) => bdev.User is BdevsAbove above && above.Bdevs[0].Module == BdevModule.Split ? above : null;
}
