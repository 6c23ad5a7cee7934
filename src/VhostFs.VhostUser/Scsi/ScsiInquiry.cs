using System.Buffers.Binary;
using System.Numerics;
using System.Text;
using VhostFs.Bdev;

namespace VhostFs.VhostUser;

/// <summary>INQUIRY's answers: standard data (SPC-4, 6.4.2) and vital product data (SPC-4, 7.8; SBC-3, 6.6). Each method returns its length in bytes.</summary>
internal static class ScsiInquiry
{
    /// <summary>Blocks of all ranges of one UNMAP, and of one WRITE SAME: what a bdev may be kept busy with.</summary>
    public const int MaxChangeBytes = 1 << 30;

    /// <summary>Of one command that has payload, or reads to verify; below <see cref="Virtio.Virtqueue.MaxChainBytes"/>.</summary>
    public const int MaxTransferBytes = 32 << 20;

    public const int MaxUnmapRanges = 32;

    private const int StandardBytes = 96;
    private const int OptimalTransferBytes = 1 << 20;
    private const int PhysicalBlockBytes = 4096;
    private const byte NoLogicalUnit = 0x7f; // peripheral qualifier 3, device type 1Fh
    private const byte ThinProvisioned = 2;

    private static ReadOnlySpan<byte> Vendor => "VHOSTFS "u8;

    private static ReadOnlySpan<byte> Product => "Block Device    "u8;

    private static ReadOnlySpan<byte> Revision => "0001"u8;

    /// <param name="isThere">False: of a LUN that a target could have, and has not.</param>
    public static int Standard(Span<byte> reply, bool isThere)
    {
        Span<byte> data = reply[..StandardBytes];
        data.Clear();
        data[0] = isThere ? (byte)0 : NoLogicalUnit;
        data[2] = 6; // SPC-4
        data[3] = 0x12; // HISUP; response data format 2
        data[4] = StandardBytes - 5;
        data[7] = 0x02; // CMDQUE
        Vendor.CopyTo(data[8..]);
        Product.CopyTo(data[16..]);
        Revision.CopyTo(data[32..]);
        ReadOnlySpan<byte> standards = [0x00, 0xA0, 0x04, 0x60, 0x04, 0xC0]; // SAM-5, SPC-4, SBC-3, no version claimed
        standards.CopyTo(data[58..]);
        return StandardBytes;
    }

    /// <returns>0: there is no such page.</returns>
    public static int VitalProductData(Span<byte> reply, byte page, ScsiTarget target)
    {
        Span<byte> body = reply[4..];
        int length = page switch
        {
            0x00 => SupportedPages(body),
            0x80 => SerialNumber(body, target),
            0x83 => Identification(body, target),
            0xB0 => BlockLimits(body, target.Bdev),
            0xB1 => Characteristics(body),
            0xB2 => Provisioning(body, target.Bdev),
            _ => -1,
        };
        if (length < 0) { return 0; }
        reply[0] = 0;
        reply[1] = page;
        BinaryPrimitives.WriteUInt16BigEndian(reply[2..], (ushort)length);
        return 4 + length;
    }

    /// <summary>READ CAPACITY (16) (SBC-3, 5.16); its length is 32.</summary>
    public static int Capacity16(Span<byte> reply, ScsiTarget target)
    {
        Span<byte> data = reply[..32];
        data.Clear();
        BinaryPrimitives.WriteUInt64BigEndian(data, target.BlockCount - 1);
        BinaryPrimitives.WriteUInt32BigEndian(data[8..], (uint)target.Bdev.BlockSize);
        data[13] = (byte)BitOperations.Log2((uint)(PhysicalBlockBytes / target.Bdev.BlockSize));
        if (CanUnmap(target)) { data[14] = (byte)(target.Bdev.UnmapReadsZero ? 0xC0 : 0x80); } // LBPME, LBPRZ
        return data.Length;
    }

    public static bool CanUnmap(ScsiTarget target) => target.Bdev.SupportsUnmap && target.CanWrite;

    private static int SupportedPages(Span<byte> body)
    {
        ReadOnlySpan<byte> pages = [0x00, 0x80, 0x83, 0xB0, 0xB1, 0xB2];
        pages.CopyTo(body);
        return pages.Length;
    }

    // As the serial number of a virtio-blk disk: the name, by which whoever made the disk knows it.
    private static int SerialNumber(Span<byte> body, ScsiTarget target) => Encoding.UTF8.GetBytes(Shortened(target.Bdev.Name), body);

    private static int Identification(Span<byte> body, ScsiTarget target)
    {
        Span<byte> uuid = stackalloc byte[16];
        target.Uuid.TryWriteBytes(uuid, bigEndian: true, out _);
        int at = 0;
        // T10 vendor ID: unique text after the vendor.
        Span<byte> text = Designator(body, ref at, codeSet: 2, type: 1, Vendor.Length + 36);
        Vendor.CopyTo(text);
        Encoding.ASCII.GetBytes(target.Uuid.ToString("D"), text[Vendor.Length..]);
        // NAA locally assigned: 60 bits of the UUID. The form in which udev and Windows name disks.
        Span<byte> naa = Designator(body, ref at, codeSet: 1, type: 3, 8);
        uuid[8..].CopyTo(naa);
        naa[0] = (byte)(0x30 | (naa[0] & 0x0f));
        Span<byte> port = Designator(body, ref at, codeSet: 1, type: 0x14, 4); // of the target port: the relative one, 1
        port.Clear();
        port[3] = 1;
        return at;
    }

    private static Span<byte> Designator(Span<byte> body, ref int at, byte codeSet, byte type, int bytes)
    {
        body[at] = codeSet;
        body[at + 1] = type;
        body[at + 2] = 0;
        body[at + 3] = (byte)bytes;
        Span<byte> designator = body.Slice(at + 4, bytes);
        at += 4 + bytes;
        return designator;
    }

    private static int BlockLimits(Span<byte> body, IBdev bdev)
    {
        Span<byte> data = body[..60];
        data.Clear();
        data[0] = 1; // WSNZ: no length does not mean "to the end"
        BinaryPrimitives.WriteUInt16BigEndian(data[2..], (ushort)Math.Max(PhysicalBlockBytes / bdev.BlockSize, 1));
        BinaryPrimitives.WriteUInt32BigEndian(data[4..], (uint)(MaxTransferBytes / bdev.BlockSize));
        BinaryPrimitives.WriteUInt32BigEndian(data[8..], (uint)(OptimalTransferBytes / bdev.BlockSize));
        if (bdev.SupportsUnmap && !bdev.IsReadOnly)
        {
            BinaryPrimitives.WriteUInt32BigEndian(data[16..], (uint)(MaxChangeBytes / bdev.BlockSize));
            BinaryPrimitives.WriteUInt32BigEndian(data[20..], MaxUnmapRanges);
            BinaryPrimitives.WriteUInt32BigEndian(data[24..], 1);
        }
        BinaryPrimitives.WriteUInt64BigEndian(data[32..], (ulong)(MaxChangeBytes / bdev.BlockSize));
        return data.Length;
    }

    private static int Characteristics(Span<byte> body)
    {
        body[..60].Clear();
        body[1] = 1; // medium rotation rate: it does not rotate
        return 60;
    }

    private static int Provisioning(Span<byte> body, IBdev bdev)
    {
        body[..4].Clear();
        if (!bdev.SupportsUnmap || bdev.IsReadOnly) { return 4; }
        body[1] = (byte)(0xE0 | (bdev.UnmapReadsZero ? 0x04 : 0)); // LBPU, LBPWS, LBPWS10; LBPRZ
        body[2] = ThinProvisioned;
        return 4;
    }

    // The page has one byte's worth in most readers.
    private static string Shortened(string name)
    {
        const int maxCharacters = 60;
        return name.Length <= maxCharacters ? name : name[..maxCharacters];
    }
}
