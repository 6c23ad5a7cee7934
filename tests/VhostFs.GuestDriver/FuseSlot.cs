using System.Runtime.InteropServices;
using VhostFs.Fuse;
using VhostFs.Linux;

namespace VhostFs.GuestDriver;

/// <summary>FUSE requests in slots, their descriptors as the kernel's virtiofs places them: header, arguments and data; header, reply and data.</summary>
internal static class FuseSlot
{
    /// <param name="replyBytes">Of the body of the reply, in front of data.</param>
    /// <param name="dataOutBytes">From the segments.</param>
    /// <param name="dataInBytes">Into the segments.</param>
    public static void Fuse<T>(this RequestSlot slot, FuseOpcode opcode, ulong node, T arguments, int replyBytes = 0, int dataOutBytes = 0, int dataInBytes = 0)
        where T : unmanaged => slot.Fuse(opcode, node, arguments, [], replyBytes, dataOutBytes, dataInBytes);

    /// <param name="names">With a NUL behind each.</param>
    public static void Fuse<T>(this RequestSlot slot, FuseOpcode opcode, ulong node, T arguments, ReadOnlySpan<byte> names, int replyBytes = 0, int dataOutBytes = 0, int dataInBytes = 0)
        where T : unmanaged
    {
        Span<byte> place = slot.Request[FuseInHeader.Size..];
        MemoryMarshal.Write(place, arguments);
        int bytes = Marshal.SizeOf<T>();
        names.CopyTo(place[bytes..]);
        Place(slot, opcode, node, bytes + names.Length, replyBytes, dataOutBytes, dataInBytes);
    }

    /// <summary>A request whose only argument is a name, with its NUL.</summary>
    public static void FuseName(this RequestSlot slot, FuseOpcode opcode, ulong node, ReadOnlySpan<byte> name, int replyBytes = 0)
    {
        name.CopyTo(slot.Request[FuseInHeader.Size..]);
        Place(slot, opcode, node, name.Length, replyBytes, 0, 0);
    }

    /// <summary>What the reply says; its length must be what the device says that it wrote.</summary>
    public static Errno FuseError(this RequestSlot slot)
    {
        FuseOutHeader header = MemoryMarshal.Read<FuseOutHeader>(slot.Reply);
        Expect.Equal(slot.UsedBytes, header.Length);
        return (Errno)(-header.Error);
    }

    /// <summary>The body of the reply.</summary>
    public static T FuseReply<T>(this RequestSlot slot)
        where T : unmanaged => MemoryMarshal.Read<T>(slot.Reply[FuseOutHeader.Size..]);

    private static void Place(RequestSlot slot, FuseOpcode opcode, ulong node, int argumentBytes, int replyBytes, int dataOutBytes, int dataInBytes)
    {
        // Of the kernel's, even numbers only are requests; those of other slots end in other digits.
        ulong unique = (++slot.Sequence << 16 | (uint)slot.Index) << 1;
        MemoryMarshal.Write(slot.Request, new FuseInHeader((uint)(FuseInHeader.Size + argumentBytes + dataOutBytes), (uint)opcode, unique, node, Uid: 0, Gid: 0, Pid: 1));
        slot.Clear();
        slot.AddReadable(FuseInHeader.Size);
        slot.AddReadable(argumentBytes);
        slot.AddData(dataOutBytes, isWritable: false);
        if (opcode == FuseOpcode.FORGET) { return; } // is not answered
        slot.AddWritable(FuseOutHeader.Size);
        if (replyBytes > 0) { slot.AddWritable(replyBytes); }
        slot.AddData(dataInBytes, isWritable: true);
    }
}
