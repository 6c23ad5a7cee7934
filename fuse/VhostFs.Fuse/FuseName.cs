using VhostFs.Linux;

namespace VhostFs.Fuse;

/// <summary>The one validator of names from outside; every opcode that takes a name goes through it.</summary>
internal static class FuseName
{
    /// <summary>A name to be made, removed or renamed: 1 to 255 bytes, no '/', not "." or "..".</summary>
    public static Errno TakeName(FuseRequest request, out IoVec name)
    {
        Errno taken = TakeLookupName(request, out name);
        if (taken != Errno.None) { return taken; }
        return IsDots(name.Span) ? Errno.EINVAL : Errno.None;
    }

    /// <summary>The same, and "." and ".." (NFS export).</summary>
    public static Errno TakeLookupName(FuseRequest request, out IoVec name)
    {
        Errno taken = request.TakeString(FuseFlags.NameMax, out name);
        if (taken != Errno.None) { return taken; }
        return name.IsEmpty || name.Span.Contains((byte)'/') ? Errno.EINVAL : Errno.None;
    }

    /// <summary>An xattr's name: 1 to 255 bytes; '/' and dots mean nothing here. ERANGE when too long, as in setxattr(2).</summary>
    public static Errno TakeXattrName(FuseRequest request, out IoVec name)
    {
        Errno taken = request.TakeString(FuseFlags.NameMax, out name);
        if (taken == Errno.ENAMETOOLONG) { return Errno.ERANGE; }
        if (taken != Errno.None) { return taken; }
        return name.IsEmpty ? Errno.EINVAL : Errno.None;
    }

    /// <summary>A symbolic link's target: 1 to 4095 bytes of anything; nothing here ever follows it.</summary>
    public static Errno TakeLinkTarget(FuseRequest request, out IoVec target)
    {
        Errno taken = request.TakeString(FuseFlags.PathMax - 1, out target);
        if (taken != Errno.None) { return taken; }
        return target.IsEmpty ? Errno.ENOENT : Errno.None;
    }

    public static bool IsDots(ReadOnlySpan<byte> name) => name.Length switch
    {
        1 => name[0] == '.',
        2 => name[0] == '.' && name[1] == '.',
        _ => false,
    };
}
