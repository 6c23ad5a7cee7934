using VhostFs.Blobstore;
using VhostFs.Fuse;
using VhostFs.Linux;
using VhostFs.Reactor;

namespace VhostFs.Blobfs;

/// <summary>READDIR and READDIRPLUS for one session: names in the order of their hashes.</summary>
/// <remarks>A cookie is the hash and slot of the last name given (docs/blobfs-format.md): both belong to the name as long as it lives, so that a
/// name that exists during the whole listing is listed exactly once, whatever is made or removed meanwhile.</remarks>
internal sealed class Directories(BlobfsState state, SessionReferences references, AccessTimes accessTimes)
{
    public const ulong DotCookie = 1;
    public const ulong DotDotCookie = 2;
    public const int SlotBits = 3;

    public IoTask<Errno> ReadAsync(ulong node, ulong handle, ulong cookie, DirectoryWriter writer)
    {
        Errno read = TryRead(node, handle, cookie, writer);
        return read == Residency.NotResident ? ReadSlowAsync(node, handle, cookie, writer) : new IoTask<Errno>(read);
    }

    public static ulong CookieOf(ulong hash, int slot) => (hash << SlotBits) | (uint)slot;

    private async IoTask<Errno> ReadSlowAsync(ulong node, ulong handle, ulong cookie, DirectoryWriter writer)
    {
        for (int attempt = 0; attempt < OperationLoop.MaxAttempts; attempt++)
        {
            Errno loaded = await state.Volume.LoadMissingAsync();
            if (loaded != Errno.None) { return loaded; }
            Errno read = TryRead(node, handle, cookie, writer);
            if (read != Residency.NotResident) { return read; }
        }
        return Errno.EIO;
    }

    // An error after the first entry is not reported: the next call meets it again, as its first.
    private Errno TryRead(ulong node, ulong handle, ulong cookie, DirectoryWriter writer)
    {
        Errno found = state.Volume.TryGetInode(node, out InodeRecord record);
        if (found != Errno.None) { return found; }
        if (!record.IsDirectory) { return Errno.ENOTDIR; }
        ulong hash = cookie >> SlotBits;
        if (hash > BlobfsKeys.MaxEntryHash) { return Errno.EINVAL; }
        bool addedDots = cookie < DotDotCookie;
        if (addedDots)
        {
            if (cookie == 0 && !writer.TryAdd("."u8, node, DotCookie, record.EntryType)) { return Errno.None; }
            if (!writer.TryAdd(".."u8, record.Parent, DotDotCookie, record.EntryType)) { return Errno.None; }
        }
        Errno filled = Fill(node, hash, (int)(cookie & ((1 << SlotBits) - 1)), writer, out int added);
        if (filled != Errno.None) { return added > 0 || addedDots ? Errno.None : filled; }
        accessTimes.Touch(node, record, handle);
        return Errno.None;
    }

    private Errno Fill(ulong node, ulong hash, int lastSlot, DirectoryWriter writer, out int added)
    {
        added = 0;
        TreeKey limit = BlobfsKeys.EntryLimit(node);
        TreeKey from = BlobfsKeys.Entry(node, hash);
        while (true)
        {
            Errno found = state.Volume.TryNext(from, limit, out TreeKey key, out ReadOnlySpan<byte> bucket);
            if (found == Errno.ENOENT) { return Errno.None; }
            if (found != Errno.None) { return found; }
            int offset = 0;
            while (DirectoryBucket.TryNext(bucket, ref offset, out DirectoryEntry entry, out bool malformed))
            {
                if (key.Sub == hash && entry.Slot <= lastSlot) { continue; }
                // The disk may be anybody's work: a guest must not be told a name that means a path, or the directory itself.
                if (!FileLimits.IsName(entry.Name)) { return Errno.EIO; }
                ulong cookie = CookieOf(key.Sub, entry.Slot);
                Errno put = Add(entry, cookie, writer, out bool full);
                if (put != Errno.None) { return put; }
                if (full) { return Errno.None; }
                added++;
            }
            if (offset != bucket.Length) { return Errno.EIO; }
            from = key.Next();
        }
    }

    private Errno Add(DirectoryEntry entry, ulong cookie, DirectoryWriter writer, out bool full)
    {
        full = false;
        if (!writer.WantsAttributes)
        {
            full = !writer.TryAdd(entry.Name, entry.Inode, cookie, entry.Type);
            return Errno.None;
        }
        Errno found = state.Volume.TryGetInode(entry.Inode, out InodeRecord record);
        if (found != Errno.None) { return found == Errno.ESTALE ? Errno.EIO : found; }
        if (!references.CanAdd(entry.Inode)) { return Errno.ENFILE; }
        references.AddLookup(entry.Inode);
        full = !writer.TryAdd(entry.Name, record.ToAttributes(entry.Inode), cookie);
        if (full) { references.Forget(entry.Inode, 1); }
        return Errno.None;
    }
}
