using System.Runtime.InteropServices;
using VhostFs.Linux;

namespace VhostFs.Fuse;

/// <summary>Decodes the extensions after the names of CREATE, MKNOD, MKDIR, SYMLINK and TMPFILE: security context and supplementary group.</summary>
internal static class CreateExtensions
{
    /// <summary>Builds the context of a creation. Call after the last name has been taken.</summary>
    public static Errno Decode(FuseRequest request, FuseInitFlags negotiated, uint umask, out CreateContext context)
    {
        FuseInHeader header = request.Header;
        context = default;
        // In an id-mapped mount a caller without a mapping can own nothing here.
        if (header.Uid == FuseFlags.INVALID_UIDGID || header.Gid == FuseFlags.INVALID_UIDGID) { return Errno.EOVERFLOW; }

        bool securityContext = (negotiated & FuseInitFlags.SECURITY_CTX) != 0;
        bool groups = (negotiated & FuseInitFlags.CREATE_SUPP_GROUP) != 0;
        uint? group = null;
        IoVec securityName = default, securityValue = default;

        // Before 7.38 there is no total_extlen: only a negotiated security context may follow the names; other bytes are of no meaning.
        bool announced = header.TotalExtLen != 0;
        IoVec rest = announced || securityContext ? request.TakeExtensions() : default;
        while (!rest.IsEmpty)
        {
            if (!MemoryMarshal.TryRead(rest.Span, out FuseExtHeader extension)) { return Errno.EINVAL; }
            if (extension.SizeBytes < FuseExtHeader.Size || extension.SizeBytes > (uint)rest.Length) { return Errno.EINVAL; }
            IoVec body = rest.Slice(FuseExtHeader.Size, (int)extension.SizeBytes - FuseExtHeader.Size);
            rest = rest.Slice(Math.Min(((int)extension.SizeBytes + 7) & ~7, rest.Length));
            Errno decoded = extension.Type switch
            {
                <= FuseFlags.MAX_NR_SECCTX when securityContext && securityName.IsEmpty => DecodeSecurity(body, extension.Type, out securityName, out securityValue),
                FuseFlags.EXT_GROUPS when groups && announced && group is null => DecodeGroup(body, out group),
                _ => Errno.EINVAL, // not negotiated, a second one, or unknown
            };
            if (decoded != Errno.None) { return decoded; }
        }
        context = new CreateContext(new FuseCaller(header.Uid, header.Gid, header.Pid, group), umask, securityName, securityValue);
        return Errno.None;
    }

    /// <summary>Each context is fuse_secctx, name, NUL, value. Linux sends none or one.</summary>
    private static Errno DecodeSecurity(IoVec body, uint count, out IoVec name, out IoVec value)
    {
        name = default;
        value = default;
        if (count == 0) { return Errno.None; }
        if (count > 1) { return Errno.EOPNOTSUPP; }
        if (!MemoryMarshal.TryRead(body.Span, out FuseSecctx context)) { return Errno.EINVAL; }
        IoVec rest = body.Slice(FuseSecctx.Size);
        int nameBytes = rest.Span.IndexOf((byte)0);
        if (nameBytes is <= 0 or > FuseFlags.NameMax) { return Errno.EINVAL; }
        if (context.SizeBytes > FuseFlags.XattrSizeMax || context.SizeBytes > (uint)(rest.Length - nameBytes - 1)) { return Errno.EINVAL; }
        name = rest.Slice(0, nameBytes);
        value = rest.Slice(nameBytes + 1, (int)context.SizeBytes);
        return Errno.None;
    }

    /// <summary>fuse_supp_groups: a count and that many ids; Linux sends the one group that matters, the parent directory's.</summary>
    private static Errno DecodeGroup(IoVec body, out uint? group)
    {
        group = null;
        if (!MemoryMarshal.TryRead(body.Span, out uint count)) { return Errno.EINVAL; }
        if (count == 0) { return Errno.None; }
        if (count > 1 || !MemoryMarshal.TryRead(body.Span[sizeof(uint)..], out uint first)) { return Errno.EINVAL; }
        group = first;
        return Errno.None;
    }
}
