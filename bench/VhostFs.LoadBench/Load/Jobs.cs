using VhostFs.GuestDriver;

namespace VhostFs.LoadBench.Load;

/// <summary>A part of a job that is measured by itself.</summary>
/// <param name="Name">As it stands in results.</param>
/// <param name="IsTimed">Goes on until the time is over; otherwise until nothing is left to do.</param>
internal sealed record Phase(string Name, Workload Workload, bool IsTimed = true);

/// <summary>The jobs by name.</summary>
internal static class Jobs
{
    public static readonly string[] Names = ["randread", "randwrite", "seqread", "seqwrite", "getattr", "lookup", "meta", "fsync-append"];

    public static bool IsTransfer(string name) => name is "randread" or "randwrite" or "seqread" or "seqwrite";

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
