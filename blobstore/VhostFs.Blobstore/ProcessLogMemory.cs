using VhostFs.Linux;

namespace VhostFs.Blobstore;

/// <summary>Log memory of this process, for a bdev that ends with it: there is nothing that could outlive either.</summary>
public sealed class ProcessLogMemory : ILogMemoryStore
{
    private const long Bytes = LogMemory.HeaderBytes + ((long)LogMemory.MaxChunks * LogMemory.ChunkBytes);

    public LogMemory? Open(Guid pool, string? bdev, ulong epoch, Action<string> report)
    {
        // Address space; a page costs memory from its first use on.
        Errno mapped = MemoryCalls.Map(null, 0, Bytes, MemoryCalls.PROT_READ | MemoryCalls.PROT_WRITE, MemoryCalls.MAP_PRIVATE | MemoryCalls.MAP_NORESERVE, out nuint address);
        return mapped == Errno.None ? new LogMemory(address, LogMemory.MaxChunks, pool, epoch, static _ => true, _ => MemoryCalls.Unmap(address, Bytes), [], static () => { }) : null;
    }
}
