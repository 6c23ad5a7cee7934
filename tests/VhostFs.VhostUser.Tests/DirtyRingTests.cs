using VhostFs.Linux;
using VhostFs.Virtio;
using static VhostFs.GuestDriver.Desc;

namespace VhostFs.VhostUser.Tests;

/// <summary>Which pages a ring marks as dirty, write by write: of rings so large that each of their parts lies in a page of its own.</summary>
public sealed class DirtyRingTests : IDisposable
{
    private const int Ram = 4 << 20, LogBytes = 132 << 10; // beyond GuestRam.GuestBase, 4 GiB
    private const VirtioFeatures Plain = VirtioFeatures.Version1;
    private readonly GuestRam _ram = new(Ram);
    private readonly GuestMemory _memory = new();
    private readonly IoVecList _readable = new(), _writable = new();
    private readonly SafeFd _fd;
    private readonly nuint _bits;

    public DirtyRingTests()
    {
        // Two regions, the higher one first: kernels map downwards, and then they are neighbours for us, too, and a buffer across their border is one segment.
        foreach (ulong offset in (ulong[])[Ram / 2, 0]) { Assert.Equal(Errno.None, _memory.Add(_ram.Fd, new GuestRegion(GuestRam.GuestBase + offset, Ram / 2, _ram.UserBase + offset, offset), out _)); }
        Assert.Equal(Errno.None, MemoryCalls.CreateMemfd("log", sealable: true, out _fd));
        Assert.Equal(Errno.None, FileCalls.Truncate(_fd, LogBytes));
        Assert.Equal(Errno.None, MemoryCalls.Map(_fd, 0, LogBytes, MemoryCalls.PROT_READ | MemoryCalls.PROT_WRITE, MemoryCalls.MAP_SHARED, out _bits));
        Assert.Equal(Errno.None, DirtyLog.TryMap(_memory, _fd, 0, LogBytes, out DirtyLog? log, out _));
        _memory.Log = log;
    }

    public void Dispose()
    {
        _memory.Log!.Dispose();
        _memory.Dispose();
        MemoryCalls.Unmap(_bits, LogBytes);
        _fd.Dispose();
        _ram.Dispose();
        _readable.Dispose();
        _writable.Dispose();
    }

    // 1024 entries: flags and index in the first page, elements in all three (511 and 1023 across a border), the index at which a kick is wanted in the third.
    [Theory]
    [InlineData(0)]
    [InlineData(510)]
    [InlineData(511)]
    [InlineData(700)]
    [InlineData(1022)]
    [InlineData(65535)]
    public void A_split_ring_marks_element_index_and_what_it_wants_of_kicks(ushort start)
    {
        foreach (VirtioFeatures features in (VirtioFeatures[])[Plain, Plain | VirtioFeatures.EventIdx])
        {
            using var driver = new SplitDriverQueue(_ram, 0, 1024, features, start);
            Virtqueue device = Start(driver, start, features);
            device.LogAddress = driver.UsedGpa;
            ulong first = driver.UsedGpa >> 12, kicks = first + (driver.HasEventIdx ? 2UL : 0);
            Assert.Empty(Take());
            if (!driver.HasEventIdx)
            {
                device.DisableKicks(); // with EVENT_IDX nothing is written
                Assert.Equal([kicks], Take());
            }
            device.EnableKicks();
            Assert.Equal([kicks], Take());
            ulong page = Exchange(driver, device);
            Assert.Equal([.. IndexAndElement(start), page], Take());
            Return(driver, device);
            Assert.Equal(IndexAndElement(start + 1), Take());

            ulong[] IndexAndElement(int entry)
            {
                int from = 4 + (entry % 1024 * 8);
                return [.. ((int[])[0, from >> 12, (from + 7) >> 12]).Distinct().Select(page => first + (ulong)page)];
            }
        }
    }

    // 512 descriptors of 16 bytes: two pages. A chain across their border is given back where it began.
    [Theory]
    [InlineData(10, 3, 0)]
    [InlineData(254, 3, 0)]
    [InlineData(300, 1, 1)]
    [InlineData(511, 3, 1)]
    [InlineData(512 + 255, 2, 0)]
    public void A_packed_ring_marks_the_descriptor_of_the_answer_and_what_it_wants_of_kicks(int start, int descriptors, ulong expected)
    {
        foreach (VirtioFeatures features in (VirtioFeatures[])[Plain | VirtioFeatures.RingPacked, Plain | VirtioFeatures.RingPacked | VirtioFeatures.EventIdx])
        {
            using var driver = new PackedDriverQueue(_ram, 0, 512, features, start);
            Virtqueue device = Start(driver, driver.Base, features);
            device.LogAddress = driver.DeviceEventsGpa;
            Assert.Empty(Take());
            device.DisableKicks();
            Assert.Equal([driver.DeviceEventsGpa >> 12], Take());
            device.EnableKicks();
            Assert.Equal([driver.DeviceEventsGpa >> 12], Take());
            ulong page = Exchange(driver, device, descriptors);
            Assert.Equal([(driver.RingGpa >> 12) + expected, page], Take());
            Return(driver, device);
            Assert.Single(Take());
        }
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void All_that_a_device_may_have_written_to_is_marked_page_by_page(bool isPacked)
    {
        VirtioFeatures features = Plain | VirtioFeatures.IndirectDesc | (isPacked ? VirtioFeatures.RingPacked : 0);
        using DriverQueue driver = DriverQueue.New(_ram, 0, 16, features);
        Virtqueue device = Start(driver, driver.Base, features); // its ring is not to be marked
        const int border = Ram / 2;
        // From the last byte of a page to the first of the next but one; across the border of the regions; readable ones are not written to.
        ReadOnlySpan<Desc> parts = [new(GuestRam.Gpa(0x80000), 4096), new(GuestRam.Gpa(0x90fff), 4098, FlagWrite), new(GuestRam.Gpa(border - 1), 2, FlagWrite), new(GuestRam.Gpa(0x98000), 1, FlagWrite)];
        foreach (bool isIndirect in (bool[])[false, true])
        {
            driver.MakeAvailable(isIndirect ? driver.IndirectChain(parts) : driver.Chain(parts));
            Pop(device, PopResult.Chain, out ushort head);
            Assert.Empty(Take());
            device.Push(head, 1); // however little it says
            Assert.Equal([.. ((int[])[0x90, 0x91, 0x92, 0x98, (border >> 12) - 1, border >> 12]).Select(page => (GuestRam.GuestBase >> 12) + (ulong)page)], Take());
        }
    }

    // One request with one byte of an answer; its page.
    private ulong Exchange(DriverQueue driver, Virtqueue device, int descriptors = 2)
    {
        int at = _ram.Allocate(64, 4096);
        var parts = new Desc[descriptors];
        Array.Fill(parts, new Desc(GuestRam.Gpa(_ram.Allocate(64, 4096)), 16));
        parts[^1] = new Desc(GuestRam.Gpa(at), 1, FlagWrite);
        driver.MakeAvailable(driver.Chain(parts));
        Pop(device, PopResult.Chain, out ushort head);
        Assert.Empty(Take()); // taken, and nothing written
        device.Push(head, 1);
        return GuestRam.Gpa(at) >> 12;
    }

    // A request that is none of ours comes back at once.
    private void Return(DriverQueue driver, Virtqueue device)
    {
        driver.MakeAvailable(driver.Chain(new Desc(ulong.MaxValue - 10, 5)));
        Pop(device, PopResult.Returned, out _);
    }

    private Virtqueue Start(DriverQueue driver, uint start, VirtioFeatures features)
    {
        var device = new Virtqueue(_memory);
        Assert.Equal(Errno.None, device.Start(driver.Size, new RingAddresses(driver.Descriptors, driver.Used, driver.Available), start, features));
        return device;
    }

    private void Pop(Virtqueue device, PopResult expected, out ushort head)
    {
        _readable.Clear();
        _writable.Clear();
        Assert.Equal(expected, device.Pop(_readable, _writable, out head));
    }

    // The pages that are marked, in order, and from then on no more.
    private unsafe ulong[] Take()
    {
        var bytes = new Span<byte>((void*)_bits, LogBytes);
        var pages = new List<ulong>();
        for (int i = 0; i < LogBytes * 8; i++)
        {
            if ((bytes[i / 8] & (1 << (i % 8))) != 0) { pages.Add((ulong)i); }
        }
        bytes.Clear();
        return [.. pages];
    }
}
