using VhostFs.Blobstore;
using VhostFs.Blobstore.Check;
using VhostFs.Campaigns;
using VhostFs.Crash.Tests.Explorer;
using VhostFs.Fuse;
using VhostFs.Linux;
using VhostFs.Reactor;
using IoReactor = VhostFs.Reactor.Reactor;

namespace VhostFs.Failure.Tests;

/// <summary>Runs one operation on a volume that has room for 0, 1, 2, ... more of what is short, until it succeeds: each allocation of it fails once.</summary>
/// <remarks>What is refused has not happened, and works when there is room again; nothing is leaked.</remarks>
internal sealed class ShortageRun(Step step, bool ofReferences, bool mayBePartial)
{
    private const int MaxRoom = 400;

    /// <summary>Of each session, also of the one that only looks.</summary>
    private const int MaxInodes = 64;

    private readonly DiskImage _image = new(ofReferences ? Disks.Files.Bytes : Disks.Full.Bytes);

    public long RunAll()
    {
        for (int room = ofReferences ? 1 : 0; room <= MaxRoom; room++)
        {
            string? problem = Run(room, out bool refused);
            if (problem is not null) { throw new FindingException($"{step.Name}, with room for {room} {(ofReferences ? "inodes in the session" : "blocks on the volume")}: {problem}"); }
            if (!refused) { return room + 1; }
        }
        throw new FindingException($"{step.Name} is still refused with room for {MaxRoom}");
    }

    private string? Run(int room, out bool refused)
    {
        _image.Reset();
        using var bdev = new FaultBdev(new ImageBdev(_image));
        using var reactor = new IoReactor(new SimulatedDriver(), "shortage");
        using var world = new FailureWorld(bdev, [FailureWorld.Main]) { Client = { Forgets = true }, MaxInodes = ofReferences ? MaxInodes : int.MaxValue };
        bool wasRefused = false;
        string? problem;
        try { problem = reactor.RunUntilComplete(() => RunAsync(world, room, () => wasRefused = true)); }
#pragma warning disable CA1031 // an exception of the product's is what is looked for
        catch (Exception e) when (e is not OutOfMemoryException) { problem = e.ToString(); }
#pragma warning restore CA1031
        refused = wasRefused;
        return problem;
    }

    /// <summary>The session refers to so many inodes, and goes on doing so.</summary>
    private static async IoTask<string?> ReferAsync(FileClient client, int count)
    {
        FsResult<ulong> many = await client.FindAsync("/many");
        if (many.IsError) { return $"/many: {many.Errno}"; }
        for (int i = 0; i < count - 1; i++)
        {
            FsResult<InodeAttributes> found = await client.Session.LookupAsync(many.Value, client.Text($"entry {i} with a name that takes some room"));
            if (found.IsError) { return $"entry {i}: {found.Errno}"; }
        }
        return null;
    }

    private async IoTask<string?> RunAsync(FailureWorld world, int room, Action refused)
    {
        if (await world.OpenAsync() is { } unopened) { return $"opening: {unopened}"; }
        if (!ofReferences && room > 0)
        {
            string freed = await world.Client.Fallocate("/ballast", 3, 0, room * 4096L);
            if (freed == "None") { freed = await world.Client.Sync(); }
            if (freed != "None") { return $"making room: {freed}"; }
        }
        if (ofReferences && await ReferAsync(world.Client, Math.Max(MaxInodes - room, 0)) is { } unreferred) { return unreferred; }
        string before = await world.LookAsync(0);
        if (!before.StartsWith("/ mode", StringComparison.Ordinal)) { return before; }
        world.Clock++;
        string answer = await step.Run(world);
        string shortage = ofReferences ? nameof(Errno.ENFILE) : nameof(Errno.ENOSPC);
        bool isShort = answer == shortage || (mayBePartial && answer.EndsWith(" bytes", StringComparison.Ordinal) && room < MaxRoom && await world.LookAsync(0) == before);
        if (isShort)
        {
            refused();
            string after = await world.LookAsync(0);
            if (after != before && !mayBePartial) { return "what was refused has changed something"; }
            if (!ofReferences)
            {
                string freed = await world.Client.Truncate("/ballast", 0);
                if (freed == "None" || freed.StartsWith("mode", StringComparison.Ordinal)) { freed = await world.Client.Sync(); }
                if (freed != "None") { return $"a full volume cannot be emptied: {freed}"; }
                answer = await step.Run(world);
                if (answer == shortage) { return "it is refused although there is room again"; }
            }
        }
        if (answer == nameof(Errno.EIO)) { return "it answered EIO, although nothing failed"; }
        if (world.IsFailed) { return "the volume takes no more changes"; }
        string live = await world.LookAsync(0);
        world.EndSessions();
        await FailureWorld.SettleAsync();
        long free = world.VolumeAt(0).Space.FreeBlocks;
        Errno closed = await world.CloseAsync();
        if (closed != Errno.None) { return $"closing: {closed}"; }
        if (world.Nodes.UsedBytes != 0 || world.Pool.Pages.PagesInUse != 0 || world.Pool.DataPages.PagesInUse != 0) { return "memory is still held after closing"; }
        CheckReport report = await PoolChecker.CheckAsync(world.Bdev, CheckOptions.Default);
        if (!report.IsClean) { return $"the checker: {string.Join("; ", report.Findings.Take(3))}"; }
        using var again = new FailureWorld(world.Bdev, [FailureWorld.Main]);
        if (await again.OpenAsync() is { } unopenedAgain) { return $"it does not open any more: {unopenedAgain}"; }
        string content = await again.LookAsync(0);
        long freeAgain = again.VolumeAt(0).Space.FreeBlocks;
        closed = await again.CloseAsync();
        if (closed != Errno.None) { return $"closing what was opened again: {closed}"; }
        if (content != live) { return "opened again, it is not what it was"; }
        return freeAgain == free ? null : $"{freeAgain - free} free blocks came back when it was opened again: they had leaked";
    }
}
