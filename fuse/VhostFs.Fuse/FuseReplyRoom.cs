using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using VhostFs.Linux;

namespace VhostFs.Fuse;

/// <summary>How much room a reply may take: for a transport where the kernel does not bring the room along, as /dev/fuse.</summary>
public static class FuseReplyRoom
{
    /// <summary>No fixed reply is longer: fuse_statx_out has 288 bytes.</summary>
    private const int FixedBytes = 512;

    /// <summary>Bytes for out-header and body; 0 when nothing is replied. What the kernel asks for beyond <paramref name="mostBytes"/> it does not get.</summary>
    public static int Of(IoVecs request, int mostBytes)
    {
        FuseInHeader header = default;
        if (!TryCopy(request, 0, ref header)) { return 0; }
        long body = (FuseOpcode)header.Opcode switch
        {
            FuseOpcode.FORGET or FuseOpcode.BATCH_FORGET or FuseOpcode.INTERRUPT or FuseOpcode.NOTIFY_REPLY => -FuseOutHeader.Size,
            FuseOpcode.READ or FuseOpcode.READDIR or FuseOpcode.READDIRPLUS => ReadSize(request),
            FuseOpcode.GETXATTR or FuseOpcode.LISTXATTR => Math.Max(XattrSize(request), FixedBytes),
            FuseOpcode.READLINK => FuseFlags.PathMax,
            _ => FixedBytes,
        };
        return (int)Math.Min(FuseOutHeader.Size + body, mostBytes);
    }

    private static long ReadSize(IoVecs request)
    {
        FuseReadIn read = default;
        return TryCopy(request, FuseInHeader.Size, ref read) ? read.SizeBytes : 0;
    }

    private static long XattrSize(IoVecs request)
    {
        FuseGetxattrIn get = default;
        return TryCopy(request, FuseInHeader.Size, ref get) ? get.SizeBytes : 0;
    }

    private static bool TryCopy<T>(IoVecs request, int offsetBytes, ref T value)
        where T : unmanaged =>
        request.CopyTo(offsetBytes, MemoryMarshal.AsBytes(new Span<T>(ref value))) == Unsafe.SizeOf<T>();
}
