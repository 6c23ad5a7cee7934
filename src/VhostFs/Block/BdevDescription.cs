using VhostFs.Bdev;

namespace VhostFs.Block;

/// <summary>A bdev as bdev_get_bdevs shows it, member by member as SPDK v25.05 does.</summary>
internal static class BdevDescription
{
    /// <summary>What SPDK knows and nothing here does.</summary>
    private static readonly string[] s_notSupported = ["nvme_admin", "nvme_io", "nvme_io_md"];

    private static readonly string[] s_notSupportedEither =
        ["zcopy", "get_zone_info", "zone_management", "zone_append", "compare", "compare_and_write", "abort", "seek_hole", "seek_data", "copy", "nvme_iov_md"];

    public static async Task<Dictionary<string, object>> OfAsync(RegisteredBdev bdev)
    {
        var shown = new Dictionary<string, object>
        {
            ["name"] = bdev.Name,
            ["aliases"] = bdev.Alias is { } alias ? new[] { alias } : new[] { bdev.Uuid },
            ["product_name"] = ProductName(bdev.Module),
            ["block_size"] = bdev.Bdev.BlockSize,
            ["num_blocks"] = bdev.Bdev.SizeBytes / bdev.Bdev.BlockSize,
            ["uuid"] = bdev.Uuid,
            ["assigned_rate_limits"] = Limits(bdev.Served.Limits),
            ["claimed"] = bdev.User is not null,
        };
        if (bdev.User is not null) { shown["claim_type"] = "exclusive_write"; }
        shown["zoned"] = false;
        shown["supported_io_types"] = IoTypes(bdev.Bdev);
        shown["driver_specific"] = bdev.Details is { } details ? await details() : new Dictionary<string, object>();
        return shown;
    }

    /// <summary>As bdev_set_qos_limit takes them.</summary>
    public static Dictionary<string, long> Limits(RateLimits limits) => new()
    {
        ["rw_ios_per_sec"] = limits.OperationsPerSecond,
        ["rw_mbytes_per_sec"] = limits.BytesPerSecond >> 20,
        ["r_mbytes_per_sec"] = limits.ReadBytesPerSecond >> 20,
        ["w_mbytes_per_sec"] = limits.WriteBytesPerSecond >> 20,
    };

    private static Dictionary<string, bool> IoTypes(IBdev bdev)
    {
        var types = new Dictionary<string, bool> { ["read"] = true, ["write"] = !bdev.IsReadOnly, ["unmap"] = bdev.SupportsUnmap, ["flush"] = true, ["reset"] = false };
        foreach (string type in s_notSupported) { types[type] = false; }
        types["write_zeroes"] = !bdev.IsReadOnly;
        foreach (string type in s_notSupportedEither) { types[type] = false; }
        return types;
    }

    private static string ProductName(string module) => module switch
    {
        BdevModule.Malloc => "Malloc disk",
        BdevModule.Null => "Null disk",
        BdevModule.Aio => "AIO disk",
        BdevModule.Uring => "URING bdev",
        BdevModule.Lvol => "Logical Volume",
        BdevModule.Error => "Error Injection Disk",
        BdevModule.Split => "Split Disk",
        BdevModule.Gpt => "GPT Disk",
        BdevModule.Raid => "Raid Volume",
        _ => module,
    };
}
