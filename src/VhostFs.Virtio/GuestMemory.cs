using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using VhostFs.Linux;

namespace VhostFs.Virtio;

/// <summary>One region of guest memory as the front-end describes it (vhost-user "memory region description").</summary>
public readonly record struct GuestRegion(ulong GuestAddress, ulong SizeBytes, ulong UserAddress, ulong MmapOffset);

/// <summary>The memory a front-end shares with us: guest physical and front-end user addresses to our mapping.</summary>
/// <remarks>
/// Invariants: regions are page multiples, do not wrap, and do not overlap in either address space; they are sorted by guest address;
/// nothing is unmapped while <see cref="UserCount"/> is not 0; <see cref="Generation"/> changes with every change, so that ring pointers
/// taken before it are taken anew. Owned by one reactor.
/// </remarks>
public sealed unsafe class GuestMemory : IDisposable
{
    /// <summary>What GET_MAX_MEM_SLOTS answers; the figure of kernel vhost.</summary>
    public const int MaxRegions = 509;

    /// <summary>Bound of one front-end's share of our 128 TiB address space.</summary>
    public const ulong MaxTotalBytes = 1UL << 43;

    /// <summary>The smallest page there is; larger ones are touched more than once.</summary>
    private const nuint PageBytes = 4096;

    private readonly List<Region> _regions = [];
    private long* _faults;
    private ulong _totalBytes;
    private Region? _last;

    public GuestMemory() => _faults = (long*)NativeMemory.AllocZeroed(64);

    public int RegionCount => _regions.Count;

    public ulong TotalBytes => _totalBytes;

    public uint Generation { get; private set; }

    /// <summary>Requests that hold pieces of this memory.</summary>
    public int UserCount { get; private set; }

    /// <summary>Where writes to this memory are marked; null: nowhere.</summary>
    public DirtyLog? Log { get; set; }

    /// <summary>The front-end took memory away under us (its file was shrunk): what we read since may be zeros, the session must end.</summary>
    /// <remarks>Also asked after the end: what a turn has put off (a call, a round of a ring) runs after a session that ended in this turn.</remarks>
    public bool HasFaulted => _faults is not null && Volatile.Read(ref *_faults) != 0;

    /// <summary>Touches every page of the first <paramref name="limitBytes"/> bytes: one that is gone is then known (<see cref="HasFaulted"/>). For system calls,
    /// which fail on it with EFAULT and raise no signal.</summary>
    public static void Touch(IoVecs segments, long limitBytes)
    {
        foreach (IoVec segment in segments.AsSpan())
        {
            int length = (int)Math.Min(segment.Length, limitBytes);
            var first = (byte*)segment.Address;
            for (int at = 0; at < length; at += (int)(PageBytes - ((nuint)(first + at) % PageBytes))) { _ = Volatile.Read(ref first[at]); }
            limitBytes -= length;
            if (limitBytes <= 0) { return; }
        }
    }

    public void AddUser() => UserCount++;

    public void RemoveUser()
    {
        UserCount--;
        Invariant.That(UserCount >= 0);
    }

    /// <summary>Maps a region; the caller keeps (and may close) the fd.</summary>
    public Errno Add(SafeFd fd, GuestRegion region, out string reason)
    {
        Errno valid = Validate(region, out reason);
        if (valid != Errno.None) { return valid; }
        Errno mapped = GuestMapping.TryMap(fd, region.MmapOffset, region.SizeBytes, _faults, out GuestMapping? mapping, out reason);
        if (mapped != Errno.None) { return mapped; }
        var added = new Region(region, mapping!);
        int index = 0;
        while (index < _regions.Count && _regions[index].GuestAddress < region.GuestAddress) { index++; }
        _regions.Insert(index, added);
        _totalBytes += region.SizeBytes;
        Changed();
        return Errno.None;
    }

    /// <summary>Maps something of the front-end's that no guest address leads to. It, too, may be taken away: that is known as for the guest's memory.</summary>
    internal Errno TryMapBeside(SafeFd fd, ulong offset, ulong lengthBytes, out GuestMapping? mapping, out string reason) => GuestMapping.TryMap(fd, offset, lengthBytes, _faults, out mapping, out reason);

    /// <summary>Unmaps the region with the same guest address, size and user address (REM_MEM_REG; the offset is not compared, as the specification says).</summary>
    public Errno Remove(GuestRegion region)
    {
        Invariant.That(UserCount == 0);
        for (int i = 0; i < _regions.Count; i++)
        {
            Region found = _regions[i];
            if (found.GuestAddress != region.GuestAddress || found.SizeBytes != region.SizeBytes || found.UserAddress != region.UserAddress) { continue; }
            _regions.RemoveAt(i);
            _totalBytes -= found.SizeBytes;
            found.Mapping.Dispose();
            Changed();
            return Errno.None;
        }
        return Errno.ENOENT;
    }

    public void Clear()
    {
        Invariant.That(UserCount == 0);
        foreach (Region region in _regions) { region.Mapping.Dispose(); }
        _regions.Clear();
        _totalBytes = 0;
        Changed();
    }

    /// <summary>Our address of guest bytes that lie in one region, or null.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal byte* FindGuest(ulong address, ulong lengthBytes)
    {
        Region? region = _last;
        if (region is null || address - region.GuestAddress >= region.SizeBytes)
        {
            region = Lookup(address);
            if (region is null) { return null; }
        }
        ulong offset = address - region.GuestAddress; // below SizeBytes in both ways here
        return lengthBytes <= region.SizeBytes - offset ? region.Data + offset : null;
    }

    /// <summary>Our address of the guest byte, and how many bytes from there lie in the same region (0: not mapped).</summary>
    internal byte* FindGuestRun(ulong address, out ulong runBytes)
    {
        Region? region = _last;
        if (region is null || address - region.GuestAddress >= region.SizeBytes)
        {
            region = Lookup(address);
            if (region is null) { runBytes = 0; return null; }
        }
        ulong offset = address - region.GuestAddress;
        runBytes = region.SizeBytes - offset;
        return region.Data + offset;
    }

    /// <summary>Our address of ring memory given as a front-end user address; a ring part lies in one region. Null when it does not.</summary>
    internal byte* FindUser(ulong address, ulong lengthBytes)
    {
        foreach (Region region in _regions)
        {
            ulong offset = address - region.UserAddress;
            if (offset < region.SizeBytes) { return lengthBytes <= region.SizeBytes - offset ? region.Data + offset : null; }
        }
        return null;
    }

    /// <summary>The guest's address of ring memory given as a front-end user address; null when there is none.</summary>
    internal ulong? GuestAddressOf(ulong userAddress)
    {
        foreach (Region region in _regions)
        {
            ulong offset = userAddress - region.UserAddress;
            if (offset < region.SizeBytes) { return region.GuestAddress + offset; }
        }
        return null;
    }

    /// <summary>Marks what has been written to segments of ours; one may lie in several regions that are neighbours in our mapping.</summary>
    internal void MarkWritten(DirtyLog log, IoVecs segments)
    {
        foreach (IoVec segment in segments.AsSpan())
        {
            nuint limit = segment.Address + (nuint)segment.Length;
            foreach (Region region in _regions)
            {
                nuint first = Math.Max(segment.Address, (nuint)region.Data), end = Math.Min(limit, (nuint)region.Data + (nuint)region.SizeBytes);
                if (first < end) { log.Mark(region.GuestAddress + (first - (nuint)region.Data), (long)(end - first)); }
            }
        }
    }

    public void Dispose()
    {
        if (_faults is null) { return; }
        Clear(); // no region is registered any more, so nobody counts faults here
        NativeMemory.Free(_faults);
        _faults = null;
    }

    private Errno Validate(GuestRegion region, out string reason)
    {
        reason = "";
        ulong mask = (ulong)Environment.SystemPageSize - 1;
        if (_regions.Count >= MaxRegions) { reason = $"more than {MaxRegions} regions"; return Errno.ENOSPC; }
        if (region.SizeBytes == 0) { reason = "size is 0"; return Errno.EINVAL; }
        if (((region.SizeBytes | region.GuestAddress | region.UserAddress | region.MmapOffset) & mask) != 0) { reason = "not page-aligned"; return Errno.EINVAL; }
        if (region.SizeBytes > MaxTotalBytes - _totalBytes) { reason = "too much memory"; return Errno.ENOSPC; }
        if (Wraps(region.GuestAddress, region.SizeBytes) || Wraps(region.UserAddress, region.SizeBytes) || Wraps(region.MmapOffset, region.SizeBytes)
            || region.MmapOffset > long.MaxValue - region.SizeBytes)
        {
            reason = "address + size wraps";
            return Errno.EINVAL;
        }
        foreach (Region other in _regions)
        {
            if (Overlap(region.GuestAddress, other.GuestAddress, region.SizeBytes, other.SizeBytes)
                || Overlap(region.UserAddress, other.UserAddress, region.SizeBytes, other.SizeBytes))
            {
                reason = "overlaps another region";
                return Errno.EEXIST;
            }
        }
        return Errno.None;
    }

    private static bool Wraps(ulong start, ulong lengthBytes) => start + lengthBytes < start;

    private static bool Overlap(ulong first, ulong second, ulong firstBytes, ulong secondBytes) =>
        first < second + secondBytes && second < first + firstBytes;

    [MethodImpl(MethodImplOptions.NoInlining)]
    private Region? Lookup(ulong address)
    {
        int low = 0, high = _regions.Count - 1;
        while (low <= high)
        {
            int middle = (low + high) >> 1;
            Region region = _regions[middle];
            if (address < region.GuestAddress) { high = middle - 1; }
            else if (address - region.GuestAddress >= region.SizeBytes) { low = middle + 1; }
            else { _last = region; return region; }
        }
        return null;
    }

    private void Changed()
    {
        _last = null;
        Generation++;
    }

    private sealed class Region(GuestRegion description, GuestMapping mapping)
    {
        public readonly ulong GuestAddress = description.GuestAddress;
        public readonly ulong SizeBytes = description.SizeBytes;
        public readonly ulong UserAddress = description.UserAddress;
        public readonly byte* Data = mapping.Data;
        public readonly GuestMapping Mapping = mapping;
    }
}
