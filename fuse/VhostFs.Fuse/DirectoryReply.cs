using System.Runtime.InteropServices;
using VhostFs.Linux;

namespace VhostFs.Fuse;

/// <summary>Packs <c>fuse_dirent</c> or <c>fuse_direntplus</c> records, each padded with zeros to 8 bytes, into private memory.</summary>
internal sealed class DirectoryReply(IoVec memory) : DirectoryWriter
{
    private FuseSession? _session;
    private uint _epoch;
    private int _capacity;
    private bool _plus;

    /// <summary>Bytes packed so far.</summary>
    public int Length { get; private set; }

    /// <summary>An entry was refused: an empty reply would wrongly say "end of directory".</summary>
    public bool IsFull { get; private set; }

    public ReadOnlySpan<byte> Packed => memory.Span[..Length];

    public override bool WantsAttributes => _plus;

    public void Begin(FuseSession session, uint epoch, int capacityBytes, bool plus)
    {
        _session = session;
        _epoch = epoch;
        _capacity = Math.Min(capacityBytes, memory.Length);
        _plus = plus;
        Length = 0;
        IsFull = false;
    }

    // In READDIRPLUS an entry without attributes has nodeid 0: the kernel takes the name only, and counts no lookup.
    public override bool TryAdd(ReadOnlySpan<byte> name, ulong inode, ulong cookie, uint type) =>
        TryAdd(name, default, new FuseDirent(inode, cookie, (uint)name.Length, type));

    public override bool TryAdd(ReadOnlySpan<byte> name, in InodeAttributes attributes, ulong cookie)
    {
        // A lookup reference made for a session that has ended: refused, so that the file system takes it back.
        if (_plus && !_session!.IsCurrent(_epoch))
        {
            IsFull = true;
            return false;
        }
        bool counts = _plus && !FuseName.IsDots(name);
        return TryAdd(name, counts ? _session!.ToEntry(attributes) : default,
            new FuseDirent(attributes.Inode, cookie, (uint)name.Length, (attributes.Mode & FuseFlags.S_IFMT) >> 12));
    }

    private bool TryAdd(ReadOnlySpan<byte> name, in FuseEntryOut entry, in FuseDirent dirent)
    {
        Invariant.That(name.Length is > 0 and <= FuseFlags.NameMax && dirent.Cookie != 0);
        int fixedBytes = _plus ? FuseDirentPlus.Size : FuseDirent.Size;
        int padded = (fixedBytes + name.Length + 7) & ~7;
        if (IsFull || padded > _capacity - Length)
        {
            IsFull = true;
            return false;
        }
        Span<byte> record = memory.Span.Slice(Length, padded);
        if (_plus) { MemoryMarshal.Write(record, new FuseDirentPlus(entry, dirent)); }
        else { MemoryMarshal.Write(record, dirent); }
        name.CopyTo(record[fixedBytes..]);
        record[(fixedBytes + name.Length)..].Clear();
        Length += padded;
        return true;
    }
}
