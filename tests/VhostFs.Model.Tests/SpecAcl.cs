using System.Buffers.Binary;

namespace VhostFs.Model.Tests;

/// <summary>acl(5) in words.</summary>
internal static class SpecAcl
{
    public static byte[] ToBytes(IReadOnlyList<SpecAclEntry> entries)
    {
        var bytes = new byte[4 + (8 * entries.Count)];
        bytes[0] = 2;
        for (int i = 0; i < entries.Count; i++)
        {
            (string tag, uint bits, uint? id) = entries[i];
            ushort number = (tag, id) switch { ("user", null) => 1, ("user", _) => 2, ("group", null) => 4, ("group", _) => 8, ("mask", _) => 16, _ => 32 };
            BinaryPrimitives.WriteUInt16LittleEndian(bytes.AsSpan(4 + (8 * i)), number);
            BinaryPrimitives.WriteUInt16LittleEndian(bytes.AsSpan(6 + (8 * i)), (ushort)bits);
            BinaryPrimitives.WriteUInt32LittleEndian(bytes.AsSpan(8 + (8 * i)), id ?? uint.MaxValue);
        }
        return bytes;
    }

    /// <summary>It says more than nine permission bits can.</summary>
    public static bool IsExtended(List<SpecAclEntry> acl) => acl.Exists(static e => e.Id is not null || e.Tag == "mask");

    /// <summary>The bits of the class "group" are the mask's, if there is one.</summary>
    public static uint Permissions(List<SpecAclEntry> acl) =>
        (Bits(acl, "user") << 6) | ((HasMask(acl) ? Bits(acl, "mask") : Bits(acl, "group")) << 3) | Bits(acl, "other");

    /// <summary>For each of owner, group class and others: both what the ACL and what the mode allows.</summary>
    public static List<SpecAclEntry> Restricted(List<SpecAclEntry> acl, uint mode) => Change(acl, mode, static (old, allowed) => old & allowed);

    /// <summary>chmod: the mode's bits take the place of the ACL's.</summary>
    public static List<SpecAclEntry> Replaced(List<SpecAclEntry> acl, uint mode) => Change(acl, mode, static (_, allowed) => allowed);

    private static List<SpecAclEntry> Change(List<SpecAclEntry> acl, uint mode, Func<uint, uint, uint> change)
    {
        string groupClass = HasMask(acl) ? "mask" : "group";
        return [.. acl.Select(entry =>
        {
            if (entry.Id is not null) { return entry; }
            int shift = entry.Tag == "user" ? 6 : entry.Tag == groupClass ? 3 : entry.Tag == "other" ? 0 : -1;
            return shift < 0 ? entry : entry with { Bits = change(entry.Bits, (mode >> shift) & 7) };
        })];
    }

    private static bool HasMask(List<SpecAclEntry> acl) => acl.Exists(static e => e.Tag == "mask");

    private static uint Bits(List<SpecAclEntry> acl, string tag) => acl.Find(e => e.Tag == tag && e.Id is null)!.Bits;
}
