using System.Buffers.Binary;

namespace VhostFs.Crash.Tests.Explorer;

/// <summary>Looks for bytes of volumes that are gone: their space is cleared before anybody else gets it.</summary>
public static class TenantData
{
    /// <summary>Null, or where on the disk there is data of a volume that is not among the <paramref name="found"/>, but was there once (a mark may have been written over in part).</summary>
    public static string? FindForeign(DiskImage disk, CrashTrace trace, IReadOnlyDictionary<string, ulong> found)
    {
        Span<byte> mark = stackalloc byte[sizeof(ulong)];
        BinaryPrimitives.WriteUInt64LittleEndian(mark, VolumeClient.DataMark);
        foreach ((int block, ReadOnlyMemory<byte> bytes) in disk.ChangedBlocks())
        {
            ReadOnlySpan<byte> rest = bytes.Span;
            for (int at = rest.IndexOf(mark); at >= 0 && at + 16 <= rest.Length; at = rest.IndexOf(mark))
            {
                ulong owner = BinaryPrimitives.ReadUInt64LittleEndian(rest[(at + 8)..]);
                string name = VolumeContent.HistoryOf(owner);
                if (!found.ContainsKey(name) && trace.Histories.ContainsKey(name)) { return $"block {block} holds data of volume {owner}, which is gone"; }
                rest = rest[(at + 16)..];
            }
        }
        return null;
    }
}
