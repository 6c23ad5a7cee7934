using System.Runtime.InteropServices;
using VhostFs.Fuse;

namespace VhostFs.Fuzz.Tests.Fuse;

/// <summary>What a reply must look like, whatever the request was. Written from linux/fuse.h and what the kernel accepts (fs/fuse/dev.c, dir.c, readdir.c).</summary>
internal static class FuseReplies
{
    private const int MaxErrno = 511;

    /// <summary>What is wrong with the reply; null: nothing.</summary>
    public static string? Check(FuzzFuseRequest request)
    {
        if (request.Completions != 1) { return $"{request.Completions} completions"; }
        if (request.Damage() is { } damage) { return damage; }
        if ((uint)request.ReplyBytes > (uint)request.Room) { return $"{request.ReplyBytes} bytes in a room of {request.Room}"; }
        bool hasHeader = MemoryMarshal.TryRead(request.Sent, out FuseInHeader header);
        bool wantsReply = hasHeader && request.Room >= FuseOutHeader.Size
            && (FuseOpcode)header.Opcode is not (FuseOpcode.FORGET or FuseOpcode.BATCH_FORGET or FuseOpcode.INTERRUPT or FuseOpcode.NOTIFY_REPLY);
        if (!wantsReply) { return request.ReplyBytes == 0 ? null : "a reply that nobody can take"; }
        if (request.ReplyBytes < FuseOutHeader.Size) { return "no reply"; }
        FuseOutHeader reply = MemoryMarshal.Read<FuseOutHeader>(request.Reply);
        if (reply.Length != request.ReplyBytes) { return $"the header says {reply.Length} bytes, the completion {request.ReplyBytes}"; }
        if (reply.Unique != header.Unique) { return "the unique of another request"; }
        if (reply.Error is > 0 or < -MaxErrno) { return $"error {reply.Error}"; }
        ReadOnlySpan<byte> body = request.Reply[FuseOutHeader.Size..];
        if (reply.Error != 0) { return body.IsEmpty ? null : "an error with a body"; }
        return CheckBody((FuseOpcode)header.Opcode, body, request.Sent[FuseInHeader.Size..(int)Math.Min(header.Length, (uint)request.Sent.Length)]);
    }

    private static string? CheckBody(FuseOpcode opcode, ReadOnlySpan<byte> body, ReadOnlySpan<byte> arguments) => opcode switch
    {
        FuseOpcode.LOOKUP or FuseOpcode.SYMLINK or FuseOpcode.MKNOD or FuseOpcode.MKDIR or FuseOpcode.LINK => Exactly(body, 128),
        FuseOpcode.GETATTR or FuseOpcode.SETATTR => Exactly(body, 104),
        FuseOpcode.STATX => Exactly(body, 288),
        FuseOpcode.STATFS => Exactly(body, 80),
        FuseOpcode.INIT => Exactly(body, 64),
        FuseOpcode.CREATE or FuseOpcode.TMPFILE => Exactly(body, 144),
        FuseOpcode.OPEN or FuseOpcode.OPENDIR => Exactly(body, 16),
        FuseOpcode.LSEEK => Exactly(body, 8),
        FuseOpcode.GETLK => Exactly(body, 24),
        FuseOpcode.WRITE => Exactly(body, 8) ?? AtMost(MemoryMarshal.Read<uint>(body), MemoryMarshal.Read<FuseWriteIn>(arguments).SizeBytes),
        FuseOpcode.COPY_FILE_RANGE => Exactly(body, 8) ?? AtMost(MemoryMarshal.Read<uint>(body), MemoryMarshal.Read<FuseCopyFileRangeIn>(arguments).LengthBytes),
        FuseOpcode.COPY_FILE_RANGE_64 => Exactly(body, 8) ?? AtMost(MemoryMarshal.Read<ulong>(body), MemoryMarshal.Read<FuseCopyFileRangeIn>(arguments).LengthBytes),
        FuseOpcode.READ => AtMost((ulong)body.Length, MemoryMarshal.Read<FuseReadIn>(arguments).SizeBytes),
        FuseOpcode.READDIR or FuseOpcode.READDIRPLUS => AtMost((ulong)body.Length, MemoryMarshal.Read<FuseReadIn>(arguments).SizeBytes) ?? Entries(body, opcode == FuseOpcode.READDIRPLUS),
        FuseOpcode.READLINK => body.Length is > 0 and < 4096 && !body.Contains((byte)0) ? null : $"a link target of {body.Length} bytes, or with NUL",
        FuseOpcode.GETXATTR or FuseOpcode.LISTXATTR => MemoryMarshal.Read<FuseGetxattrIn>(arguments).SizeBytes is var size && size == 0 ? Exactly(body, 8) : AtMost((ulong)body.Length, size),
        FuseOpcode.IOCTL => body.Length >= 16 ? AtMost((ulong)body.Length, 16UL + MemoryMarshal.Read<FuseIoctlIn>(arguments).OutBytes) : $"a body of {body.Length} bytes",
        _ => Exactly(body, 0),
    };

    private static string? Entries(ReadOnlySpan<byte> body, bool plus)
    {
        while (!body.IsEmpty)
        {
            int fixedBytes = plus ? FuseDirentPlus.Size : FuseDirent.Size;
            if (body.Length < fixedBytes) { return "a piece of a directory entry"; }
            FuseDirent entry = MemoryMarshal.Read<FuseDirent>(body[(fixedBytes - FuseDirent.Size)..]);
            if (entry.NameLength is 0 or > 255) { return $"a name of {entry.NameLength} bytes"; }
            int padded = (fixedBytes + (int)entry.NameLength + 7) & ~7;
            if (padded > body.Length) { return "a piece of a directory entry"; }
            ReadOnlySpan<byte> name = body.Slice(fixedBytes, (int)entry.NameLength);
            if (name.ContainsAny((byte)0, (byte)'/') || entry.Cookie is 0 or > long.MaxValue || entry.Inode == 0) { return "a directory entry that a kernel refuses"; }
            body = body[padded..];
        }
        return null;
    }

    private static string? Exactly(ReadOnlySpan<byte> body, int lengthBytes) => body.Length == lengthBytes ? null : $"a body of {body.Length} bytes, not {lengthBytes}";

    private static string? AtMost(ulong value, ulong limit) => value <= limit ? null : $"{value} of {limit} bytes";
}
