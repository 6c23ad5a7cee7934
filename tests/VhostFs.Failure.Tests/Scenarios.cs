using VhostFs.Blobstore;
using VhostFs.Fuse;
using VhostFs.Linux;
using VhostFs.Reactor;

namespace VhostFs.Failure.Tests;

/// <summary>All scenarios: every file operation in its interesting states, and what the engine does by itself.</summary>
public static class Scenarios
{
    private const int NoReplace = 1, Exchange = 2, Whiteout = 4;
    private const uint KeepSize = 1, Punch = 3, Zero = 0x10;
    private const ushort UserObj = 1, User = 2, GroupObj = 4, Mask = 16, Other = 32;

    /// <summary>Does the volume go on?</summary>
    public static Step Probe { get; } = new("probe", async w =>
    {
        string made = await w.Client.MakeDirectory("/", "zz");
        if (!made.StartsWith("mode", StringComparison.Ordinal)) { return made; }
        string synced = await w.Client.Sync();
        return synced == "None" ? "done" : synced;
    });

    private static readonly Step[] s_operations =
    [
        new("lookup", w => w.Client.Look("/d/a")),
        new("lookup of no name", w => w.Client.LookNowhere("/d", "nobody")),
        new("lookup in a large directory", w => w.Client.LookNowhere("/many", "entry 77 with a name that takes some room")),
        new("lookup below a file", w => w.Client.LookNowhere("/inline", "x")),
        new("getattr of the root", w => w.Client.Look("/")),
        new("mknod", w => w.Client.Make("/d", "new")),
        new("mknod of a device", w => w.Client.Make("/", "device", 0x2180, 0x501)),
        new("mknod of a name that is there", w => w.Client.Make("/d", "a")),
        new("mknod in a large directory", w => w.Client.Make("/many", "new")),
        new("mknod below a default ACL", w => w.Client.Make("/acl", "new")),
        new("mknod with a security label", w => w.Client.MakeLabelled("/d", "new")),
        new("mkdir", w => w.Client.MakeDirectory("/d", "new")),
        new("mkdir below a default ACL", w => w.Client.MakeDirectory("/acl", "new")),
        new("symlink", w => w.Client.Symlink("/d", "new", 30)),
        new("symlink with a long target", w => w.Client.Symlink("/d", "new", 4095)),
        new("create", w => w.Client.Create("/d", "new", 0xC2)),
        new("create, exclusively, of a name that is there", w => w.Client.Create("/d", "b", 0xC2)),
        new("create of a name that is there: it is opened and emptied", w => w.Client.Create("/d", "b", 0x242)),
        new("O_TMPFILE", w => w.Client.Temporary("/d", null, 0)),
        new("O_TMPFILE, written to", w => w.Client.Temporary("/d", null, 9000)),
        new("link", w => w.Client.Link("/blocks", "/d", "new")),
        new("link of a linked file", w => w.Client.Link("/linked", "/e", "new")),
        new("link to a name that is there", w => w.Client.Link("/blocks", "/d", "a")),
        new("unlink of an inline file", w => w.Client.Unlink("/d", "a")),
        new("unlink of a file in blocks", w => w.Client.Unlink("/d", "b")),
        new("unlink of a larger file", w => w.Client.Unlink("/", "big")),
        new("unlink of one of two names", w => w.Client.Unlink("/d", "linked")),
        new("unlink of an open file", w => w.Client.UnlinkOpen("/", "big")),
        new("unlink of a file with many xattrs", w => w.Client.Unlink("/", "x")),
        new("unlink of a symlink", w => w.Client.Unlink("/", "long")),
        new("unlink in a large directory", w => w.Client.Unlink("/many", "entry 3 with a name that takes some room")),
        new("unlink of no name", w => w.Client.Unlink("/d", "nobody")),
        new("unlink of a directory", w => w.Client.Unlink("/", "d")),
        new("rmdir", w => w.Client.RemoveDirectory("/", "e")),
        new("rmdir of a full directory", w => w.Client.RemoveDirectory("/", "d")),
        new("rename", w => w.Client.Rename("/d", "a", "/d", "new")),
        new("rename into another directory", w => w.Client.Rename("/d", "b", "/e", "new")),
        new("rename over a file", w => w.Client.Rename("/d", "b", "/d", "c")),
        new("rename over the last name of a large file", w => w.Client.Rename("/d", "a", "/", "big")),
        new("rename over another name of itself", w => w.Client.Rename("/", "linked", "/d", "linked")),
        new("rename of a directory", w => w.Client.Rename("/", "d", "/e", "d")),
        new("rename of a directory over an empty one", w => w.Client.Rename("/", "d", "/", "e")),
        new("rename of a directory over a full one", w => w.Client.Rename("/", "e", "/", "d")),
        new("rename of a directory below itself", w => w.Client.Rename("/", "d", "/d", "d")),
        new("rename, no replace", w => w.Client.Rename("/d", "a", "/d", "b", NoReplace)),
        new("rename, exchange", w => w.Client.Rename("/d", "a", "/", "big", Exchange)),
        new("rename, exchange of file and directory", w => w.Client.Rename("/d", "a", "/", "e", Exchange)),
        new("rename, whiteout", w => w.Client.Rename("/d", "a", "/e", "a", Whiteout)),
        new("rename, whiteout, over a file", w => w.Client.Rename("/d", "a", "/d", "b", Whiteout)),
        new("write to an empty file", w => w.Client.Write("/empty", 0, 500)),
        new("write to an inline file", w => w.Client.Write("/inline", 700, 900)),
        new("write to no file at all", w => w.Client.Write("/d", 0, 10)),
        new("append that stays inline", w => w.Client.Write("/inline", 0, 100, 0x402)),
        new("write of blocks to an empty file", w => w.Client.Write("/empty", 0, 50_000)),
        new("write far behind the end of an empty file", w => w.Client.Write("/empty", 1_000_001, 1000)),
        new("overwrite of one block", w => w.Client.Write("/blocks", 4096, 4096)),
        new("overwrite across blocks", w => w.Client.Write("/blocks", 3000, 6000)),
        new("overwrite of many blocks", w => w.Client.Write("/big", 8192, 131_072)),
        new("overwrite of many blocks, unaligned", w => w.Client.Write("/big", 5000, 100_001)),
        new("append", w => w.Client.Write("/blocks", 0, 10_000, 0x402)),
        new("write into a hole", w => w.Client.Write("/holes", 50_000, 9000)),
        new("write across hole and data", w => w.Client.Write("/holes", 2000, 110_000)),
        new("write to reserved blocks", w => w.Client.Write("/reserved", 8192, 8192)),
        new("write across written and reserved blocks", w => w.Client.Write("/reserved", 6000, 9000)),
        new("write of 1 MiB", w => w.Client.Write("/empty", 0, 1 << 20)),
        new("write that drops privileges", w => w.Client.Write("/suid", 0, 10)),
        new("read of an inline file", w => w.Client.Read("/inline", 100, 5000)),
        new("read of blocks", w => w.Client.Read("/blocks", 1, 20_000)),
        new("read of many blocks", w => w.Client.Read("/big", 0, 300_000)),
        new("read across holes", w => w.Client.Read("/holes", 0, 200_000)),
        new("read of reserved blocks", w => w.Client.Read("/reserved", 0, 65_536)),
        new("readlink", w => w.Client.ReadLink("/short")),
        new("readlink of a long target", w => w.Client.ReadLink("/long")),
        new("truncation in a block", w => w.Client.Truncate("/big", 10_001)),
        new("truncation to nothing", w => w.Client.Truncate("/big", 0)),
        new("truncation of an inline file", w => w.Client.Truncate("/inline", 10)),
        new("truncation that drops privileges", w => w.Client.Truncate("/suid", 4096)),
        new("growth by truncation", w => w.Client.Truncate("/blocks", 1_000_000)),
        new("open that truncates", w => w.Client.OpenTruncating("/d/b")),
        new("fallocate", w => w.Client.Fallocate("/empty", 0, 0, 100_000)),
        new("fallocate behind the end, keeping the size", w => w.Client.Fallocate("/blocks", KeepSize, 100_000, 100_000)),
        new("punch of whole blocks", w => w.Client.Fallocate("/big", Punch, 8192, 81_920)),
        new("punch of parts of blocks", w => w.Client.Fallocate("/blocks", Punch, 1000, 10_000)),
        new("punch in an inline file", w => w.Client.Fallocate("/inline", Punch, 100, 1000)),
        new("seek to data", w => w.Client.Seek("/holes", 5000, 3)),
        new("seek to a hole", w => w.Client.Seek("/holes", 0, 4)),
        new("copy of an inline file", w => w.Client.Copy("/inline", 0, "/empty", 0, 1500)),
        new("copy that shares blocks", w => w.Client.Copy("/big", 4096, "/blocks", 0, 98_304)),
        new("overwrite of a shared block", w => w.Client.Write("/clone", 5000, 100)),
        new("overwrite of many shared blocks", w => w.Client.Write("/big", 5000, 100_001)),
        new("truncation in a shared block", w => w.Client.Truncate("/clone", 10_001)),
        new("truncation of shared blocks to nothing", w => w.Client.Truncate("/big", 0)),
        new("unlink of shared blocks", w => w.Client.Unlink("/", "clone")),
        new("punch of parts of shared blocks", w => w.Client.Fallocate("/clone", Punch, 1000, 10_000)),
        new("copy in one file", w => w.Client.Copy("/big", 0, "/big", 200_000, 100_000)),
        new("chmod", w => w.Client.Set("/d/a", new SetAttributes(Mode: 0x1C0))),
        new("chown", w => w.Client.Set("/suid", new SetAttributes(Uid: 100, Gid: 100))),
        new("utimes", w => w.Client.Set("/d/a", new SetAttributes(AccessTime: new FsTime(5, 6), ModifyTime: new FsTime(7, 8)))),
        new("chmod with an ACL", w => w.Client.Set("/acl/file", new SetAttributes(Mode: 0x1A0))),
        new("getxattr", w => w.Client.GetXattr("/x", "user.small")),
        new("getxattr of a large value", w => w.Client.GetXattr("/x", "user.large")),
        new("getxattr of no name", w => w.Client.GetXattr("/x", "user.nobody")),
        new("listxattr", w => w.Client.ListXattr("/x")),
        new("setxattr", w => w.Client.SetXattr("/d/a", "user.new", 100)),
        new("setxattr of a large value", w => w.Client.SetXattr("/d/a", "user.new", 65_536)),
        new("setxattr that replaces", w => w.Client.SetXattr("/x", "user.middle", 100, 2)),
        new("setxattr that replaces a large value", w => w.Client.SetXattr("/x", "user.large", 50_000, 2)),
        new("setxattr of a name that is there, exclusively", w => w.Client.SetXattr("/x", "user.small", 1, 1)),
        new("removexattr", w => w.Client.RemoveXattr("/x", "user.small")),
        new("removexattr of a large value", w => w.Client.RemoveXattr("/x", "user.large")),
        new("setting an ACL", w => w.Client.SetAcl("/blocks", "system.posix_acl_access", new(UserObj, 6), new(User, 4, 1000), new(GroupObj, 4), new(Mask, 4), new(Other, 0))),
        new("removing a default ACL", w => w.Client.RemoveXattr("/acl", "system.posix_acl_default")),
        new("readdir", w => w.Client.List("/d", plus: false)),
        new("readdir of a large directory", w => w.Client.List("/many", plus: false)),
        new("readdirplus of a large directory", w => w.Client.List("/many", plus: true)),
        new("statfs", w => w.Client.StatFs()),
        new("fsync", w => w.Client.Fsync("/big")),
        new("checkpoint", async w => (await w.VolumeAt(0).Checkpointer.RunAsync(VolumeFlags.None)).ToString()),
    ];

    private static readonly (Step Step, Disk Disk, string Partial)[] s_partial =
    [
        (new Step("O_TMPFILE, written to and named", w => w.Client.Temporary("/d", "new", 9000)), Disks.Files, "/d/"),
        (new Step("zeroing", w => w.Client.Fallocate("/big", Zero, 5000, 50_000)), Disks.Files, "/big"),
        (new Step("zeroing, keeping the size", w => w.Client.Fallocate("/inline", Zero | KeepSize, 100, 50_000)), Disks.Files, "/inline"),
        (new Step("fallocate of an inline file", w => w.Client.Fallocate("/inline", 0, 0, 1_000_000)), Disks.Files, "/inline"),
        (new Step("write that moves an inline file to blocks", w => w.Client.Write("/inline", 1000, 9000)), Disks.Files, "/inline"),
        (new Step("write far behind the end of an inline file", w => w.Client.Write("/inline", 3_000_001, 1000)), Disks.Files, "/inline"),
        (new Step("growth of an inline file by truncation", w => w.Client.Truncate("/inline", 5000)), Disks.Files, "/inline"),
        (new Step("copy to an inline file", w => w.Client.Copy("/big", 0, "/inline", 0, 300_000)), Disks.Files, "/inline"),
        (new Step("copy that shares blocks between ragged ends", w => w.Client.Copy("/big", 5000, "/blocks", 904, 100_000)), Disks.Files, "/blocks"),
        (new Step("copy of much", w => w.Client.Copy("/grown", 0, "/aged", 4096, 1_000_000)), Disks.Aged, "/aged"),
        (new Step("truncation of a scattered file", w => w.Client.Truncate("/aged", 100)), Disks.Aged, "/aged"),
        (new Step("open that truncates a scattered file", w => w.Client.OpenTruncating("/aged")), Disks.Aged, "/aged"),
        (new Step("punch of a scattered file", w => w.Client.Fallocate("/aged", Punch, 5000, 100_000_000)), Disks.Aged, "/aged"),
        (new Step("unlink of a scattered file", w => w.Client.Unlink("/", "aged")), Disks.Aged, "/aged"),
        (new Step("truncation of a scattered file, and growth", async w =>
        {
            string cut = await w.Client.Truncate("/aged", 100);
            string grown = await w.Client.Truncate("/aged", 150_000_000);
            return cut.StartsWith("mode", StringComparison.Ordinal) ? grown : cut;
        }), Disks.Aged, "/aged"),
    ];

    private static readonly (string Name, Step[] Steps)[] s_concurrent =
    [
        ("writes to different files", [new("one", w => w.Client.Write("/big", 0, 60_000)), new("two", w => w.Client.Write("/holes", 30_000, 5000)), new("three", w => w.Client.Write("/d/a", 0, 200))]),
        ("creations in different directories", [new("one", w => w.Client.Make("/d", "one")), new("two", w => w.Client.MakeDirectory("/e", "two")), new("three", w => w.Client.Symlink("/f", "three", 500))]),
        ("a removal, a truncation and a setxattr", [new("one", w => w.Client.Unlink("/", "big")), new("two", w => w.Client.Truncate("/blocks", 1)), new("three", w => w.Client.SetXattr("/d/a", "user.new", 50_000))]),
        ("reads beside a write", [new("one", w => w.Client.Read("/big", 0, 300_000)), new("two", w => w.Client.Write("/holes", 0, 60_000)), new("three", w => w.Client.List("/many", plus: true))]),
        ("a checkpoint beside writes", [new("one", async w => (await w.VolumeAt(0).Checkpointer.RunAsync(VolumeFlags.None)).ToString()), new("two", w => w.Client.Write("/big", 0, 20_000)), new("three", w => w.Client.Unlink("/d", "c"))]),
        ("syncs beside a write", [new("one", w => w.Client.Fsync("/big")), new("two", w => w.Client.Write("/big", 0, 60_000)), new("three", w => w.Client.Fsync("/d/a"))]),
    ];

    /// <summary>What the pool does: volumes come and go. The bdev may fail during any part of it; the other volume may be the one that goes.</summary>
    private static readonly Step[] s_pool =
    [
        new("creating a volume", async w => (await w.Pool.CreateVolumeAsync("new", new VolumeOptions())).IsError ? "EIO" : "made"),
        new("closing and deleting a volume", async w =>
        {
            if (await w.CloseOtherAsync() != Errno.None) { return "EIO"; }
            return await w.Pool.DeleteVolumeAsync(FailureWorld.Other) == Errno.None ? "deleted" : "EIO";
        }),
    ];

    public static IReadOnlyList<Scenario> All { get; } = [.. MakeAll()];

    /// <summary>For shortages of space and of a session's references: every operation on <see cref="Disks.Files"/>, and whether an error may leave a part of it done.</summary>
    public static IReadOnlyList<(Step Step, bool MayBePartial)> Shortages { get; } =
        [.. s_operations.Select(static step => (step, step.Name.StartsWith("copy", StringComparison.Ordinal))), .. s_partial.Where(static p => p.Disk == Disks.Files).Select(static p => (p.Step, true))];

    private static IEnumerable<Scenario> MakeAll()
    {
        // Right after the mount nothing is in memory: every operation reads nodes.
        foreach (Step step in s_operations) { yield return new Scenario(step.Name, Disks.Files, [step, Probe]); }
        // With images in the log, dirty nodes, and a checkpoint to come.
        foreach (Step step in s_operations)
        {
            yield return new Scenario($"{step.Name}, after unsynced changes", Disks.FilesWithoutChecksums, [step, Probe]) { Prelude = ChangeAsync, Forgets = true };
        }
        foreach ((Step step, Disk disk, string partial) in s_partial)
        {
            yield return new Scenario(step.Name, disk, [step, Probe]) { Partial = partial };
            yield return new Scenario($"{step.Name}, forgotten at once", disk, [step, Probe]) { Partial = partial, Forgets = true };
        }
        foreach ((string name, Step[] steps) in s_concurrent)
        {
            yield return new Scenario(name, Disks.Files, [.. steps, Probe]) { IsConcurrent = true };
        }
        var nothing = new Step("nothing", static _ => new IoTask<string>("nothing"));
        foreach (Step step in s_pool) { yield return new Scenario(step.Name, Disks.Files, [step, Probe]) { ChangesVolumes = true }; }
        yield return new Scenario("many records: the log wraps", Disks.Files,
        [
            new("records", async w =>
            {
                string answer = "None";
                for (int i = 0; i < 30 && answer == "None"; i++) { answer = await w.Client.SetXattr("/x", "user.large", 39_000 + i); }
                return answer;
            }),
            Probe,
        ]) { Partial = "/x " };
        yield return new Scenario("opening an empty pool", Disks.Empty, [Probe]) { FailsWhileOpening = true };
        yield return new Scenario("opening after a clean stop", Disks.Files, [nothing, Probe]) { FailsWhileOpening = true };
        yield return new Scenario("opening after a crash: recovery", Disks.Crashed, [nothing, Probe]) { FailsWhileOpening = true };
    }

    private static async IoTask<string> ChangeAsync(FailureWorld world)
    {
        FileClient c = world.Client;
        foreach (IoTask<string> task in new[] { c.Write("/blocks", 5000, 3000), c.Write("/reserved", 100, 4000), c.Make("/f", "before"), c.Unlink("/many", "entry 5 with a name that takes some room") })
        {
            string done = await task;
            if (done is ['E', >= 'A' and <= 'Z', ..]) { return done; }
        }
        return "None";
    }
}
