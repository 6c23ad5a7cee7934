using System.Buffers.Binary;
using VhostFs.Linux;

namespace VhostFs.Blobfs;

/// <summary>POSIX ACLs in the form of the system.posix_acl_* xattrs: u32 version 2, then entries of u16 tag, u16 permissions, u32 id.</summary>
/// <remarks>The rules are those of acl(5) as Linux applies them (posix_acl_valid, posix_acl_equiv_mode, posix_acl_create, posix_acl_chmod).</remarks>
internal static class Acl
{
    public const int HeaderBytes = 4;
    public const int EntryBytes = 8;

    /// <summary>Bound of a stored ACL: about a thousand entries; it is copied into every new child.</summary>
    public const int MaxBytes = 8192;

    private const uint Version = 2;
    private const int UserObj = 1, User = 2, GroupObj = 4, Group = 8, Mask = 16, Other = 32;

    public static ReadOnlySpan<byte> AccessName => "system.posix_acl_access"u8;

    public static ReadOnlySpan<byte> DefaultName => "system.posix_acl_default"u8;

    /// <summary>No entries: setting it means removing the ACL.</summary>
    public static bool IsEmpty(ReadOnlySpan<byte> acl) => acl.Length <= HeaderBytes;

    public static Errno Validate(ReadOnlySpan<byte> acl)
    {
        if (acl.Length == 0) { return Errno.None; }
        if (acl.Length < HeaderBytes) { return Errno.EINVAL; }
        if (BinaryPrimitives.ReadUInt32LittleEndian(acl) != Version) { return Errno.EOPNOTSUPP; }
        if ((acl.Length - HeaderBytes) % EntryBytes != 0) { return Errno.EINVAL; }
        if (acl.Length > MaxBytes) { return Errno.E2BIG; }
        return IsEmpty(acl) || HasValidEntries(acl[HeaderBytes..]) ? Errno.None : Errno.EINVAL;
    }

    /// <summary>The permission bits that say what the ACL says to those who do not look at ACLs.</summary>
    /// <param name="extended">False: the mode says everything, the ACL need not be stored.</param>
    public static uint ToMode(ReadOnlySpan<byte> acl, uint mode, out bool extended)
    {
        extended = false;
        uint group = 0, permissions = 0;
        bool masked = false;
        for (ReadOnlySpan<byte> entry = acl[HeaderBytes..]; entry.Length >= EntryBytes; entry = entry[EntryBytes..])
        {
            uint allowed = Permissions(entry);
            switch (Tag(entry))
            {
                case UserObj: permissions |= allowed << 6; break;
                case GroupObj when !masked: group = allowed; break;
                case Mask: group = allowed; masked = true; extended = true; break;
                case Other: permissions |= allowed; break;
                case User or Group: extended = true; break;
            }
        }
        return (mode & ~0x1FFu) | permissions | (group << 3);
    }

    /// <summary>chmod on a file with an ACL: the mode's group bits are the mask.</summary>
    public static void Chmod(Span<byte> acl, uint mode)
    {
        bool masked = HasMask(acl);
        for (Span<byte> entry = acl[HeaderBytes..]; entry.Length >= EntryBytes; entry = entry[EntryBytes..])
        {
            switch (Tag(entry))
            {
                case UserObj: SetPermissions(entry, (mode >> 6) & 7); break;
                case GroupObj when !masked: SetPermissions(entry, (mode >> 3) & 7); break;
                case Mask: SetPermissions(entry, (mode >> 3) & 7); break;
                case Other: SetPermissions(entry, mode & 7); break;
            }
        }
    }

    /// <summary>Makes the parent's default ACL the access ACL of a new object: neither gives more than the creating call asked for. Returns the object's mode.</summary>
    public static uint Inherit(Span<byte> acl, uint mode, out bool extended)
    {
        bool masked = HasMask(acl);
        for (Span<byte> entry = acl[HeaderBytes..]; entry.Length >= EntryBytes; entry = entry[EntryBytes..])
        {
            switch (Tag(entry))
            {
                case UserObj: SetPermissions(entry, Permissions(entry) & (mode >> 6)); break;
                case GroupObj when !masked: SetPermissions(entry, Permissions(entry) & (mode >> 3)); break;
                case Mask: SetPermissions(entry, Permissions(entry) & (mode >> 3)); break;
                case Other: SetPermissions(entry, Permissions(entry) & mode); break;
            }
        }
        return ToMode(acl, mode, out extended);
    }

    // Order: owner, named users by id, group, named groups by id, mask (needed with any named entry), others.
    private static bool HasValidEntries(ReadOnlySpan<byte> entries)
    {
        int expected = UserObj;
        bool needsMask = false;
        uint lastId = 0;
        bool first = true;
        for (; entries.Length >= EntryBytes; entries = entries[EntryBytes..])
        {
            int tag = Tag(entries);
            uint id = BinaryPrimitives.ReadUInt32LittleEndian(entries[4..]);
            if ((BinaryPrimitives.ReadUInt16LittleEndian(entries[2..]) & ~7) != 0) { return false; }
            switch (tag)
            {
                case UserObj when expected == UserObj: expected = User; first = true; break;
                case User when expected == User && (first || id > lastId): needsMask = true; lastId = id; first = false; break;
                case GroupObj when expected == User: expected = Group; first = true; break;
                case Group when expected == Group && (first || id > lastId): needsMask = true; lastId = id; first = false; break;
                case Mask when expected == Group: expected = Other; needsMask = false; break;
                case Other when expected == Other || (expected == Group && !needsMask): expected = 0; break;
                default: return false;
            }
        }
        return expected == 0;
    }

    private static bool HasMask(ReadOnlySpan<byte> acl)
    {
        for (ReadOnlySpan<byte> entry = acl[HeaderBytes..]; entry.Length >= EntryBytes; entry = entry[EntryBytes..])
        {
            if (Tag(entry) == Mask) { return true; }
        }
        return false;
    }

    private static int Tag(ReadOnlySpan<byte> entry) => BinaryPrimitives.ReadUInt16LittleEndian(entry);

    private static uint Permissions(ReadOnlySpan<byte> entry) => BinaryPrimitives.ReadUInt16LittleEndian(entry[2..]) & 7u;

    private static void SetPermissions(Span<byte> entry, uint permissions) =>
        BinaryPrimitives.WriteUInt16LittleEndian(entry[2..], (ushort)permissions);
}
