using System.Globalization;
using VhostFs.Linux;

namespace VhostFs.Blobstore;

/// <summary>Log memory as files in a directory in memory (tmpfs), one for each opening of a pool; a clean end removes them.</summary>
/// <remarks>The directory may be everybody's, like /dev/shm: a file is one of ours only if it belongs to this user, and nobody else may read or write it.</remarks>
/// <param name="path">The directory.</param>
/// <param name="isOptional">Say nothing when it is not there, or not in memory.</param>
public sealed class LogMemoryDirectory(string path, bool isOptional = false) : ILogMemoryStore
{
    private const string Prefix = "vhostfs-log-";
    private const long FileBytes = LogMemory.HeaderBytes + ((long)LogMemory.MaxChunks * LogMemory.ChunkBytes);

    /// <summary>What every opener of a pool uses, so that each finds what another left: the directory in this environment variable, or <c>none</c>; where Linux has memory for everybody when it is
    /// not set.</summary>
    public const string Variable = "VHOSTFS_LOG_MEMORY";

    /// <inheritdoc cref="Variable"/>
    public static LogMemoryDirectory? Default { get; } = Environment.GetEnvironmentVariable(Variable) switch
    {
        null or "" => new LogMemoryDirectory("/dev/shm", isOptional: true),
        "none" => null,
        string chosen => new LogMemoryDirectory(chosen),
    };

    public LogMemory? Open(Guid pool, string? bdev, ulong epoch, Action<string> report)
    {
        if (bdev is null || !IsMemory(report)) { return null; }
        string name = $"{Prefix}{pool:N}-{bdev}-";
        var left = new List<StagedBatch>();
        var files = new List<string>();
        foreach (string file in LeftFiles(name))
        {
            if (TryRead(file, pool, left, report)) { files.Add(file); }
        }
        string own = Path.Combine(path, name + epoch.ToString(CultureInfo.InvariantCulture));
        LogMemory? memory = Create(own, pool, epoch, left, files, report);
        if (memory is null && left.Count > 0)
        {
            // What was left counts all the same.
            var header = new NativeBuffer(LogMemory.HeaderBytes, zeroed: true);
            memory = new LogMemory(header.Address, 0, pool, epoch, static _ => false, _ => header.Dispose(), left, () => Remove(files));
        }
        return memory;
    }

    private bool IsMemory(Action<string> report)
    {
        Errno opened = FileCalls.Open(path, FileCalls.O_RDONLY | FileCalls.O_DIRECTORY, 0, out SafeFd fd);
        using (fd)
        {
            if (opened == Errno.None) { opened = FileCalls.FileSystemType(fd, out long type) is var known and not Errno.None ? known : type is FileCalls.TMPFS_MAGIC or FileCalls.RAMFS_MAGIC ? Errno.None : Errno.EOPNOTSUPP; }
        }
        if (opened == Errno.None) { return true; }
        if (!isOptional) { report($"{path} cannot keep the log's memory ({(opened == Errno.EOPNOTSUPP ? "it is not a tmpfs" : opened)}): every change waits for the device"); }
        return false;
    }

    /// <summary>In the order of their epochs.</summary>
    private IEnumerable<string> LeftFiles(string name) =>
        Directory.EnumerateFiles(path, name + "*").OrderBy(file => ulong.TryParse(Path.GetFileName(file.AsSpan())[name.Length..], CultureInfo.InvariantCulture, out ulong epoch) ? epoch : ulong.MaxValue);

    /// <summary>False: not a file of ours.</summary>
    private static bool TryRead(string file, Guid pool, List<StagedBatch> left, Action<string> report)
    {
        Errno opened = FileCalls.Open(file, FileCalls.O_RDONLY | FileCalls.O_NOFOLLOW | FileCalls.O_NONBLOCK, 0, out SafeFd fd);
        using (fd)
        {
            FileStatus status = default;
            if (opened == Errno.None) { opened = FileCalls.Status(fd, out status); }
            if (opened != Errno.None || !status.IsRegularFile || status.OwnerUid != MountCalls.EffectiveUserId || !status.IsOwnersAlone || status.SizeBytes > FileBytes)
            {
                report($"{file} is not this user's ({(opened == Errno.None ? "its owner or its mode" : opened)}): if a vhostfs of another user left it, start as that user first, or what it wrote last without a sync is not there; else remove it");
                return false;
            }
            if (ReadWhatThereIs(fd) is not { } memory)
            {
                report($"{file} cannot be read: what the last vhostfs wrote without a sync may not be there");
                return true;
            }
            using NativeBuffer owned = memory;
            if (LogMemory.IsOfAnotherVersion(memory.Span))
            {
                report($"{file} was left by another version of vhostfs: what that wrote last without a sync is not there; start and end that version once, or remove the file");
                return false;
            }
            List<StagedBatch> batches = LogMemory.ReadAll(memory.Span, out Guid owner);
            if (owner == pool) { left.AddRange(batches); }
            return true;
        }
    }

    /// <summary>Not the holes behind the chunks that were ever used.</summary>
    private static NativeBuffer? ReadWhatThereIs(SafeFd fd)
    {
        Span<byte> header = stackalloc byte[LogMemory.HeaderBytes];
        header.Clear();
        if (FileCalls.ReadAt(fd, 0, header).IsError) { return null; }
        var memory = new NativeBuffer(LogMemory.UsedBytes(header), zeroed: true);
        for (int done = 0; done < memory.Length;)
        {
            IoResult read = FileCalls.ReadAt(fd, done, memory.Span[done..]);
            if (read.Value <= 0)
            {
                if (!read.IsError) { break; }
                memory.Dispose();
                return null;
            }
            done += read.Value;
        }
        return memory;
    }

    private static LogMemory? Create(string file, Guid pool, ulong epoch, List<StagedBatch> left, List<string> files, Action<string> report)
    {
        Errno made = FileCalls.Open(file, FileCalls.O_RDWR | FileCalls.O_CREAT | FileCalls.O_EXCL | FileCalls.O_NOFOLLOW, 0x180, out SafeFd fd);
        nuint address = 0;
        if (made == Errno.None) { made = FileCalls.Truncate(fd, FileBytes); }
        if (made == Errno.None) { made = FileCalls.Fallocate(fd, 0, 0, LogMemory.HeaderBytes); }
        if (made == Errno.None) { made = MemoryCalls.Map(fd, 0, FileBytes, MemoryCalls.PROT_READ | MemoryCalls.PROT_WRITE, MemoryCalls.MAP_SHARED | MemoryCalls.MAP_NORESERVE, out address); }
        if (made != Errno.None)
        {
            fd.Dispose();
            report($"{file} cannot be made: {made}; every change waits for the device");
            return null;
        }
        // Behind fallocate no store can fail for want of memory, which would be a signal.
        bool Commit(int chunk) => FileCalls.Fallocate(fd, 0, LogMemory.HeaderBytes + ((long)chunk * LogMemory.ChunkBytes), LogMemory.ChunkBytes) == Errno.None;
        void Release(bool isEmpty)
        {
            MemoryCalls.Unmap(address, FileBytes);
            fd.Dispose();
            if (isEmpty) { FileCalls.Unlink(file); }
        }

        return new LogMemory(address, LogMemory.MaxChunks, pool, epoch, Commit, Release, left, () => Remove(files));
    }

    private static void Remove(List<string> files)
    {
        foreach (string file in files) { FileCalls.Unlink(file); }
    }
}
