using System.Buffers.Binary;

namespace VhostFs.VhostUser;

/// <summary>Mode parameters (SPC-4, 7.5): the caching page (08h; SBC-3, 6.4.5) and the control page (0Ah). WCE is the one thing that can be set.</summary>
internal static class ScsiModePages
{
    private const byte Caching = 0x08, Control = 0x0A, AllPages = 0x3F, AllSubpages = 0xFF;
    private const byte WriteProtect = 0x80, DpoAndFua = 0x10;
    private const byte WriteCacheEnabled = 0x04;
    private const int ShortDescriptorBytes = 8, LongDescriptorBytes = 16;

    /// <summary>MODE SENSE.</summary>
    /// <returns>Length in bytes; or 0, and why in <paramref name="refused"/>.</returns>
    public static int Sense(ReadOnlySpan<byte> cdb, ScsiTarget target, Span<byte> reply, out ScsiSense refused)
    {
        bool isTen = (ScsiOpcode)cdb[0] == ScsiOpcode.ModeSense10;
        bool withDescriptor = (cdb[1] & 0x08) == 0, isLong = isTen && (cdb[1] & 0x10) != 0;
        int control = cdb[2] >> 6, page = cdb[2] & 0x3f;
        refused = control == 3 ? ScsiSense.SavingNotSupported : ScsiSense.InvalidFieldInCdb;
        if (control == 3 || page is not (Caching or Control or AllPages) || !(cdb[3] == 0 || (cdb[3] == AllSubpages && page == AllPages))) { return 0; }
        int headerBytes = HeaderBytes(isTen), at = headerBytes;
        int descriptorBytes = !withDescriptor ? 0 : isLong ? LongDescriptorBytes : ShortDescriptorBytes;
        if (withDescriptor) { WriteDescriptor(reply.Slice(at, descriptorBytes), target); }
        at += descriptorBytes;
        if (page != Control) { at += WriteCaching(reply[at..], target, control); }
        if (page != Caching) { at += WriteControl(reply[at..], control); }
        Span<byte> header = reply[..headerBytes];
        header.Clear();
        byte device = (byte)(DpoAndFua | (target.CanWrite ? 0 : WriteProtect));
        if (isTen)
        {
            BinaryPrimitives.WriteUInt16BigEndian(header, (ushort)(at - 2));
            header[3] = device;
            header[4] = isLong && withDescriptor ? (byte)1 : (byte)0;
            header[7] = (byte)descriptorBytes;
        }
        else
        {
            header[0] = (byte)(at - 1);
            header[2] = device;
            header[3] = (byte)descriptorBytes;
        }
        return at;
    }

    /// <summary>MODE SELECT: whether all of the list can be obeyed, and what it wants of the write cache (null: nothing).</summary>
    public static ScsiSense Select(bool isTen, ReadOnlySpan<byte> list, ScsiTarget target, out bool? wantsWriteCache)
    {
        wantsWriteCache = null;
        if (list.IsEmpty) { return ScsiSense.None; }
        int headerBytes = HeaderBytes(isTen);
        if (list.Length < headerBytes) { return ScsiSense.ParameterListLengthError; }
        bool isLong = isTen && (list[4] & 1) != 0;
        int descriptorBytes = isTen ? BinaryPrimitives.ReadUInt16BigEndian(list[6..]) : list[3];
        if (descriptorBytes != 0 && descriptorBytes != (isLong ? LongDescriptorBytes : ShortDescriptorBytes)) { return ScsiSense.InvalidFieldInParameterList; }
        if (list.Length - headerBytes < descriptorBytes) { return ScsiSense.ParameterListLengthError; }
        if (descriptorBytes != 0 && !IsDescriptorOf(target, list.Slice(headerBytes, descriptorBytes))) { return ScsiSense.InvalidFieldInParameterList; }
        Span<byte> now = stackalloc byte[32], changeable = stackalloc byte[32];
        for (list = list[(headerBytes + descriptorBytes)..]; !list.IsEmpty;)
        {
            byte page = list[0];
            int bytes = WritePage(page, now, target, 0);
            if (bytes == 0) { return ScsiSense.InvalidFieldInParameterList; }
            if (list.Length < bytes) { return ScsiSense.ParameterListLengthError; }
            WritePage(page, changeable, target, 1);
            for (int i = 0; i < bytes; i++)
            {
                byte mask = i < 2 ? (byte)0 : changeable[i];
                if ((list[i] & ~mask) != (now[i] & ~mask)) { return ScsiSense.InvalidFieldInParameterList; }
            }
            if (page == Caching && changeable[2] != 0) { wantsWriteCache = (list[2] & WriteCacheEnabled) != 0; }
            list = list[bytes..];
        }
        return ScsiSense.None;
    }

    private static int HeaderBytes(bool isTen) => isTen ? 8 : 4;

    private static int WritePage(byte page, Span<byte> target, ScsiTarget of, int control) => page switch
    {
        Caching => WriteCaching(target, of, control),
        Control => WriteControl(target, control),
        _ => 0,
    };

    private static int WriteCaching(Span<byte> page, ScsiTarget target, int control)
    {
        page = page[..20];
        page.Clear();
        page[0] = Caching;
        page[1] = (byte)(page.Length - 2);
        bool isEnabled = control switch
        {
            0 => target.HasWriteCache,
            _ => target.Bdev.HasWriteCache, // it can be changed, and is so by default
        };
        if (isEnabled) { page[2] = WriteCacheEnabled; }
        return page.Length;
    }

    private static int WriteControl(Span<byte> page, int control)
    {
        page = page[..12];
        page.Clear();
        page[0] = Control;
        page[1] = (byte)(page.Length - 2);
        if (control == 1) { return page.Length; }
        page[2] = 0x02; // GLTSD; sense data in fixed format
        page[3] = 0x10; // commands may overtake each other
        page[8] = page[9] = 0xFF; // busy for any time
        return page.Length;
    }

    private static void WriteDescriptor(Span<byte> descriptor, ScsiTarget target)
    {
        descriptor.Clear();
        if (descriptor.Length == LongDescriptorBytes)
        {
            BinaryPrimitives.WriteUInt64BigEndian(descriptor, target.BlockCount);
            BinaryPrimitives.WriteUInt32BigEndian(descriptor[12..], (uint)target.Bdev.BlockSize);
            return;
        }
        BinaryPrimitives.WriteUInt32BigEndian(descriptor, (uint)Math.Min(target.BlockCount, uint.MaxValue));
        BinaryPrimitives.WriteUInt32BigEndian(descriptor[4..], (uint)target.Bdev.BlockSize); // 3 bytes of it
    }

    // 0 for the number of blocks means as many as there are.
    private static bool IsDescriptorOf(ScsiTarget target, ReadOnlySpan<byte> given)
    {
        Span<byte> own = stackalloc byte[given.Length];
        WriteDescriptor(own, target);
        int countBytes = given.Length == LongDescriptorBytes ? 8 : 4;
        bool isSameCount = given[..countBytes].SequenceEqual(own[..countBytes]) || !given[..countBytes].ContainsAnyExcept((byte)0);
        return isSameCount && given[countBytes..].SequenceEqual(own[countBytes..]);
    }
}
