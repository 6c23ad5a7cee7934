using VhostFs.GuestDriver;

namespace VhostFs.LoadBench.Load;

/// <summary>A part of a job that is measured by itself.</summary>
/// <param name="Name">As it stands in results.</param>
/// <param name="Workloads">One for each queue of the device.</param>
/// <param name="IsTimed">Goes on until the time is over; otherwise until nothing is left to do.</param>
internal sealed record Phase(string Name, IReadOnlyList<Workload> Workloads, bool IsTimed = true)
{
    public Phase(string name, Workload workload, bool isTimed = true)
        : this(name, [workload], isTimed)
    {
    }
}

/// <summary>The jobs by name.</summary>
internal static class Jobs
{
    public static readonly string[] Names = ["randread", "randwrite", "seqread", "seqwrite", "getattr", "lookup", "meta", "fsync-append"];

    public static bool IsTransfer(string name) => name is "randread" or "randwrite" or "seqread" or "seqwrite";

    public static bool IsWrite(string transfer) => transfer.EndsWith("write", StringComparison.Ordinal);

    /// <summary>Where a queue of a device transfers to.</summary>
    public static Offsets OffsetsOf(LoadOptions options, long bytes, int queue) => new(bytes, options.BlockBytes, options.Job.StartsWith("rand", StringComparison.Ordinal), queue);

    /// <summary>May run on several queues and devices at once: what it works on is not used up.</summary>
    public static bool HasManyQueues(string name) => IsTransfer(name) || name is "getattr" or "lookup";

    /// <summary>The most data of a request of the job.</summary>
    public static int DataBytes(LoadOptions options) => options.Job switch
    {
        "getattr" or "lookup" => 0,
        "meta" => MetaJob.ListingBytes,
        _ => options.BlockBytes,
    };

    /// <summary>Makes what the job needs on the device, and yields its phases in their order; undoes it when the last has been taken.</summary>
    public static IEnumerable<Phase> Prepare(LoadOptions options, LoadDevice device)
    {
        if (device.Kind == DeviceKind.Blk)
        {
            if (!IsTransfer(options.Job)) { throw new DriverException($"a disk knows no {options.Job}: {string.Join(", ", Names.Where(IsTransfer))}"); }
            return BlkTransferJob.Prepare(options, device);
        }
        return options.Job switch
        {
            "getattr" => AttributeJob.Prepare(device, isLookup: false),
            "lookup" => AttributeJob.Prepare(device, isLookup: true),
            "meta" => MetaJob.Prepare(options, device),
            "fsync-append" => AppendJob.Prepare(options, device),
            _ => FsTransferJob.Prepare(options, device),
        };
    }
}
