using System.Runtime.InteropServices;
using VhostFs.Bdev;
using VhostFs.Linux;
using VhostFs.Reactor;
using VhostFs.Virtio;

namespace VhostFs.VhostUser;

/// <summary>A block request from its chain to its status byte. Pooled per device.</summary>
/// <remarks>
/// Where descriptors begin and end means nothing (virtio 1.2, 2.7.4): the first 16 readable bytes are the header, the last writable one is the status, and
/// what is between is payload. Header and ranges are copied once, and only the copies are looked at.
/// </remarks>
internal sealed class BlkRequest(VhostUserBlkDevice device) : IDisposable
{
    private readonly IoVecList _pieces = new(); // the payload, where it shares a segment with the header or the status
    private readonly BlkRange[] _ranges = new BlkRange[VhostUserBlkDevice.MaxRanges];
    private VirtioFeatures _negotiated;
    private int _payloadWritten;

    public IoVecList Readable { get; } = new();

    public IoVecList Writable { get; } = new();

    public BlkRequest? Next { get; set; }

    private IBdev Bdev => device.Bdev;

    /// <summary>Bytes behind the header.</summary>
    private long OutBytes => Readable.LengthBytes - BlkRequestHeader.Size;

    /// <summary>Bytes before the status.</summary>
    private long InBytes => Writable.LengthBytes - 1;

    public async IoTask<bool> RunAsync(QueueServer server, VhostUserRing ring, ushort head)
    {
        _negotiated = server.Features;
        _payloadWritten = 0;
        int usedBytes = 0; // without a byte for the status there is nothing to answer
        if (InBytes >= 0)
        {
            BlkStatus status;
            try { status = await ExecuteAsync(); }
#pragma warning disable CA1031 // whatever it is, it must not keep the chain: the ring could never be stopped
            catch (Exception bug)
            {
                device.ReportBug(bug);
                status = BlkStatus.IoError;
            }
#pragma warning restore CA1031
            Writable.View()[Writable.Count - 1].Span[^1] = (byte)status;
            // What is said to be written is so from the first byte on (2.7.8.2); the status counts only when it follows.
            usedBytes = _payloadWritten == InBytes ? _payloadWritten + 1 : _payloadWritten;
        }
        device.Return(this);
        server.Finish(ring, head, usedBytes);
        return true;
    }

    public void Dispose()
    {
        Readable.Dispose();
        Writable.Dispose();
        _pieces.Dispose();
    }

    private IoTask<BlkStatus> ExecuteAsync()
    {
        BlkRequestHeader header = default;
        if (Readable.View().CopyTo(0, MemoryMarshal.AsBytes(new Span<BlkRequestHeader>(ref header))) != BlkRequestHeader.Size) { return new(BlkStatus.IoError); }
        return header.Type switch
        {
            BlkRequestType.In => ReadAsync(header.Sector),
            BlkRequestType.Out => WriteAsync(header.Sector),
            BlkRequestType.Flush => FlushAsync(),
            BlkRequestType.GetId => new(GetId()),
            BlkRequestType.Discard => ChangeRangesAsync(isDiscard: true),
            BlkRequestType.WriteZeroes => ChangeRangesAsync(isDiscard: false),
            _ => new(BlkStatus.Unsupported),
        };
    }

    private async IoTask<BlkStatus> ReadAsync(ulong sector)
    {
        if (OutBytes != 0 || !TryLocate(sector, InBytes, out long offset)) { return BlkStatus.IoError; }
        IoVecs target = Payload(Writable, 0, InBytes);
        IoResult read = await Bdev.ReadAsync(offset, target);
        if (read.IsError) { return Failed(read.Errno, target); }
        _payloadWritten = read.Bytes;
        return BlkStatus.Ok;
    }

    private async IoTask<BlkStatus> WriteAsync(ulong sector)
    {
        if (!device.CanWrite || InBytes != 0 || !TryLocate(sector, OutBytes, out long offset)) { return BlkStatus.IoError; }
        IoVecs source = Payload(Readable, BlkRequestHeader.Size, OutBytes);
        IoResult written = await Bdev.WriteAsync(offset, source);
        if (written.IsError) { return Failed(written.Errno, source); }
        return device.IsWriteThrough(_negotiated) ? await FlushAsync() : BlkStatus.Ok;
    }

    private async IoTask<BlkStatus> FlushAsync() => await Bdev.FlushAsync() == Errno.None ? BlkStatus.Ok : BlkStatus.IoError;

    private BlkStatus GetId()
    {
        _payloadWritten = Writable.View().CopyFrom(0, device.Id[..(int)Math.Min(InBytes, VhostUserBlkDevice.IdBytes)]);
        return BlkStatus.Ok;
    }

    // All ranges are looked at before the first is touched.
    private async IoTask<BlkStatus> ChangeRangesAsync(bool isDiscard)
    {
        if (!device.CanWrite || (isDiscard && !Bdev.SupportsUnmap)) { return BlkStatus.Unsupported; }
        if (OutBytes is 0 or > VhostUserBlkDevice.MaxRanges * BlkRange.Size || OutBytes % BlkRange.Size != 0 || InBytes != 0) { return BlkStatus.IoError; }
        int count = (int)OutBytes / BlkRange.Size;
        Readable.View().CopyTo(BlkRequestHeader.Size, MemoryMarshal.AsBytes(_ranges.AsSpan(0, count)));
        for (int i = 0; i < count; i++)
        {
            BlkStatus valid = Check(_ranges[i], isDiscard);
            if (valid != BlkStatus.Ok) { return valid; }
        }
        for (int i = 0; i < count; i++)
        {
            Errno changed = await ChangeAsync(_ranges[i], isDiscard);
            if (changed != Errno.None) { return changed == Errno.EOPNOTSUPP ? BlkStatus.Unsupported : BlkStatus.IoError; }
        }
        return device.IsWriteThrough(_negotiated) ? await FlushAsync() : BlkStatus.Ok;
    }

    private BlkStatus Check(BlkRange range, bool isDiscard)
    {
        if ((range.Flags & ~(isDiscard ? 0 : BlkRange.FlagUnmap)) != 0) { return BlkStatus.Unsupported; }
        bool isInside = range.SectorCount <= VhostUserBlkDevice.MaxRangeSectors && TryLocate(range.Sector, (long)range.SectorCount * VhostUserBlkDevice.SectorBytes, out _);
        return isInside ? BlkStatus.Ok : BlkStatus.IoError;
    }

    private IoTask<Errno> ChangeAsync(BlkRange range, bool isDiscard)
    {
        long offset = (long)range.Sector * VhostUserBlkDevice.SectorBytes, length = (long)range.SectorCount * VhostUserBlkDevice.SectorBytes;
        if (isDiscard)
        {
            // A hint: of blocks that are not whole nothing is given back.
            long first = (offset + Bdev.BlockSize - 1) & -(long)Bdev.BlockSize, limit = (offset + length) & -(long)Bdev.BlockSize;
            return first < limit ? Bdev.UnmapAsync(first, limit - first) : new(Errno.None);
        }
        bool mayUnmap = (range.Flags & BlkRange.FlagUnmap) != 0 && Bdev.SupportsUnmap && Bdev.UnmapReadsZero;
        return mayUnmap ? Bdev.UnmapAsync(offset, length) : Bdev.WriteZeroesAsync(offset, length);
    }

    /// <summary>Both ends, without a sum that could wrap: a sector is 64 bits of the guest's.</summary>
    private bool TryLocate(ulong sector, long lengthBytes, out long offsetBytes)
    {
        ulong capacity = device.CapacitySectors;
        bool isInside = lengthBytes % VhostUserBlkDevice.SectorBytes == 0 && sector <= capacity && (ulong)lengthBytes / VhostUserBlkDevice.SectorBytes <= capacity - sector;
        offsetBytes = isInside ? (long)sector * VhostUserBlkDevice.SectorBytes : 0;
        return isInside;
    }

    // The usual framing, header and status in segments of their own, needs no list of its own.
    private IoVecs Payload(IoVecList list, int skipBytes, long lengthBytes)
    {
        int last = list.Count - 1;
        if (skipBytes == 0 && list.View()[last].Length == 1) { return list.View(0, last); }
        if (skipBytes > 0 && list.View()[0].Length == skipBytes) { return list.View(1, last); }
        _pieces.Clear();
        _pieces.AddSlice(list.View(), skipBytes, lengthBytes);
        return _pieces.View();
    }

    // Where guest memory is gone the kernel says EFAULT, and the layers between may say EIO: a look tells.
    private static BlkStatus Failed(Errno errno, IoVecs payload)
    {
        if (errno is Errno.EIO or Errno.EFAULT) { GuestMemory.Touch(payload, Virtqueue.MaxChainBytes); }
        return BlkStatus.IoError;
    }
}
