using VhostFs.Linux;

namespace VhostFs.Fuzz.Tests.VhostUser;

/// <summary>Descriptors of all kinds that a front-end could send.</summary>
internal sealed class FuzzDescriptors : IDisposable
{
    private readonly List<SafeFd> _all = [];

    public FuzzDescriptors()
    {
        Add(MemoryCalls.CreateMemfd("fuzz", sealable: true, out SafeFd large), large);
        FileCalls.Truncate(large, 1 << 20);
        Add(MemoryCalls.CreateMemfd("fuzz", sealable: true, out SafeFd small), small);
        FileCalls.Truncate(small, 4096);
        Add(MemoryCalls.CreateMemfd("fuzz", sealable: true, out SafeFd empty), empty);
        Add(EventFd.Create(out SafeFd eventFd), eventFd);
        Add(EventFd.Create(out SafeFd blocking, nonBlocking: false), blocking);
        Add(UnixSocket.CreatePair(out SafeFd first, out SafeFd second), first);
        _all.Add(second);
        Add(FileCalls.Open("/dev/null", FileCalls.O_RDWR, 0, out SafeFd device), device);
        Add(FileCalls.Open("/", FileCalls.O_RDONLY, 0, out SafeFd directory), directory);
        Add(FileCalls.Open("/proc/self/exe", FileCalls.O_RDONLY, 0, out SafeFd readOnly), readOnly);
        Add(FileCalls.Open("/", FileCalls.O_PATH, 0, out SafeFd path), path);
    }

    public int Any(FuzzRandom random) => _all[random.Next(_all.Count)].Fd;

    public void Dispose() => _all.ForEach(fd => fd.Dispose());

    private void Add(Errno made, SafeFd fd)
    {
        if (made != Errno.None) { throw new InvalidOperationException($"a descriptor for the fuzzer: {made}"); }
        _all.Add(fd);
    }
}
