using System.Runtime.InteropServices;
using VhostFs.Fuse;
using VhostFs.GuestDriver;
using VhostFs.Linux;

namespace VhostFs.LoadBench.Load;

/// <summary>Listing with attributes: one READDIRPLUS of a page. Each slot goes through the directories on its own, over and over.</summary>
internal sealed class MetaList : Workload
{
    private readonly MetaFiles _files;
    private readonly FuseClient _client;
    private readonly ulong[] _handles = new ulong[MetaFiles.Directories];
    private readonly ulong[] _cookies;

    public MetaList(MetaFiles files, int slots, FuseClient client)
    {
        _files = files;
        _client = client;
        _cookies = new ulong[slots];
        for (int i = 0; i < MetaFiles.Directories; i++) { client.Must(client.OpenDirectory(files.DirectoryNodes[i], out _handles[i]), "opendir"); }
    }

    public void Close()
    {
        for (int i = 0; i < MetaFiles.Directories; i++) { _client.Must(_client.ReleaseDirectory(_files.DirectoryNodes[i], _handles[i]), "closedir"); }
    }

    public override bool TryBegin(RequestSlot slot)
    {
        int directory = slot.Item % MetaFiles.Directories;
        slot.Fuse(FuseOpcode.READDIRPLUS, _files.DirectoryNodes[directory], new FuseReadIn(_handles[directory], _cookies[slot.Index], MetaJob.ListingBytes), dataInBytes: MetaJob.ListingBytes);
        return true;
    }

    public override bool TryGoOn(RequestSlot slot)
    {
        Expect.Equal(Errno.None, slot.FuseError());
        // A page is one segment.
        ReadOnlySpan<byte> entries = slot.Segment(0)[..((int)slot.UsedBytes - FuseOutHeader.Size)];
        if (entries.IsEmpty)
        {
            slot.Item++;
            _cookies[slot.Index] = 0;
            return false;
        }
        while (!entries.IsEmpty)
        {
            FuseDirentPlus entry = MemoryMarshal.Read<FuseDirentPlus>(entries);
            int file = MetaFiles.NumberOf(entries.Slice(FuseDirentPlus.Size, (int)entry.Dirent.NameLength));
            if (file >= 0 && entry.Entry.NodeId != 0) { _files.Lookups[file]++; }
            _cookies[slot.Index] = entry.Dirent.Cookie;
            entries = entries[((FuseDirentPlus.Size + (int)entry.Dirent.NameLength + 7) & ~7)..];
        }
        return false;
    }
}
