using System.Text;
using VhostFs.Blobfs;
using VhostFs.Fuse;
using VhostFs.Linux;
using VhostFs.Reactor;

namespace VhostFs.Crash.Tests.Explorer;

/// <summary>A session's calls with strings and arrays instead of guest memory. One call at a time. Names are looked up without keeping a reference.</summary>
public sealed class FileSystemCalls(BlobfsSession session) : IDisposable
{
    private const int BufferBytes = 512 * 1024;
    private const int NameRoom = 4096;

    private readonly NativeBuffer _memory = new(BufferBytes + (2 * NameRoom));
    private readonly IoVecList _list = new(1);

    public BlobfsSession Session => session;

    private static CreateContext Context => new(new FuseCaller(0, 0, 1), 0);

    public async IoTask<FsResult<InodeAttributes>> LookupAsync(ulong parent, string name) => Forget(await session.LookupAsync(parent, Name(name)));

    public async IoTask<FsResult<InodeAttributes>> MakeFileAsync(ulong parent, string name, uint mode) => Forget(await session.MakeNodeAsync(Context, parent, Name(name), mode, 0));

    public async IoTask<FsResult<InodeAttributes>> MakeDirectoryAsync(ulong parent, string name, uint mode) => Forget(await session.MakeDirectoryAsync(Context, parent, Name(name), mode));

    public async IoTask<FsResult<InodeAttributes>> SymlinkAsync(ulong parent, string name, string target) => Forget(await session.SymlinkAsync(Context, parent, Name(name), Name(target, 1)));

    public async IoTask<FsResult<InodeAttributes>> LinkAsync(ulong node, ulong parent, string name) => Forget(await session.LinkAsync(node, parent, Name(name)));

    /// <summary>A file without a name; open until it is released.</summary>
    public async IoTask<FsResult<InodeAttributes>> TemporaryFileAsync(ulong parent, uint mode)
    {
        FsResult<CreatedFile> made = await session.TemporaryFileAsync(Context, parent, mode, 2);
        return made.IsError ? made.Errno : Forget(made.Value.Attributes);
    }

    public IoTask<Errno> UnlinkAsync(ulong parent, string name) => session.UnlinkAsync(parent, Name(name));

    public IoTask<Errno> RemoveDirectoryAsync(ulong parent, string name) => session.RemoveDirectoryAsync(parent, Name(name));

    public IoTask<Errno> RenameAsync(ulong parent, string name, ulong newParent, string newName, uint flags) => session.RenameAsync(Context.Caller, parent, Name(name), newParent, Name(newName, 1), flags);

    public IoTask<Errno> SetXattrAsync(ulong node, string name, byte[] value) => session.SetXattrAsync(node, Name(name), Bytes(value), 0, false);

    public IoTask<Errno> RemoveXattrAsync(ulong node, string name) => session.RemoveXattrAsync(node, Name(name));

    public async IoTask<Errno> SetSizeAsync(ulong node, long size) => (await session.SetAttributesAsync(Context.Caller, node, new SetAttributes(SizeBytes: size))).Errno;

    public async IoTask<Errno> SetModeAsync(ulong node, uint mode) => (await session.SetAttributesAsync(Context.Caller, node, new SetAttributes(Mode: mode))).Errno;

    public IoTask<Errno> FallocateAsync(ulong node, uint mode, long offset, long length) => session.FallocateAsync(Context.Caller, node, 0, mode, offset, length);

    public IoTask<IoResult> CopyAsync(ulong source, long sourceOffset, ulong target, long targetOffset, long length) => session.CopyFileRangeAsync(source, 0, sourceOffset, target, 0, targetOffset, length);

    public async IoTask<Errno> WriteAsync(ulong node, long offset, byte[] bytes)
    {
        _list.Clear();
        _list.Add(Bytes(bytes));
        return (await session.WriteAsync(node, 0, offset, _list.View(), 1, false, false)).Errno;
    }

    /// <summary>Null: it cannot be read as a whole.</summary>
    public async IoTask<byte[]?> ReadAsync(ulong node, long size)
    {
        byte[] content = new byte[size];
        for (int done = 0; done < content.Length;)
        {
            IoVec room = _memory.Slice(0, Math.Min(BufferBytes, content.Length - done));
            _list.Clear();
            _list.Add(room);
            IoResult read = await session.ReadAsync(node, 0, done, _list.View());
            if (read.IsError || read.Bytes != room.Length) { return null; }
            room.Span.CopyTo(content.AsSpan(done));
            done += room.Length;
        }
        return content;
    }

    public async IoTask<byte[]?> ReadLinkAsync(ulong node)
    {
        IoVec room = _memory.Slice(0, NameRoom);
        IoResult read = await session.ReadLinkAsync(node, room);
        return read.IsError ? null : room.Span[..read.Bytes].ToArray();
    }

    /// <summary>All names but "." and ".."; null when the directory cannot be read.</summary>
    public async IoTask<List<string>?> ListAsync(ulong node)
    {
        var lister = new Lister();
        for (int before = -1; before != lister.Taken;)
        {
            before = lister.Taken;
            if (await session.ReadDirectoryAsync(node, 0, lister.Cookie, lister) != Errno.None) { return null; }
        }
        return lister.Names;
    }

    public async IoTask<List<(string Name, byte[] Value)>?> XattrsAsync(ulong node)
    {
        IoVec room = _memory.Slice(0, BufferBytes);
        IoResult listed = await session.ListXattrAsync(Context.Caller, node, room);
        if (listed.IsError) { return null; }
        var xattrs = new List<(string, byte[])>();
        if (listed.Bytes == 0) { return xattrs; }
        string[] names = Encoding.UTF8.GetString(room.Span[..listed.Bytes]).Split('\0', StringSplitOptions.RemoveEmptyEntries);
        foreach (string name in names)
        {
            IoResult got = await session.GetXattrAsync(node, Name(name), room);
            if (got.IsError) { return null; }
            xattrs.Add((name, room.Span[..got.Bytes].ToArray()));
        }
        return xattrs;
    }

    public void Dispose()
    {
        _memory.Dispose();
        _list.Dispose();
    }

    private FsResult<InodeAttributes> Forget(FsResult<InodeAttributes> found)
    {
        if (!found.IsError) { session.Forget(found.Value.Inode, 1); }
        return found;
    }

    private IoVec Name(string name, int place = 0)
    {
        IoVec room = _memory.Slice(BufferBytes + (place * NameRoom), Encoding.UTF8.GetByteCount(name));
        Encoding.UTF8.GetBytes(name, room.Span);
        return room;
    }

    private IoVec Bytes(byte[] bytes)
    {
        IoVec room = _memory.Slice(0, bytes.Length);
        bytes.CopyTo(room.Span);
        return room;
    }

    private sealed class Lister : DirectoryWriter
    {
        public List<string> Names { get; } = [];

        public ulong Cookie { get; private set; }

        public int Taken { get; private set; }

        public override bool WantsAttributes => false;

        public override bool TryAdd(ReadOnlySpan<byte> name, ulong inode, ulong cookie, uint type)
        {
            Taken++;
            Cookie = cookie;
            if (!name.SequenceEqual("."u8) && !name.SequenceEqual(".."u8)) { Names.Add(Encoding.UTF8.GetString(name)); }
            return true;
        }

        public override bool TryAdd(ReadOnlySpan<byte> name, in InodeAttributes attributes, ulong cookie) => throw new InvalidOperationException("attributes were not asked for");
    }
}
