using System.Buffers.Binary;
using VhostFs.Bdev;
using VhostFs.Linux;
using VhostFs.Reactor;
using VhostFs.Virtio;

namespace VhostFs.VhostUser;

/// <summary>The commands of SBC-3 that read and change the medium. Part of <see cref="ScsiCommand"/>.</summary>
internal sealed class ScsiMedium(ScsiCommand command) : IDisposable
{
    private const byte ForceUnitAccess = 0x08;
    private const int UnmapHeaderBytes = 8, UnmapRangeBytes = 16;

    /// <summary>Of a buffer of our own: what is verified or repeated goes through it in pieces.</summary>
    private const int PieceBytes = 128 << 10;

    private readonly IoVecList _pieces = new(); // the payload, where it shares a segment with something else

    private IBdev Bdev => command.Target.Bdev;

    private Span<byte> Cdb => command.Cdb;

    /// <summary>The FUA bit of the 10, 12 and 16 byte commands; that of READ (6) is part of an address.</summary>
    private bool IsForced => ScsiCdb.LengthOf(Cdb[0]) != 6 && (Cdb[1] & ForceUnitAccess) != 0;

    /// <summary>RDPROTECT and its kin; there is no protection information.</summary>
    private bool WantsProtection => ScsiCdb.LengthOf(Cdb[0]) != 6 && Cdb[1] >> 5 != 0;

    public void Dispose() => _pieces.Dispose();

    public async IoTask<ScsiOutcome> ReadAsync()
    {
        ScsiOutcome refused = Locate(ScsiInquiry.MaxTransferBytes, out Extent extent);
        if (!refused.IsGood || extent.LengthBytes == 0) { return refused; }
        if (extent.LengthBytes > command.DataIn.LengthBytes) { return ScsiOutcome.Overrun; }
        // From the medium, and so what is cached goes there first (SBC-3, 4.15).
        if (IsForced && Bdev.HasWriteCache && await Bdev.FlushAsync() != Errno.None) { return ScsiOutcome.Check(ScsiSense.WriteError); }
        IoVecs target = command.DataIn.View(extent.LengthBytes, _pieces);
        IoResult read = await Bdev.ReadAsync(extent.OffsetBytes, target);
        if (read.IsError) { return Failed(read.Errno, isWrite: false, extent, target); }
        command.WasRead(read.Bytes);
        return ScsiOutcome.Good;
    }

    public async IoTask<ScsiOutcome> WriteAsync()
    {
        ScsiOutcome refused = LocateForWrite(ScsiInquiry.MaxTransferBytes, out Extent extent);
        if (!refused.IsGood || extent.LengthBytes == 0) { return refused; }
        if (extent.LengthBytes > command.DataOut.LengthBytes) { return ScsiOutcome.Overrun; }
        IoVecs source = command.DataOut.View(extent.LengthBytes, _pieces);
        IoResult written = await Bdev.WriteAsync(extent.OffsetBytes, source);
        if (written.IsError) { return Failed(written.Errno, isWrite: true, extent, source); }
        command.WasWritten(written.Bytes);
        return await SettleAsync(IsForced);
    }

    /// <summary>Of what is said to be durable the range makes no difference: a bdev flushes all it has.</summary>
    public async IoTask<ScsiOutcome> SynchronizeAsync()
    {
        ScsiOutcome refused = Locate(long.MaxValue, out _);
        if (!refused.IsGood) { return refused; }
        return await Bdev.FlushAsync() == Errno.None ? ScsiOutcome.Good : ScsiOutcome.Check(ScsiSense.WriteError);
    }

    /// <summary>BYTCHK 0: it can be read; 1: it is what the initiator sends.</summary>
    public async IoTask<ScsiOutcome> VerifyAsync()
    {
        int byteCheck = (Cdb[1] >> 1) & 3;
        if (byteCheck > 1) { return ScsiOutcome.Check(ScsiSense.InvalidFieldInCdb); }
        ScsiOutcome refused = Locate(ScsiInquiry.MaxTransferBytes, out Extent extent);
        if (!refused.IsGood || extent.LengthBytes == 0) { return refused; }
        if (byteCheck == 1 && extent.LengthBytes > command.DataOut.LengthBytes) { return ScsiOutcome.Overrun; }
        using var buffer = new NativeBuffer((int)Math.Min(PieceBytes, extent.LengthBytes));
        for (long done = 0; done < extent.LengthBytes;)
        {
            int length = (int)Math.Min(buffer.Length, extent.LengthBytes - done);
            IoResult read = await Bdev.ReadAsync(extent.OffsetBytes + done, OnePiece(buffer.Slice(0, length)));
            if (read.IsError) { return ScsiOutcome.Failed(read.Errno, isWrite: false, extent.FirstBlock + (ulong)(done / Bdev.BlockSize)); }
            if (byteCheck == 1 && FirstDifference(buffer.Span[..length], done) is >= 0 and int at) { return ScsiOutcome.Check(ScsiSense.MiscompareDuringVerify, (ulong)(done + at)); }
            done += length;
        }
        command.WasWritten(byteCheck == 1 ? extent.LengthBytes : 0);
        return ScsiOutcome.Good;
    }

    public async IoTask<ScsiOutcome> WriteSameAsync()
    {
        bool hasNoData = (ScsiOpcode)Cdb[0] == ScsiOpcode.WriteSame16 && (Cdb[1] & 1) != 0;
        bool mayUnmap = (Cdb[1] & 8) != 0;
        // ANCHOR, PBDATA and LBDATA are not there; no length does not mean "to the end" (WSNZ).
        if ((Cdb[1] & (hasNoData ? 0x16 : 0x17)) != 0 || ScsiBlocks.Read(Cdb).Count == 0) { return ScsiOutcome.Check(ScsiSense.InvalidFieldInCdb); }
        ScsiOutcome refused = LocateForWrite(ScsiInquiry.MaxChangeBytes, out Extent extent);
        if (!refused.IsGood) { return refused; }
        if (!hasNoData && command.DataOut.LengthBytes < Bdev.BlockSize) { return ScsiOutcome.Overrun; }
        using NativeBuffer? block = hasNoData ? null : TakeBlock();
        bool isZero = block is null || !block.Span.ContainsAnyExcept((byte)0);
        Errno changed = isZero ? await ZeroAsync(extent, mayUnmap) : await RepeatAsync(block!, extent);
        if (changed != Errno.None) { return ScsiOutcome.Failed(changed, isWrite: true, extent.FirstBlock); }
        command.WasWritten(hasNoData ? 0 : Bdev.BlockSize);
        return await SettleAsync(isForced: false);
    }

    /// <summary>All ranges are looked at before the first is touched.</summary>
    public async IoTask<ScsiOutcome> UnmapAsync()
    {
        if (!ScsiInquiry.CanUnmap(command.Target)) { return ScsiOutcome.Check(Bdev.SupportsUnmap ? ScsiSense.WriteProtected : ScsiSense.InvalidOperationCode); }
        if ((Cdb[1] & 1) != 0) { return ScsiOutcome.Check(ScsiSense.InvalidFieldInCdb); } // ANCHOR
        int length = BinaryPrimitives.ReadUInt16BigEndian(Cdb[7..]);
        if (length == 0) { return ScsiOutcome.Good; }
        if (length < UnmapHeaderBytes) { return ScsiOutcome.Check(ScsiSense.ParameterListLengthError); }
        ScsiOutcome taken = command.TakeList(length);
        if (!taken.IsGood) { return taken; }
        ScsiOutcome refused = CheckRanges(length, out int count);
        if (!refused.IsGood) { return refused; }
        for (int i = 0; i < count; i++)
        {
            ScsiBlocks range = RangeAt(i);
            if (range.Count == 0) { continue; }
            Errno unmapped = await Bdev.UnmapAsync((long)range.First * Bdev.BlockSize, (long)range.Count * Bdev.BlockSize);
            if (unmapped != Errno.None) { return ScsiOutcome.Failed(unmapped, isWrite: true, range.First); }
        }
        return await SettleAsync(isForced: false);
    }

    private ScsiOutcome CheckRanges(int listBytes, out int count)
    {
        int rangesBytes = BinaryPrimitives.ReadUInt16BigEndian(command.List[2..]);
        count = rangesBytes / UnmapRangeBytes;
        if (rangesBytes > listBytes - UnmapHeaderBytes || rangesBytes % UnmapRangeBytes != 0 || count > ScsiInquiry.MaxUnmapRanges) { return ScsiOutcome.Check(ScsiSense.InvalidFieldInParameterList); }
        ulong blocks = 0;
        for (int i = 0; i < count; i++)
        {
            ScsiBlocks range = RangeAt(i);
            if (!IsInside(range)) { return ScsiOutcome.Check(ScsiSense.BlockAddressOutOfRange, range.First); }
            blocks += range.Count;
        }
        bool isTooMuch = blocks > (ulong)(ScsiInquiry.MaxChangeBytes / Bdev.BlockSize);
        return isTooMuch ? ScsiOutcome.Check(ScsiSense.InvalidFieldInParameterList) : ScsiOutcome.Good;
    }

    private ScsiBlocks RangeAt(int index)
    {
        ReadOnlySpan<byte> range = command.List.Slice(UnmapHeaderBytes + (index * UnmapRangeBytes), UnmapRangeBytes);
        return new(BinaryPrimitives.ReadUInt64BigEndian(range), BinaryPrimitives.ReadUInt32BigEndian(range[8..]));
    }

    private ScsiOutcome LocateForWrite(long mostBytes, out Extent extent)
    {
        ScsiOutcome refused = Locate(mostBytes, out extent);
        return refused.IsGood && !command.Target.CanWrite ? ScsiOutcome.Check(ScsiSense.WriteProtected) : refused;
    }

    private ScsiOutcome Locate(long mostBytes, out Extent extent)
    {
        var blocks = ScsiBlocks.Read(Cdb);
        extent = default;
        if (WantsProtection) { return ScsiOutcome.Check(ScsiSense.InvalidFieldInCdb); }
        if (!IsInside(blocks)) { return ScsiOutcome.Check(ScsiSense.BlockAddressOutOfRange, blocks.First); }
        if ((long)blocks.Count * Bdev.BlockSize > mostBytes) { return ScsiOutcome.Check(ScsiSense.InvalidFieldInCdb); }
        extent = new Extent(blocks.First, (long)blocks.First * Bdev.BlockSize, (long)blocks.Count * Bdev.BlockSize);
        return ScsiOutcome.Good;
    }

    // Without a sum that could wrap: an address is 64 bits of the guest's.
    private bool IsInside(ScsiBlocks blocks)
    {
        ulong capacity = command.Target.BlockCount;
        return blocks.First <= capacity && blocks.Count <= capacity - blocks.First;
    }

    /// <summary>The change is with the bdev; it is to be durable when there is no cache to speak of, or this one is to go past it.</summary>
    private async IoTask<ScsiOutcome> SettleAsync(bool isForced)
    {
        bool flushes = Bdev.HasWriteCache && (isForced || !command.Target.HasWriteCache);
        return !flushes || await Bdev.FlushAsync() == Errno.None ? ScsiOutcome.Good : ScsiOutcome.Check(ScsiSense.WriteError);
    }

    private IoTask<Errno> ZeroAsync(Extent extent, bool mayUnmap)
    {
        bool unmaps = mayUnmap && Bdev.SupportsUnmap && Bdev.UnmapReadsZero;
        return unmaps ? Bdev.UnmapAsync(extent.OffsetBytes, extent.LengthBytes) : Bdev.WriteZeroesAsync(extent.OffsetBytes, extent.LengthBytes);
    }

    // Copied once: the guest may change it.
    private NativeBuffer TakeBlock()
    {
        var block = new NativeBuffer(Bdev.BlockSize);
        command.DataOut.CopyTo(block.Span);
        return block;
    }

    private async IoTask<Errno> RepeatAsync(NativeBuffer block, Extent extent)
    {
        using var pattern = new NativeBuffer((int)Math.Min(PieceBytes, extent.LengthBytes));
        for (int at = 0; at < pattern.Length; at += block.Length) { block.Span.CopyTo(pattern.Span[at..]); }
        for (long done = 0; done < extent.LengthBytes;)
        {
            int length = (int)Math.Min(pattern.Length, extent.LengthBytes - done);
            IoResult written = await Bdev.WriteAsync(extent.OffsetBytes + done, OnePiece(pattern.Slice(0, length)));
            if (written.IsError) { return written.Errno; }
            done += length;
        }
        return Errno.None;
    }

    private IoVecs OnePiece(IoVec piece)
    {
        _pieces.Clear();
        _pieces.Add(piece);
        return _pieces.View();
    }

    /// <summary>Where the medium's bytes are not those of the initiator, from byte <paramref name="offset"/> of both on; -1: nowhere.</summary>
    private int FirstDifference(ReadOnlySpan<byte> medium, long offset)
    {
        var sent = new IoVecsCursor(command.DataOut.List.View());
        sent.Skip(command.DataOut.SkipBytes + offset);
        for (int done = 0; done < medium.Length;)
        {
            ReadOnlySpan<byte> piece = sent.Next(medium.Length - done);
            int same = piece.CommonPrefixLength(medium[done..]);
            if (same < piece.Length || piece.IsEmpty) { return done + same; }
            done += piece.Length;
        }
        return -1;
    }

    // Where guest memory is gone the kernel says EFAULT, and the layers between may say EIO: a look tells.
    private static ScsiOutcome Failed(Errno errno, bool isWrite, Extent extent, IoVecs payload)
    {
        if (errno is Errno.EIO or Errno.EFAULT) { GuestMemory.Touch(payload, Virtqueue.MaxChainBytes); }
        return ScsiOutcome.Failed(errno, isWrite, extent.FirstBlock);
    }

    private readonly record struct Extent(ulong FirstBlock, long OffsetBytes, long LengthBytes);
}
