using System.Text;
using VhostFs.Linux;
using VhostFs.Reactor;

namespace VhostFs.Fuse.Tests;

/// <summary>Writes down every call with its arguments and answers from fixed values. Completes synchronously unless told to hold.</summary>
internal sealed class FakeFileSystem : IFileSystem, IFileLocks
{
    public static readonly InodeAttributes Attributes = new(77, 5, 0x81A4, 3, 11, 12, 0x00512345, 1234567, 99,
        new FsTime(-100, 101), new FsTime(200, 201), new FsTime(300, 301), new FsTime(400, 401), FsFlags.IMMUTABLE | FsFlags.SYNC | FsFlags.DIRSYNC);

    public List<string> Calls { get; } = [];

    /// <summary>Off for allocation tests.</summary>
    public bool Records { get; set; } = true;

    public uint Mode { get; set; } = Attributes.Mode;

    /// <summary>Answer of every operation when set.</summary>
    public Errno Error { get; set; }

    public IoCompletion<FsResult<InodeAttributes>>? HeldLookup { get; set; }

    public IoCompletion<FsResult<ulong>>? HeldOpen { get; set; }

    public IoCompletion<FsResult<CreatedFile>>? HeldCreate { get; set; }

    /// <summary>Locks that wait, by ticket, when <see cref="HoldsLocks"/>.</summary>
    public Dictionary<ulong, IoCompletion<Errno>> HeldLocks { get; } = [];

    public bool HoldsLocks { get; set; }

    public IFileLocks? Locks { get; set; }

    public Action? DuringReadDirectory { get; set; }

    public Exception? Bug { get; set; }

    public byte[] Xattr { get; set; } = "value"u8.ToArray();

    public byte[] Link { get; set; } = "to/there"u8.ToArray();

    public (string Name, ulong Inode)[] Entries { get; set; } = [(".", 1), ("..", 1), ("first", 10), ("second-name", 11)];

    public int EndedSessions { get; private set; }

    public int TakenBackEntries { get; private set; }

    public byte[] Written { get; private set; } = [];

    private void Note(string call)
    {
        if (Bug is not null) { throw Bug; }
        Calls.Add(call);
    }

    private static string Text(IoVec bytes) => Encoding.UTF8.GetString(bytes.Span);

    private static string Text(CreateContext c) =>
        $"{c.Caller.Uid}:{c.Caller.Gid}:{c.Caller.Pid}:{c.Caller.SupplementaryGroup} umask={c.Umask} ctx={Text(c.SecurityName)}={Text(c.SecurityValue)}";

    private static string Text(FuseCaller c) => $"{c.Uid}:{c.Gid}:{c.Pid}";

    private FsResult<InodeAttributes> Entry => Error != Errno.None ? Error : Attributes with { Mode = Mode };

    private FsResult<CreatedFile> Created => Error != Errno.None ? Error : new CreatedFile(Attributes, 0xFEED);

    private IoTask<FsResult<InodeAttributes>> EntryTask => new(Entry);

    private IoTask<Errno> Done => new(Error);

    private IoTask<IoResult> Bytes(int count) => new(Error != Errno.None ? Error : new IoResult(count));

    public IoTask<FsResult<InodeAttributes>> LookupAsync(ulong parent, IoVec name)
    {
        if (Records) { Note($"Lookup {parent} {Text(name)}"); }
        return HeldLookup?.Task ?? EntryTask;
    }

    public void Forget(ulong node, ulong count)
    {
        if (Records) { Note($"Forget {node} {count}"); }
    }

    public IoTask<FsResult<InodeAttributes>> GetAttributesAsync(ulong node)
    {
        if (Records) { Note($"GetAttributes {node}"); }
        return EntryTask;
    }

    public IoTask<FsResult<InodeAttributes>> SetAttributesAsync(FuseCaller caller, ulong node, SetAttributes changes)
    {
        if (Records) { Note($"SetAttributes {Text(caller)} {node} {changes}"); }
        return EntryTask;
    }

    public IoTask<Errno> SetFlagsAsync(FuseCaller caller, ulong node, FsFlags flags, FsFlags changeable)
    {
        if (Records) { Note($"SetFlags {Text(caller)} {node} {(uint)flags:x} of {(uint)changeable:x}"); }
        return Done;
    }

    public IoTask<IoResult> ReadLinkAsync(ulong node, IoVec target)
    {
        if (Records) { Note($"ReadLink {node} {target.Length}"); }
        Link.CopyTo(target.Span);
        return Bytes(Link.Length);
    }

    public IoTask<FsResult<InodeAttributes>> SymlinkAsync(CreateContext context, ulong parent, IoVec name, IoVec linkTarget)
    {
        if (Records) { Note($"Symlink {Text(context)} {parent} {Text(name)} -> {Text(linkTarget)}"); }
        return EntryTask;
    }

    public IoTask<FsResult<InodeAttributes>> MakeNodeAsync(CreateContext context, ulong parent, IoVec name, uint mode, uint deviceNumber)
    {
        if (Records) { Note($"MakeNode {Text(context)} {parent} {Text(name)} {mode:x} {deviceNumber:x}"); }
        return EntryTask;
    }

    public IoTask<FsResult<InodeAttributes>> MakeDirectoryAsync(CreateContext context, ulong parent, IoVec name, uint mode)
    {
        if (Records) { Note($"MakeDirectory {Text(context)} {parent} {Text(name)} {mode:x}"); }
        return EntryTask;
    }

    public IoTask<Errno> UnlinkAsync(ulong parent, IoVec name)
    {
        if (Records) { Note($"Unlink {parent} {Text(name)}"); }
        return Done;
    }

    public IoTask<Errno> RemoveDirectoryAsync(ulong parent, IoVec name)
    {
        if (Records) { Note($"RemoveDirectory {parent} {Text(name)}"); }
        return Done;
    }

    public IoTask<Errno> RenameAsync(FuseCaller caller, ulong parent, IoVec name, ulong newParent, IoVec newName, uint flags)
    {
        if (Records) { Note($"Rename {Text(caller)} {parent} {Text(name)} {newParent} {Text(newName)} {flags}"); }
        return Done;
    }

    public IoTask<FsResult<InodeAttributes>> LinkAsync(ulong node, ulong newParent, IoVec newName)
    {
        if (Records) { Note($"Link {node} {newParent} {Text(newName)}"); }
        return EntryTask;
    }

    public IoTask<FsResult<ulong>> OpenAsync(ulong node, uint openFlags, bool killPrivileges)
    {
        if (Records) { Note($"Open {node} {openFlags:x} {killPrivileges}"); }
        return HeldOpen?.Task ?? new(Error != Errno.None ? Error : 0xBEEFul);
    }

    public IoTask<FsResult<CreatedFile>> CreateAsync(CreateContext context, ulong parent, IoVec name, uint mode, uint openFlags, bool killPrivileges)
    {
        if (Records) { Note($"Create {Text(context)} {parent} {Text(name)} {mode:x} {openFlags:x} {killPrivileges}"); }
        return HeldCreate?.Task ?? new(Created);
    }

    public IoTask<FsResult<CreatedFile>> TemporaryFileAsync(CreateContext context, ulong parent, uint mode, uint openFlags)
    {
        if (Records) { Note($"TemporaryFile {Text(context)} {parent} {mode:x} {openFlags:x}"); }
        return new(Created);
    }

    public IoTask<IoResult> ReadAsync(ulong node, ulong handle, long offsetBytes, IoVecs target)
    {
        if (Records) { Note($"Read {node} {handle:x} {offsetBytes} {target.LengthBytes}"); }
        int done = 0;
        foreach (IoVec segment in target.AsSpan())
        {
            Span<byte> bytes = segment.Span;
            for (int i = 0; i < bytes.Length; i++) { bytes[i] = (byte)(offsetBytes + done++); }
        }
        return Bytes(done);
    }

    public IoTask<IoResult> WriteAsync(ulong node, ulong handle, long offsetBytes, IoVecs source, uint openFlags, bool fromCache, bool killPrivileges)
    {
        int length = (int)source.LengthBytes;
        if (Records)
        {
            Note($"Write {node} {handle:x} {offsetBytes} {length} {openFlags:x} {fromCache} {killPrivileges}");
            Written = new byte[length];
            source.CopyTo(0, Written);
        }
        return Bytes(length);
    }

    public IoTask<Errno> FlushAsync(ulong node, ulong handle, ulong lockOwner)
    {
        if (Records) { Note($"Flush {node} {handle:x} {lockOwner}"); }
        return Done;
    }

    public IoTask<Errno> ReleaseAsync(ulong node, ulong handle)
    {
        if (Records) { Note($"Release {node} {handle:x}"); }
        return Done;
    }

    public IoTask<Errno> FsyncAsync(ulong node, ulong handle, bool dataOnly)
    {
        if (Records) { Note($"Fsync {node} {handle:x} {dataOnly}"); }
        return Done;
    }

    public IoTask<FsResult<ulong>> OpenDirectoryAsync(ulong node, uint openFlags)
    {
        if (Records) { Note($"OpenDirectory {node} {openFlags:x}"); }
        return new(Error != Errno.None ? Error : 0xD1Dul);
    }

    public IoTask<Errno> ReadDirectoryAsync(ulong node, ulong handle, ulong cookie, DirectoryWriter writer)
    {
        if (Records) { Note($"ReadDirectory {node} {handle:x} {cookie} {writer.WantsAttributes}"); }
        DuringReadDirectory?.Invoke();
        for (int i = (int)Math.Min(cookie, 1000); i < Entries.Length; i++)
        {
            byte[] name = Encoding.UTF8.GetBytes(Entries[i].Name);
            bool added = writer.WantsAttributes
                ? writer.TryAdd(name, Attributes with { Inode = Entries[i].Inode }, (ulong)i + 1)
                : writer.TryAdd(name, Entries[i].Inode, (ulong)i + 1, 8);
            if (!added)
            {
                TakenBackEntries++;
                break;
            }
        }
        return Done;
    }

    public IoTask<Errno> ReleaseDirectoryAsync(ulong node, ulong handle)
    {
        if (Records) { Note($"ReleaseDirectory {node} {handle:x}"); }
        return Done;
    }

    public IoTask<Errno> FsyncDirectoryAsync(ulong node, ulong handle, bool dataOnly)
    {
        if (Records) { Note($"FsyncDirectory {node} {handle:x} {dataOnly}"); }
        return Done;
    }

    public IoTask<IoResult> GetXattrAsync(ulong node, IoVec name, IoVec target)
    {
        if (Records) { Note($"GetXattr {node} {Text(name)} {target.Length}"); }
        return Value(target);
    }

    public IoTask<IoResult> ListXattrAsync(FuseCaller caller, ulong node, IoVec target)
    {
        if (Records) { Note($"ListXattr {node} {target.Length}"); }
        return Value(target);
    }

    public IoTask<Errno> SetXattrAsync(ulong node, IoVec name, IoVec value, uint flags, bool killSgid)
    {
        if (Records) { Note($"SetXattr {node} {Text(name)} {(value.Length > 100 ? value.Length.ToString() : Text(value))} {flags} {killSgid}"); }
        return Done;
    }

    public IoTask<Errno> RemoveXattrAsync(ulong node, IoVec name)
    {
        if (Records) { Note($"RemoveXattr {node} {Text(name)}"); }
        return Done;
    }

    public IoTask<FsResult<FsStatistics>> StatFsAsync()
    {
        if (Records) { Note("StatFs"); }
        return new(Error != Errno.None ? Error : new FsStatistics(1, 2, 3, 4, 5, 4096, 255));
    }

    public IoTask<Errno> FallocateAsync(FuseCaller caller, ulong node, ulong handle, uint mode, long offsetBytes, long lengthBytes)
    {
        if (Records) { Note($"Fallocate {node} {handle:x} {mode} {offsetBytes} {lengthBytes}"); }
        return Done;
    }

    public IoTask<FsResult<long>> SeekAsync(ulong node, ulong handle, long offsetBytes, uint whence)
    {
        if (Records) { Note($"Seek {node} {handle:x} {offsetBytes} {whence}"); }
        return new(Error != Errno.None ? Error : offsetBytes + 1);
    }

    public IoTask<IoResult> CopyFileRangeAsync(ulong sourceNode, ulong sourceHandle, long sourceOffset, ulong targetNode, ulong targetHandle, long targetOffset, long lengthBytes)
    {
        if (Records) { Note($"Copy {sourceNode} {sourceHandle:x} {sourceOffset} {targetNode} {targetHandle:x} {targetOffset} {lengthBytes}"); }
        return Bytes((int)lengthBytes);
    }

    public IoTask<Errno> SyncFsAsync()
    {
        if (Records) { Note("SyncFs"); }
        return Done;
    }

    public IoTask<Errno> SetLockAsync(ulong node, ulong handle, LockRequest request, ulong ticket)
    {
        if (Records) { Note($"SetLock {node} {handle:x} {request.Owner} {(request.IsFlock ? "flock" : "range")} {request.Kind} {request.FirstByte}-{request.LastByte} {request.Pid}{(ticket != 0 ? " waits" : "")}"); }
        if (!HoldsLocks || request.Kind == LockKind.Unlock) { return Done; }
        if (ticket == 0) { return new IoTask<Errno>(Errno.EAGAIN); }
        return (HeldLocks[ticket] = new IoCompletion<Errno>()).Task;
    }

    public HeldLock FindConflict(ulong node, LockRequest request)
    {
        if (Records) { Note($"FindConflict {node} {request.Owner} {request.Kind} {request.FirstByte}-{request.LastByte}"); }
        return new HeldLock(LockKind.Write, 5, long.MaxValue, 1234);
    }

    public void CancelWait(ulong ticket)
    {
        if (HeldLocks.Remove(ticket, out IoCompletion<Errno>? held)) { held.Complete(Errno.EINTR); }
    }

    public void EndSession()
    {
        foreach (ulong ticket in (ulong[])[.. HeldLocks.Keys]) { CancelWait(ticket); }
        EndedSessions++;
        if (Records) { Note("EndSession"); }
    }

    private IoTask<IoResult> Value(IoVec target)
    {
        if (target.IsEmpty) { return Bytes(Xattr.Length); }
        if (target.Length < Xattr.Length) { return new(IoResult.FromErrno(Errno.ERANGE)); }
        Xattr.CopyTo(target.Span);
        return Bytes(Xattr.Length);
    }
}
