using System.Buffers.Binary;
using VhostFs.Blobstore;
using VhostFs.Linux;
using VhostFs.Reactor;
using IoReactor = VhostFs.Reactor.Reactor;

namespace VhostFs.Crash.Tests.Explorer;

/// <summary>A volume in use: the engine's, the model's, and what was promised.</summary>
public sealed class OpenVolume(Volume volume, VolumeModel model, ContentHistory history)
{
    public Volume Volume => volume;

    public VolumeModel Model => model;

    public ContentHistory History => history;

    public ulong Stamp { get; set; }

    public ulong LastLsn { get; set; }
}

/// <summary>One client of a volume: random changes of items and blobs through the engine's own interface, each entered in the model when it commits.</summary>
/// <remarks>Clients of one volume write different items and blobs, and read each other's.</remarks>
public sealed class VolumeClient(Random random, PoolProfile profile, ulong number)
{
    public const ulong StampObject = 1;

    /// <summary>In all user data, with the volume's id behind it: shows to whom bytes belong.</summary>
    public const ulong DataMark = 0x5AFE_DA7A_0F_7E57;

    private const int MarkEveryBytes = 64;
    private const int BlobsPerClient = 2;
    private const ulong FirstBlob = 2;
    private const ulong FirstItemObject = 100;

    public static TreeKey StampKey => new(StampObject, ItemType.Xattr, 0);

    private ulong OwnBlob => FirstBlob + (number * BlobsPerClient) + (ulong)random.Next(BlobsPerClient);

    public async IoTask<Errno> RunAsync(OpenVolume open, PoolOperation operation) => operation switch
    {
        PoolOperation.Items => await ChangeItemsAsync(open, largeOneIn: 20),
        PoolOperation.LargeItems => await ChangeItemsAsync(open, largeOneIn: 1),
        PoolOperation.SmallWrite => await WriteAsync(open, random.Next(60_000), random.Next(1, 9000)),
        PoolOperation.BlockWrite => await WriteAsync(open, random.Next(8) * 4096, random.Next(1, 8) * 4096),
        PoolOperation.LargeWrite => await WriteAsync(open, random.Next(12) * 4096, random.Next(8, 24) * 4096),
        PoolOperation.Truncate => await TruncateAsync(open, random.Next(70_000)),
        PoolOperation.Drop => await TruncateAsync(open, 0),
        PoolOperation.Allocate => await AllocateAsync(open),
        PoolOperation.Share => await ShareAsync(open),
        PoolOperation.Read => await ReadAsync(open),
        PoolOperation.Sync => await SyncAsync(open),
        PoolOperation.Pause => await IoReactor.Current.DelayAsync(random.Next(10) == 0 ? random.Next(400) * 1_000_000L : random.Next(500_000)),
        _ => Errno.EINVAL,
    };

    /// <summary>Puts the first items into an empty volume.</summary>
    public async IoTask<Errno> PrefillAsync(OpenVolume open)
    {
        for (int i = 0; i < profile.PrefilledItems; i += 5)
        {
            Errno done = await ChangeItemsAsync(open, largeOneIn: 1);
            if (done != Errno.None) { return done; }
        }
        return Errno.None;
    }

    private static async IoTask<Errno> SyncAsync(OpenVolume open)
    {
        int version = open.History.Current;
        Errno synced = await open.Volume.SyncAsync();
        if (synced == Errno.None) { open.History.Durable(version); }
        return synced;
    }

    private async IoTask<Errno> ChangeItemsAsync(OpenVolume open, int largeOneIn)
    {
        Volume volume = open.Volume;
        var keys = new HashSet<TreeKey>();
        while (keys.Count < 1 + random.Next(5)) { keys.Add(new TreeKey(FirstItemObject + number, ItemType.DirectoryEntry, (ulong)random.Next(profile.ItemKeys))); }
        var changes = new List<(TreeKey Key, byte[]? Value)>();
        foreach (TreeKey key in keys)
        {
            byte[] value = new byte[random.Next(largeOneIn) == 0 ? random.Next(3900) : random.Next(300)];
            random.NextBytes(value);
            changes.Add((key, open.Model.Contains(key) && random.Next(3) == 0 ? null : value));
        }
        for (;;)
        {
            Errno admitted = await volume.AdmitAsync(Admission.Grow);
            if (admitted != Errno.None) { return admitted; }
            Transaction transaction = volume.Begin();
            Errno staged = Errno.None;
            foreach ((TreeKey key, byte[]? value) in changes)
            {
                if (staged == Errno.None) { staged = value is null ? transaction.Delete(key) : transaction.Put(key, value); }
            }
            if (staged == Errno.None) { staged = StageStamp(open, transaction); }
            if (staged == Errno.None)
            {
                return await CommitAsync(open, transaction, () =>
                {
                    foreach ((TreeKey key, byte[]? value) in changes)
                    {
                        if (value is null) { open.Model.Delete(key); }
                        else { open.Model.Put(key, value); }
                    }
                });
            }
            transaction.Abort();
            staged = staged == Residency.NotResident ? await volume.LoadMissingAsync() : staged;
            if (staged != Errno.None) { return staged; }
        }
    }

    private async IoTask<Errno> WriteAsync(OpenVolume open, int offset, int length)
    {
        using var buffer = new NativeBuffer(length);
        random.NextBytes(buffer.Span);
        // Never across a sector's end: a torn write must not part mark and owner.
        for (int at = (MarkEveryBytes - (offset % MarkEveryBytes)) % MarkEveryBytes; at + 16 <= length; at += MarkEveryBytes)
        {
            BinaryPrimitives.WriteUInt64LittleEndian(buffer.Span[at..], DataMark);
            BinaryPrimitives.WriteUInt64LittleEndian(buffer.Span[(at + 8)..], open.Volume.Id);
        }
        using var vectors = new IoVecList(1);
        vectors.Add(buffer.Slice(0, length));
        ulong blob = OwnBlob;
        return await ChangeBlobAsync(open, blob, change => open.Volume.Data.PrepareWriteAsync(change, blob, offset, vectors.View()), old =>
        {
            byte[] content = new byte[Math.Max(old.Length, offset + length)];
            old.CopyTo(content, 0);
            buffer.Span.CopyTo(content.AsSpan(offset));
            return content;
        });
    }

    private IoTask<Errno> TruncateAsync(OpenVolume open, int size)
    {
        ulong blob = OwnBlob;
        int oldSize = open.Model.Blob(blob).Length;
        long firstGone = ((long)size + 4095) / 4096;
        return ChangeBlobAsync(open, blob,
            change => size < oldSize ? open.Volume.Data.PrepareZeroAsync(change, blob, size, (firstGone * 4096) - size) : new IoTask<Errno>(Errno.None),
            old =>
            {
                Array.Resize(ref old, size);
                return old;
            },
            transaction =>
            {
                Errno staged = open.Volume.Data.TryStageUnmap(transaction, blob, firstGone, long.MaxValue / 4096, out _, out bool complete);
                return staged != Errno.None || complete ? staged : throw new InvalidOperationException("a small blob needs more than one step");
            });
    }

    private IoTask<Errno> AllocateAsync(OpenVolume open)
    {
        ulong blob = OwnBlob;
        long first = random.Next(30), limit = first + random.Next(1, 12);
        return ChangeBlobAsync(open, blob, change => open.Volume.Data.PrepareAllocateAsync(change, blob, first, limit), old => old);
    }

    /// <summary>Makes blocks of any blob, of another client too, blocks of an own one.</summary>
    private async IoTask<Errno> ShareAsync(OpenVolume open)
    {
        if (open.Model.Blobs.Count == 0 || !open.Volume.Data.CanShare) { return Errno.None; }
        Errno allowed = await open.Volume.AllowSharingAsync();
        if (allowed != Errno.None) { return allowed; }
        ulong source = open.Model.Blobs.Order().ElementAt(random.Next(open.Model.Blobs.Count)), target = OwnBlob;
        long sourceBlock = random.Next(3) == 0 ? random.Next(16) : 0, targetBlock = random.Next(3) == 0 ? random.Next(16) : sourceBlock, count = random.Next(1, 24);
        if (source == target) { targetBlock = sourceBlock + count; }
        // In order of their numbers, as everybody does who locks two.
        BlobLock? before = source < target ? await open.Volume.Data.LockAsync(source, 0, long.MaxValue) : null;
        BlobLock held = await open.Volume.Data.LockAsync(target, 0, long.MaxValue);
        BlobLock? after = source > target ? await open.Volume.Data.LockAsync(source, 0, long.MaxValue) : null;
        long shared = 0;
        Errno done = await ChangeLockedAsync(open, target, _ => new IoTask<Errno>(Errno.None),
            old =>
            {
                byte[] from = open.Model.Blob(source);
                byte[] content = new byte[Math.Max(old.Length, (targetBlock + shared) * BlobData.BlockBytes)];
                old.CopyTo(content, 0);
                Span<byte> part = content.AsSpan((int)targetBlock * BlobData.BlockBytes, (int)shared * BlobData.BlockBytes);
                part.Clear();
                int first = (int)Math.Min(sourceBlock * BlobData.BlockBytes, from.Length);
                from.AsSpan(first, Math.Min(part.Length, from.Length - first)).CopyTo(part);
                return content;
            },
            transaction => open.Volume.Data.TryStageShare(transaction, source, sourceBlock, target, targetBlock, count, out shared, out _));
        if (after is not null) { open.Volume.Data.Unlock(after); }
        open.Volume.Data.Unlock(held);
        if (before is not null) { open.Volume.Data.Unlock(before); }
        return done;
    }

    private async IoTask<Errno> ChangeBlobAsync(OpenVolume open, ulong blob, Func<BlobChange, IoTask<Errno>> prepare, Func<byte[], byte[]> apply, Func<Transaction, Errno>? stageMore = null)
    {
        BlobLock held = await open.Volume.Data.LockAsync(blob, 0, long.MaxValue);
        Errno done = await ChangeLockedAsync(open, blob, prepare, apply, stageMore);
        open.Volume.Data.Unlock(held);
        return done;
    }

    private async IoTask<Errno> ChangeLockedAsync(OpenVolume open, ulong blob, Func<BlobChange, IoTask<Errno>> prepare, Func<byte[], byte[]> apply, Func<Transaction, Errno>? stageMore)
    {
        Volume volume = open.Volume;
        BlobChange change = volume.Data.RentChange();
        try
        {
            Errno prepared = await prepare(change);
            if (prepared != Errno.None) { return prepared; }
            for (;;)
            {
                Errno admitted = await volume.AdmitAsync(Admission.Grow);
                if (admitted != Errno.None) { return admitted; }
                var sizeKey = new TreeKey(blob, ItemType.Inode, 0);
                Transaction transaction = volume.Begin();
                Errno staged = BlobData.IsEmpty(change) ? Errno.None : volume.Data.TryStage(transaction, change);
                if (staged == Errno.None && stageMore is not null) { staged = stageMore(transaction); }
                byte[] content = apply(open.Model.Blob(blob));
                byte[] size = new byte[VolumeContent.SizeItemBytes];
                BinaryPrimitives.WriteInt64LittleEndian(size, content.Length);
                if (staged == Errno.None) { staged = transaction.Put(sizeKey, size); }
                if (staged == Errno.None) { staged = StageStamp(open, transaction); }
                if (staged == Errno.None)
                {
                    return await CommitAsync(open, transaction, () =>
                    {
                        open.Model.Put(sizeKey, size);
                        open.Model.SetBlob(blob, content);
                    });
                }
                transaction.Abort();
                staged = staged == Residency.NotResident ? await volume.LoadMissingAsync() : staged;
                if (staged != Errno.None) { return staged; }
            }
        }
        finally { volume.Data.End(change); }
    }

    /// <summary>Each version is made different from all others, so that a content names its version.</summary>
    private static Errno StageStamp(OpenVolume open, Transaction transaction)
    {
        byte[] stamp = new byte[sizeof(ulong)];
        BinaryPrimitives.WriteUInt64LittleEndian(stamp, open.Stamp + 1);
        return transaction.Put(StampKey, stamp);
    }

    private async IoTask<Errno> CommitAsync(OpenVolume open, Transaction transaction, Action enter)
    {
        byte[] stamp = new byte[sizeof(ulong)];
        BinaryPrimitives.WriteUInt64LittleEndian(stamp, ++open.Stamp);
        ulong lsn = open.LastLsn = transaction.Commit();
        enter();
        open.Model.Put(StampKey, stamp);
        open.History.Add(open.Model.Hash);
        int version = open.History.Current;
        if (random.Next(3) == 0) { return Errno.None; } // goes on without waiting: nobody was replied to
        Errno logged = await open.Volume.LoggedAsync(lsn);
        if (logged == Errno.None) { open.History.Replied(version); }
        return logged;
    }

    /// <summary>Reads a blob while others write: each 4 KiB block must be one that it had meanwhile.</summary>
    private async IoTask<Errno> ReadAsync(OpenVolume open)
    {
        if (open.Model.Blobs.Count == 0) { return Errno.None; }
        ulong blob = open.Model.Blobs.Order().ElementAt(random.Next(open.Model.Blobs.Count));
        List<byte[]> seen = open.Model.BeginRead(blob);
        byte[] read = new byte[seen[0].Length];
        string? problem = await VolumeContent.ReadBlobAsync(open.Volume, blob, read);
        open.Model.EndRead(seen);
        if (problem is not null) { throw new InvalidOperationException($"a read beside writes: {problem}"); }
        for (int at = 0; at < read.Length; at += BlobData.BlockBytes)
        {
            int length = Math.Min(BlobData.BlockBytes, read.Length - at);
            if (!seen.Exists(content => Matches(content, at, read.AsSpan(at, length)))) { throw new InvalidOperationException($"a read beside writes: block {at / BlobData.BlockBytes} of blob {blob} holds what it never held"); }
        }
        return Errno.None;
    }

    /// <summary>Behind its end a content is zeroes.</summary>
    private static bool Matches(byte[] content, int at, ReadOnlySpan<byte> block)
    {
        int there = Math.Clamp(content.Length - at, 0, block.Length);
        return block[..there].SequenceEqual(content.AsSpan(Math.Min(at, content.Length), there)) && block[there..].IndexOfAnyExcept((byte)0) < 0;
    }
}
