using VhostFs.Fuse;
using VhostFs.GuestDriver;
using VhostFs.Linux;

namespace VhostFs.LoadBench.Load;

/// <summary>What jobs do before and after they are measured, where any error ends the run.</summary>
internal static class FuseClientExtensions
{
    private const uint Mode = 0x1A4; // 0644

    public static void Must(this FuseClient client, Errno errno, string what)
    {
        if (errno != Errno.None) { throw new DriverException($"{what}: {errno}, after {client.Requests} requests"); }
    }

    public static ulong MustOpen(this FuseClient client, ulong node, int flags)
    {
        client.Must(client.Open(node, (uint)flags, out ulong handle), "open");
        return handle;
    }

    /// <summary>An open file that was not there before.</summary>
    public static (ulong Node, ulong Handle) MustCreate(this FuseClient client, ulong parent, string name)
    {
        client.Must(client.Create(parent, name, FileCalls.O_RDWR | FileCalls.O_CREAT | FileCalls.O_EXCL, Mode, out FuseCreateOut created), $"create {name}");
        return (created.Entry.NodeId, created.Open.Handle);
    }

    public static FuseEntryOut FindOrCreate(this FuseClient client, ulong parent, string name)
    {
        Errno found = client.Lookup(parent, name, out FuseEntryOut entry);
        if (found == Errno.None && entry.NodeId != 0) { return entry; }
        if (found is not (Errno.None or Errno.ENOENT)) { client.Must(found, $"lookup {name}"); }
        (ulong node, ulong handle) = client.MustCreate(parent, name);
        client.Must(client.Release(node, handle), $"close {name}");
        client.Must(client.Lookup(parent, name, out entry), $"lookup {name}");
        return entry;
    }
}
