using VhostFs.GuestDriver;

namespace VhostFs.LoadBench.Load;

internal enum DeviceKind
{
    Fs,
    Blk,
}

/// <summary>One run: what is done to which device, how hard and for how long.</summary>
internal sealed record LoadOptions
{
    /// <summary>One of <see cref="Jobs.Names"/>.</summary>
    public required string Job { get; init; }

    /// <summary>Paths, of a device each; the job runs on all of them at once.</summary>
    public required IReadOnlyList<string> Sockets { get; init; }

    public DeviceKind Device { get; init; } = DeviceKind.Fs;

    /// <summary>Of each device, with a thread of the front-end for each.</summary>
    public int Queues { get; init; } = 1;

    /// <summary>Operations in flight on each queue.</summary>
    public int Depth { get; init; } = 1;

    /// <summary>Of a transfer.</summary>
    public int BlockBytes { get; init; } = 4096;

    /// <summary>How long is measured. Jobs that use up what they work on (create, rename, unlink) end with it instead.</summary>
    public double Seconds { get; init; } = 5;

    /// <summary>Before that, unmeasured.</summary>
    public double WarmUpSeconds { get; init; } = 0.5;

    /// <summary>Ends a measurement earlier; 0: only time does.</summary>
    public long MaxOperations { get; init; }

    /// <summary>Looks at the used ring all the time; otherwise sleeps until the device calls.</summary>
    public bool IsPolling { get; init; }

    /// <summary>Processors of the front-end's threads, one after the other; none: any.</summary>
    public IReadOnlyList<int> Cpus { get; init; } = [];

    /// <summary>The same of the server's processes or, when there is one, of its serving threads.</summary>
    public IReadOnlyList<int> ServerCpus { get; init; } = [];

    /// <summary>Process whose time and memory are taken; 0: who listens on the sockets.</summary>
    public int ServerProcess { get; init; }

    /// <summary>Files are opened with O_DIRECT.</summary>
    public bool IsDirect { get; init; }

    /// <summary>Of the file, or of the part of the disk, that transfers go to. A shorter file is filled first.</summary>
    public long FileBytes { get; init; } = 1L << 30;

    /// <summary>A disk is filled first, as far as transfers go.</summary>
    public bool FillsDisk { get; init; }

    /// <summary>That the metadata job makes.</summary>
    public int Files { get; init; } = 5000;

    public int QueueSize { get; init; } = 512;

    /// <summary>Processor of the front-end's n-th thread; negative: any.</summary>
    public int CpuOf(int thread) => Cpus.Count == 0 ? -1 : Cpus[thread % Cpus.Count];

    /// <exception cref="DriverException">They contradict each other.</exception>
    public void Check()
    {
        if (Depth < 1 || Depth > QueueSize) { throw new DriverException($"{Depth} requests in flight on a queue of {QueueSize}"); }
        if (BlockBytes % GuestRam.PageBytes != 0 && BlockBytes > GuestRam.PageBytes) { throw new DriverException($"transfers of {BlockBytes} bytes are not whole pages"); }
        if (Sockets.Count * Queues > 1 && !Jobs.HasManyQueues(Job)) { throw new DriverException($"{Job} is a job for one queue of one device"); }
        if (BlockBytes > FileBytes) { throw new DriverException($"transfers of {BlockBytes} bytes in a file of {FileBytes}"); }
        if (QueueSize is < 2 or > 32768 || (QueueSize & (QueueSize - 1)) != 0) { throw new DriverException("the size of a queue is a power of two up to 32768"); }
    }
}
