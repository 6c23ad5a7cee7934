using VhostFs.Blobstore;
using VhostFs.Crash.Tests.Explorer;
using VhostFs.Fuse;
using VhostFs.Linux;
using VhostFs.Reactor;
using IoReactor = VhostFs.Reactor.Reactor;

namespace VhostFs.Failure.Tests;

/// <summary>The disks that scenarios begin with.</summary>
public static class Disks
{
    public const int Bytes = 16 << 20;
    private const ushort UserObj = 1, User = 2, GroupObj = 4, Mask = 16, Other = 32;

    /// <summary>Two empty volumes.</summary>
    public static Disk Empty { get; } = new("empty", () => Make(checksums: true, null, closes: true));

    /// <summary>One of everything.</summary>
    public static Disk Files { get; } = new("files", () => Make(checksums: true, FillAsync, closes: true));

    public static Disk FilesWithoutChecksums { get; } = new("files without checksums", () => Make(checksums: false, FillAsync, closes: true));

    /// <summary>A file whose blocks lie so far apart that their map fills several nodes: dropping them takes many transactions, and reads between them.</summary>
    public static Disk Aged { get; } = new("aged", () => Make(checksums: true, AgeAsync, closes: true));

    /// <summary>The process died: the log holds records, images, blocks that no flush covers, an orphan and a truncation under way.</summary>
    public static Disk Crashed { get; } = new("crashed", () => Make(checksums: true, CrashAsync, closes: false));

    /// <summary>One of everything, and a file that takes all the rest.</summary>
    public static Disk Full { get; } = new("full", () => Make(checksums: true, FillUpAsync, closes: true)) { IsFull = true };

    private static byte[] Make(bool checksums, Func<FailureWorld, IoTask<string>>? fill, bool closes)
    {
        var image = new DiskImage(new byte[Bytes]);
        using var bdev = new FaultBdev(new ImageBdev(image));
        using var reactor = new IoReactor(new SimulatedDriver(), "disk");
        string? problem = reactor.RunUntilComplete(() => MakeAsync(bdev, checksums, fill, closes));
        return problem is null ? image.ToArray() : throw new InvalidOperationException($"making a disk: {problem}");
    }

    private static async IoTask<string?> MakeAsync(FaultBdev bdev, bool checksums, Func<FailureWorld, IoTask<string>>? fill, bool closes)
    {
        OpenResult<Pool> pool = await Pool.FormatAsync(bdev, new FormatOptions { ClusterBytes = 128 << 10 });
        if (pool.Value is null) { return pool.Error; }
        foreach (string name in new[] { FailureWorld.Main, FailureWorld.Other })
        {
            OpenResult<Volume> volume = await pool.Value.CreateVolumeAsync(name, new VolumeOptions { DataChecksums = checksums });
            if (volume.Value is null) { return volume.Error; }
        }
        Errno closed = await pool.Value.CloseAsync();
        if (closed != Errno.None) { return $"closing: {closed}"; }
        using var world = new FailureWorld(bdev, [FailureWorld.Main, FailureWorld.Other]);
        if (await world.OpenAsync() is { } unopened) { return unopened; }
        string filled = fill is null ? "None" : await fill(world);
        if (filled != "None") { return filled; }
        string other = await world.OtherClient.Write("/", 0, 1);
        if (other != "EISDIR") { return other; }
        other = await world.OtherClient.Make("/", "other");
        if (!other.StartsWith("mode", StringComparison.Ordinal)) { return other; }
        other = await world.OtherClient.Write("/other", 0, 20_000);
        if (other is not ("20000 bytes" or "ENOSPC")) { return other; }
        if (!closes)
        {
            bdev.ReleaseClaim();
            return null;
        }
        closed = await world.CloseAsync();
        return closed == Errno.None ? null : $"closing: {closed}";
    }

    private static async IoTask<string> FillAsync(FailureWorld world)
    {
        FileClient c = world.Client;
        var all = new Sequence();
        foreach (string file in new[] { "empty", "inline", "blocks", "big", "holes", "reserved", "linked", "suid", "x" }) { all.Add(await c.Make("/", file)); }
        foreach (string directory in new[] { "d", "e", "f", "acl", "many" }) { all.Add(await c.MakeDirectory("/", directory)); }
        all.Add(await c.Write("/inline", 0, 1500));
        all.Add(await c.Write("/blocks", 0, (3 * 4096) + 100));
        all.Add(await c.Write("/big", 0, 300_000));
        all.Add(await c.Make("/", "clone"));
        all.Add(await c.Copy("/big", 0, "/clone", 0, 300_000));
        all.Add(await c.Write("/holes", 0, 4096));
        all.Add(await c.Write("/holes", 100_000, 5000));
        all.Add(await c.Fallocate("/reserved", 1, 0, 65536));
        all.Add(await c.Write("/reserved", 0, 8192));
        all.Add(await c.Write("/linked", 0, 6000));
        all.Add(await c.Link("/linked", "/d", "linked"));
        all.Add(await c.Write("/suid", 0, 5000));
        all.Add(await c.SetXattr("/suid", "security.capability", 20));
        all.Add(await c.Set("/suid", new SetAttributes(Mode: 0xDED, Uid: 7, Gid: 8)));
        all.Add(await c.Set("/suid", new SetAttributes(Mode: 0xDED)));
        all.Add(await c.Symlink("/", "short", 20));
        all.Add(await c.Symlink("/", "long", 4000));
        all.Add(await c.Make("/", "fifo", 0x11A4));
        foreach (string file in new[] { "a", "b", "c" })
        {
            all.Add(await c.Make("/d", file));
            all.Add(await c.Write($"/d/{file}", 0, file == "a" ? 100 : 9000));
        }
        all.Add(await c.SetAcl("/acl", "system.posix_acl_default", new(UserObj, 7), new(User, 5, 1000), new(GroupObj, 5), new(Mask, 7), new(Other, 0)));
        all.Add(await c.Make("/acl", "file"));
        all.Add(await c.SetXattr("/x", "user.small", 20));
        all.Add(await c.SetXattr("/x", "user.middle", 9000));
        all.Add(await c.SetXattr("/x", "user.large", 60_000));
        for (int i = 0; i < 30; i++) { all.Add(await c.SetXattr("/x", $"user.many{i}", 100)); }
        for (int i = 0; i < 90; i++) { all.Add(await c.Make("/many", $"entry {i} with a name that takes some room", 0x11A4)); }
        return all.Result;
    }

    private static async IoTask<string> FillUpAsync(FailureWorld world)
    {
        FileClient c = world.Client;
        string result = await FillAsync(world);
        if (result != "None") { return result; }
        await c.Make("/", "ballast");
        long size = 0;
        foreach (int length in new[] { 256 << 10, 4096 })
        {
            while (true)
            {
                string written = await c.Write("/ballast", size, length);
                if (written == "ENOSPC") { break; }
                if (written != $"{length} bytes") { return written; }
                size += length;
            }
        }
        return await c.Sync();
    }

    private static async IoTask<string> AgeAsync(FailureWorld world)
    {
        const int Groups = 300, GroupBytes = 128 * 4096;
        FileClient c = world.Client;
        var all = new Sequence();
        all.Add(await c.Make("/", "aged"));
        for (int i = 0; i < Groups; i++) { all.Add(await c.Write("/aged", (i * GroupBytes) + 4096, 4096)); }
        all.Add(await c.Make("/", "grown"));
        all.Add(await c.Write("/grown", 0, 1_000_000));
        return all.Result;
    }

    private static async IoTask<string> CrashAsync(FailureWorld world)
    {
        FileClient c = world.Client;
        var all = new Sequence();
        all.Add(await FillAsync(world));
        all.Add(await AgeAsync(world));
        all.Add(await c.Sync());
        all.Add(await c.Write("/big", 10_000, 5000));      // images
        all.Add(await c.Write("/blocks", 100_000, 60_000)); // new blocks, not flushed
        all.Add(await c.UnlinkOpen("/d", "b"));
        all.Add(await c.Unlink("/d", "c"));
        all.Add(await c.Write("/new", 0, 1) is "ENOENT" ? "None" : "there is a file that should not be");
        all.Add(await c.Make("/", "new"));
        all.Add(await c.Write("/new", 0, 40_000));
        // The process dies between the steps of a truncation.
        c.Truncate("/aged", 1).Detach();
        await IoReactor.Current.DelayAsync(1);
        return all.Result;
    }

    /// <summary>Keeps the first answer that is no success.</summary>
    private sealed class Sequence
    {
        public string Result { get; private set; } = "None";

        public void Add(string answer)
        {
            if (Result == "None" && answer is ['E', >= 'A' and <= 'Z', ..]) { Result = answer; }
        }
    }
}
