using System.Buffers.Binary;

namespace VhostFs.Blobstore.Check;

/// <summary>A name in a directory.</summary>
internal readonly record struct NameFacts(ulong Directory, ulong Inode, byte Type);

/// <summary>DIRENT items: up to eight names of one hash, in the order of their slots, under the key that the hash gives.</summary>
internal sealed class DirectoryChecker(CheckReport report, string volume, byte[] hashKey)
{
    private const int EntryBytes = 12;
    private const int MaxEntries = 8;

    private readonly List<NameFacts> _names = [];

    public IReadOnlyList<NameFacts> Names => _names;

    /// <summary>Returns how many names the item holds.</summary>
    public int Add(ItemKey key, ReadOnlySpan<byte> rest)
    {
        if (rest.Length == 0) { Error(key, "an item without names"); }
        int count = 0, nextSlot = 0;
        var seen = new List<byte[]>(1);
        while (rest.Length > 0)
        {
            int nameLength = rest.Length >= EntryBytes ? rest[2] : 0;
            if (nameLength == 0 || rest.Length < EntryBytes + nameLength)
            {
                Error(key, "a name is malformed");
                return count;
            }
            int slot = rest[0];
            if (slot < nextSlot || slot >= MaxEntries) { Error(key, $"slot {slot} is out of order"); }
            ReadOnlySpan<byte> name = rest.Slice(EntryBytes, nameLength);
            if (Math.Max(SipHash.Of(hashKey, name) >> 4, 1) != key.Sub) { Error(key, "a name that does not hash to its key"); }
            if (!IsName(name)) { Error(key, "a name that no file can have"); }
            foreach (byte[] other in seen)
            {
                if (name.SequenceEqual(other)) { Error(key, "the same name twice"); }
            }
            seen.Add(name.ToArray());
            _names.Add(new NameFacts(key.Object, BinaryPrimitives.ReadUInt64LittleEndian(rest[4..]), rest[1]));
            rest = rest[(EntryBytes + nameLength)..];
            nextSlot = slot + 1;
            count++;
        }
        return count;
    }

    private static bool IsName(ReadOnlySpan<byte> name) => !name.ContainsAny((byte)'/', (byte)0) && !name.SequenceEqual("."u8) && !name.SequenceEqual(".."u8);

    private void Error(ItemKey key, string sentence) => report.Error("directory", $"{volume}, inode {key.Object}, entry {key.Sub:x}", sentence);
}
