using VhostFs.GuestDriver;

namespace VhostFs.LoadBench.Load;

/// <summary>Files are made, looked at, listed, renamed and deleted, with the requests that a guest's kernel sends for it.</summary>
internal static class MetaJob
{
    /// <summary>Of one READDIRPLUS, as the kernel asks: a page.</summary>
    public const int ListingBytes = GuestRam.PageBytes;

    public static IEnumerable<Phase> Prepare(LoadOptions options, LoadDevice device)
    {
        var files = new MetaFiles(device.Client, options.Files);
        yield return new Phase("create", new MetaCreate(files), isTimed: false);
        yield return new Phase("stat", new MetaStat(files));
        var listing = new MetaList(files, device.Slots.Slots.Count, device.Client);
        yield return new Phase("readdirplus", listing);
        listing.Close();
        yield return new Phase("rename", new MetaRename(files), isTimed: false);
        yield return new Phase("unlink", new MetaUnlink(files), isTimed: false);
        files.Remove();
    }
}
