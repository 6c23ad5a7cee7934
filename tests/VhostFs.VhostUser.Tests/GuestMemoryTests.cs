using VhostFs.Linux;
using VhostFs.Virtio;

namespace VhostFs.VhostUser.Tests;

public sealed class GuestMemoryTests : IDisposable
{
    private const int Size = 1 << 20;
    private const ulong Gpa = 0x1_0000_0000, User = 0x7f00_0000_0000;
    private readonly GuestRam _ram = new(Size);
    private readonly GuestMemory _memory = new();

    public void Dispose()
    {
        _memory.Dispose();
        _ram.Dispose();
    }

    private Errno Add(ulong gpa, ulong size, ulong user, ulong offset) => _memory.Add(_ram.Fd, new GuestRegion(gpa, size, user, offset), out _);

    [Theory]
    [InlineData(Gpa, 0, User, 0)]                            // empty
    [InlineData(Gpa, 4097, User, 0)]                         // no page multiple
    [InlineData(Gpa + 1, 4096, User, 0)]
    [InlineData(Gpa, 4096, User + 1, 0)]
    [InlineData(Gpa, 4096, User, 123)]
    [InlineData(Gpa, Size + 4096, User, 0)]                  // longer than the file
    [InlineData(Gpa, 4096, User, Size)]                      // past the end of the file
    [InlineData(Gpa, Size, User, 4096)]
    [InlineData(ulong.MaxValue - 4095, 8192, User, 0)]       // wraps
    [InlineData(Gpa, 8192, ulong.MaxValue - 4095, 0)]
    [InlineData(Gpa, 8192, User, ulong.MaxValue - 4095)]
    [InlineData(Gpa, 1UL << 63, User, 0)]
    [InlineData(Gpa, 4096, User, 1UL << 63)]
    public void CVE_2026_86561_a_region_is_checked_before_it_is_mapped(ulong gpa, ulong size, ulong user, ulong offset)
    {
        Assert.NotEqual(Errno.None, Add(gpa, size, user, offset));
        Assert.Equal((0, 0UL), (_memory.RegionCount, _memory.TotalBytes));
    }

    [Fact]
    public void CVE_2026_86561_regions_may_not_overlap_in_either_address_space()
    {
        Assert.Equal(Errno.None, Add(Gpa, 8192, User, 0));
        Assert.Equal(Errno.EEXIST, Add(Gpa + 4096, 8192, User + (1 << 20), 0));
        Assert.Equal(Errno.EEXIST, Add(Gpa + (1 << 20), 8192, User + 4096, 0));
        Assert.Equal(Errno.None, Add(Gpa + 8192, 4096, User + 8192, 8192));
    }

    [Fact]
    public void CVE_2026_86561_the_number_of_regions_is_bounded()
    {
        ulong at = 0;
        for (; at < GuestMemory.MaxRegions; at++) { Assert.Equal(Errno.None, Add(Gpa + (at * 8192), 4096, User + (at * 8192), 0)); }
        Assert.Equal(Errno.ENOSPC, Add(Gpa + (at * 8192), 4096, User + (at * 8192), 0));
    }

    [Fact]
    public void A_descriptor_that_is_no_regular_file_is_refused()
    {
        Assert.Equal(Errno.None, EventFd.Create(out SafeFd eventFd));
        Assert.NotEqual(Errno.None, _memory.Add(eventFd, new GuestRegion(Gpa, 4096, User, 0), out _));
        Assert.Equal(Errno.None, FileCalls.Open("/", FileCalls.O_RDONLY, 0, out SafeFd directory));
        Assert.NotEqual(Errno.None, _memory.Add(directory, new GuestRegion(Gpa, 4096, User, 0), out _));
        Assert.Equal(Errno.None, FileCalls.Open("/proc/self/exe", FileCalls.O_RDONLY, 0, out SafeFd readOnly));
        Assert.NotEqual(Errno.None, _memory.Add(readOnly, new GuestRegion(Gpa, 4096, User, 0), out _));
        eventFd.Dispose();
        directory.Dispose();
        readOnly.Dispose();
    }

    [Fact]
    public void A_change_has_a_new_generation_and_only_the_exact_region_is_removed()
    {
        uint before = _memory.Generation;
        Assert.Equal(Errno.None, Add(Gpa, 8192, User, 0));
        Assert.NotEqual(before, _memory.Generation);
        Assert.Equal(Errno.ENOENT, _memory.Remove(new GuestRegion(Gpa, 4096, User, 0)));
        Assert.Equal(Errno.ENOENT, _memory.Remove(new GuestRegion(Gpa, 8192, User + 4096, 0)));
        Assert.Equal(Errno.None, _memory.Remove(new GuestRegion(Gpa, 8192, User, 4096)));
        Assert.Equal(0, _memory.RegionCount);
    }

    [Fact]
    public void Memory_that_was_let_go_of_has_not_faulted()
    {
        Assert.Equal(Errno.None, Add(Gpa, 8192, User, 0));
        _memory.Dispose();
        Assert.False(_memory.HasFaulted); // asked by a call at the end of the turn in which the session ended; it was a null reference
    }

    [Fact]
    public void Memory_in_use_is_never_unmapped()
    {
        Assert.Equal(Errno.None, Add(Gpa, 8192, User, 0));
        _memory.AddUser();
        Assert.Throws<InvariantException>(_memory.Clear);
        Assert.Throws<InvariantException>(() => _memory.Remove(new GuestRegion(Gpa, 8192, User, 0)));
        _memory.RemoveUser();
    }

    /// <summary>The front-end shrinks its unsealed file while threads touch our mapping: without the guard this ends the process.</summary>
    [Fact]
    public void A_shrunk_file_reads_as_zeros_and_is_noticed()
    {
        Assert.True(SharedMemoryGuard.IsActive);
        Assert.Equal(Errno.None, Add(Gpa, Size, User, 0));
        _ram.At(0, Size).Fill(0xee);
        IoVec all = Translate(Gpa, Size);
        Assert.Equal(0xee, all.Span[Size - 1]);
        Assert.False(_memory.HasFaulted);
        using var go = new ManualResetEventSlim();
        long sum = 0;
        Thread[] threads = [.. Enumerable.Range(0, 4).Select(_ => new Thread(() =>
        {
            go.Wait();
            for (int round = 0; round < 50; round++)
            {
                for (int at = 0; at < Size; at += 4096) { Interlocked.Add(ref sum, all.Span[at]); all.Span[at] = 1; }
            }
        }))];
        foreach (Thread thread in threads) { thread.Start(); }
        go.Set();
        Assert.Equal(Errno.None, FileCalls.Truncate(_ram.Fd, 4096));
        foreach (Thread thread in threads) { thread.Join(); }
        all.Span[Size - 1] = 3;
        Assert.True(_memory.HasFaulted);
        using var other = new GuestMemory();
        Assert.False(other.HasFaulted);
        _memory.Clear();
        Assert.Throws<NullReferenceException>(static () => _ = ((string)null!).Length); // the runtime's own faults still reach it
    }

    private unsafe IoVec Translate(ulong gpa, int length) => new((nuint)_memory.FindGuest(gpa, (ulong)length), length);
}
