using System.Runtime.InteropServices;
using System.Text;
using VhostFs.Fuse;
using VhostFs.Linux;

namespace VhostFs.GuestDriver;

/// <summary>A guest's FUSE client on one queue of a front-end, one request at a time; memory of a request is used again for the next.</summary>
internal sealed class FuseClient(FrontEnd frontEnd, DriverQueue queue)
{
    public const ulong Root = 1;
    private const int DirectoryBytes = 32 << 10;

    /// <summary>Tenths of a second.</summary>
    private const int MaxWaits = 600;

    private readonly byte[] _arguments = new byte[(128 << 10) + 512];

    /// <summary>Requests sent so far.</summary>
    public long Requests { get; private set; }

    public Errno Lookup(ulong parent, string name, out FuseEntryOut entry)
    {
        entry = default;
        Errno errno = Call(FuseOpcode.LOOKUP, parent, Name(0, name), Marshal.SizeOf<FuseEntryOut>(), out ReadOnlySpan<byte> reply);
        if (errno == Errno.None) { entry = MemoryMarshal.Read<FuseEntryOut>(reply); }
        return errno;
    }

    public Errno Create(ulong parent, string name, uint flags, uint mode, out FuseCreateOut created)
    {
        created = default;
        int length = Name(Put(new FuseCreateIn(flags, mode, Umask: 0)), name);
        Errno errno = Call(FuseOpcode.CREATE, parent, length, Marshal.SizeOf<FuseCreateOut>(), out ReadOnlySpan<byte> reply);
        if (errno == Errno.None) { created = MemoryMarshal.Read<FuseCreateOut>(reply); }
        return errno;
    }

    public Errno Open(ulong node, uint flags, out ulong handle)
    {
        Errno errno = Call(FuseOpcode.OPEN, node, Put(new FuseOpenIn(flags)), Marshal.SizeOf<FuseOpenOut>(), out ReadOnlySpan<byte> reply);
        handle = errno == Errno.None ? MemoryMarshal.Read<FuseOpenOut>(reply).Handle : 0;
        return errno;
    }

    public Errno Write(ulong node, ulong handle, ulong offset, ReadOnlySpan<byte> data, out int written)
    {
        int length = Put(new FuseWriteIn(handle, offset, (uint)data.Length));
        data.CopyTo(_arguments.AsSpan(length));
        Errno errno = Call(FuseOpcode.WRITE, node, length + data.Length, Marshal.SizeOf<FuseWriteOut>(), out ReadOnlySpan<byte> reply);
        written = errno == Errno.None ? (int)MemoryMarshal.Read<FuseWriteOut>(reply).SizeBytes : 0;
        return errno;
    }

    /// <summary>What is read is there until the next call.</summary>
    public Errno Read(ulong node, ulong handle, ulong offset, int sizeBytes, out ReadOnlySpan<byte> data) =>
        Call(FuseOpcode.READ, node, Put(new FuseReadIn(handle, offset, (uint)sizeBytes)), sizeBytes, out data);

    public Errno Fsync(ulong node, ulong handle) => Call(FuseOpcode.FSYNC, node, Put(new FuseFsyncIn(handle, Flags: 0)));

    public Errno Release(ulong node, ulong handle) => Call(FuseOpcode.RELEASE, node, Put(new FuseReleaseIn(handle, 0, 0, 0)));

    public Errno Unlink(ulong parent, string name) => Call(FuseOpcode.UNLINK, parent, Name(0, name));

    public Errno Rename(ulong parent, string name, ulong newParent, string newName) =>
        Call(FuseOpcode.RENAME, parent, Name(Name(Put(new FuseRenameIn(newParent)), name), newName));

    public Errno GetAttributes(ulong node, out FuseAttr attributes)
    {
        Errno errno = Call(FuseOpcode.GETATTR, node, Put(new FuseGetattrIn(0, 0, 0)), Marshal.SizeOf<FuseAttrOut>(), out ReadOnlySpan<byte> reply);
        attributes = errno == Errno.None ? MemoryMarshal.Read<FuseAttrOut>(reply).Attributes : default;
        return errno;
    }

    public Errno SyncFileSystem() => Call(FuseOpcode.SYNCFS, Root, Put(new FuseSyncfsIn(0)));

    public Errno MakeDirectory(ulong parent, string name, uint mode, out FuseEntryOut entry)
    {
        Errno errno = Call(FuseOpcode.MKDIR, parent, Name(Put(new FuseMkdirIn(mode, Umask: 0)), name), Marshal.SizeOf<FuseEntryOut>(), out ReadOnlySpan<byte> reply);
        entry = errno == Errno.None ? MemoryMarshal.Read<FuseEntryOut>(reply) : default;
        return errno;
    }

    public Errno RemoveDirectory(ulong parent, string name) => Call(FuseOpcode.RMDIR, parent, Name(0, name));

    public Errno OpenDirectory(ulong directory, out ulong handle)
    {
        Errno errno = Call(FuseOpcode.OPENDIR, directory, Put(new FuseOpenIn(0)), Marshal.SizeOf<FuseOpenOut>(), out ReadOnlySpan<byte> reply);
        handle = errno == Errno.None ? MemoryMarshal.Read<FuseOpenOut>(reply).Handle : 0;
        return errno;
    }

    public Errno ReleaseDirectory(ulong directory, ulong handle) => Call(FuseOpcode.RELEASEDIR, directory, Put(new FuseReleaseIn(handle, 0, 0, 0)));

    /// <summary>All names but . and .., with the inode numbers.</summary>
    public Errno List(ulong directory, Dictionary<string, ulong> names)
    {
        Errno errno = OpenDirectory(directory, out ulong handle);
        if (errno != Errno.None) { return errno; }
        for (ulong cookie = 0; ;)
        {
            errno = Call(FuseOpcode.READDIR, directory, Put(new FuseReadIn(handle, cookie, DirectoryBytes)), DirectoryBytes, out ReadOnlySpan<byte> reply);
            if (errno != Errno.None || reply.IsEmpty) { break; }
            while (!reply.IsEmpty)
            {
                FuseDirent entry = MemoryMarshal.Read<FuseDirent>(reply);
                string name = Encoding.UTF8.GetString(reply.Slice(FuseDirent.Size, (int)entry.NameLength));
                if (name is not ("." or "..")) { names.Add(name, entry.Inode); }
                cookie = entry.Cookie;
                reply = reply[((FuseDirent.Size + (int)entry.NameLength + 7) & ~7)..];
            }
        }
        Errno released = ReleaseDirectory(directory, handle);
        return errno != Errno.None ? errno : released;
    }

    /// <summary>No reply belongs to it; the chain comes back.</summary>
    public void Forget(ulong node, ulong lookups)
    {
        int mark = frontEnd.Ram.Mark;
        frontEnd.Start(queue, (uint)FuseOpcode.FORGET, node, _arguments.AsSpan(0, Put(new FuseForgetIn(lookups))), 0, out ushort head);
        Wait(head);
        frontEnd.Ram.Rewind(mark);
        Requests++;
    }

    private Errno Call(FuseOpcode opcode, ulong node, int argumentBytes) => Call(opcode, node, argumentBytes, 0, out _);

    private Errno Call(FuseOpcode opcode, ulong node, int argumentBytes, int replyBytes, out ReadOnlySpan<byte> reply)
    {
        int mark = frontEnd.Ram.Mark;
        // Room for the header at least: a reply without a body is one, too.
        int at = frontEnd.Start(queue, (uint)opcode, node, _arguments.AsSpan(0, argumentBytes), Math.Max(replyBytes, 8), out ushort head);
        uint length = Wait(head);
        Requests++;
        FuseOutHeader header = MemoryMarshal.Read<FuseOutHeader>(frontEnd.Ram.At(at, FuseOutHeader.Size));
        reply = frontEnd.Ram.At(at, (int)length)[FuseOutHeader.Size..];
        frontEnd.Ram.Rewind(mark);
        if (header.Length != length) { throw new InvalidDataException($"{opcode}: the used ring says {length} bytes, the header {header.Length}"); }
        return (Errno)(-header.Error);
    }

    private uint Wait(ushort head)
    {
        uint id, length;
        // A moment of looking first: the device may be polling, too.
        for (int looks = 0; !queue.TryTakeUsed(out id, out length); looks++)
        {
            if (looks < 50) { Thread.SpinWait(10); }
            else { queue.WaitForCall(); }
            if (looks > MaxWaits) { throw new TimeoutException("a request has not come back for a minute"); }
        }
        return id == head ? length : throw new InvalidDataException($"chain {id} came back, {head} was sent");
    }

    private int Put<T>(T arguments)
        where T : unmanaged
    {
        MemoryMarshal.Write(_arguments, arguments);
        return Marshal.SizeOf<T>();
    }

    private int Name(int at, string name)
    {
        int length = Encoding.UTF8.GetBytes(name, _arguments.AsSpan(at));
        _arguments[at + length] = 0;
        return at + length + 1;
    }
}
