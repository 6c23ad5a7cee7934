using System.Globalization;
using System.Text;
using VhostFs.Blobfs;
using VhostFs.Fuse;
using VhostFs.Linux;
using VhostFs.Reactor;

namespace VhostFs.Image.Tests.Images;

/// <summary>Reads everything that a guest could read of a volume: names, attributes, contents, links, extended attributes.</summary>
/// <remarks>The volume may be anybody's work: circles of directories, files of many terabytes. Each directory is listed once, and of a large file both ends are read.</remarks>
internal sealed class VolumeWalk : IDisposable
{
    private const ulong Root = 1;
    private const uint TypeMask = 0xF000, Directory = 0x4000, Regular = 0x8000, Link = 0xA000;
    private const int ReadBytes = 128 << 10;
    private const int MaxNames = 4096;

    private readonly NativeBuffer _memory = new(ReadBytes + (2 * 65536));
    private readonly IoVecList _list = new(1);
    private readonly StringBuilder _text = new();
    private readonly Stack<(string Path, ulong Inode)> _directories = new();
    private readonly HashSet<ulong> _listed = [];
    private readonly Names _names = new();

    /// <summary>What was found under each path; an error stands for what could not be read.</summary>
    public Dictionary<string, string> Found { get; } = [];

    /// <summary>Regular files, for whoever wants to change some.</summary>
    public List<ulong> Files { get; } = [];

    /// <summary>Directories that could be listed.</summary>
    public IEnumerable<ulong> Directories => _listed;

    /// <summary>EIO and the like.</summary>
    public int Errors { get; private set; }

    /// <summary>A name that no guest can use, or null.</summary>
    public string? BadName { get; private set; }

    public void Dispose()
    {
        _memory.Dispose();
        _list.Dispose();
    }

    public async IoTask<int> RunAsync(BlobfsSession fs)
    {
        Found.Clear();
        Files.Clear();
        _listed.Clear();
        (Errors, BadName) = (0, null);
        FsResult<InodeAttributes> root = await fs.GetAttributesAsync(Root);
        await DescribeAsync(fs, "/", Root, root);
        while (_directories.TryPop(out (string Path, ulong Inode) directory))
        {
            if (_listed.Add(directory.Inode)) { await ListAsync(fs, directory.Path, directory.Inode); }
        }
        FsResult<FsStatistics> space = await fs.StatFsAsync();
        if (space.IsError) { Error("(statfs)", space.Errno); }
        return Errors;
    }

    private async IoTask<int> ListAsync(BlobfsSession fs, string path, ulong directory)
    {
        ulong cookie = 0;
        for (int calls = 0; calls < MaxNames && Found.Count < MaxNames; calls++)
        {
            _names.Clear();
            Errno listed = await fs.ReadDirectoryAsync(directory, 0, cookie, _names);
            if (listed != Errno.None) { Error(path + "*", listed); }
            if (listed != Errno.None || _names.Count == 0) { return 0; }
            var batch = _names.Take();
            foreach ((string name, ulong inode, ulong next) in batch)
            {
                cookie = next;
                if (name is "." or "..") { continue; }
                if (name.Length is 0 or > 255 || name.AsSpan().ContainsAny('/', '\0')) { BadName = name; }
                string full = path + name;
                FsResult<InodeAttributes> attributes = await fs.GetAttributesAsync(inode);
                await DescribeAsync(fs, full, inode, attributes);
            }
        }
        return 0;
    }

    private async IoTask<int> DescribeAsync(BlobfsSession fs, string path, ulong inode, FsResult<InodeAttributes> result)
    {
        if (result.IsError) { return Error(path, result.Errno); }
        InodeAttributes a = result.Value;
        uint type = a.Mode & TypeMask;
        string text = string.Create(CultureInfo.InvariantCulture, $"{inode} {a.Mode:x} {a.LinkCount} {a.Uid} {a.Gid} {a.DeviceNumber} {a.SizeBytes} {a.Blocks512} {a.ModifyTime.Seconds}.{a.ModifyTime.Nanoseconds}");
        Errno failed = Errno.None;
        uint crc = 0;
        if (type == Directory) { _directories.Push((path.EndsWith('/') ? path : path + "/", inode)); }
        else if (type == Regular)
        {
            if (!Files.Contains(inode)) { Files.Add(inode); }
            long size = a.SizeBytes;
            foreach (long from in size <= 8 * ReadBytes ? Starts(size) : [0, size - ReadBytes])
            {
                _list.Clear();
                _list.Add(_memory.Slice(0, ReadBytes));
                IoResult read = await fs.ReadAsync(inode, 0, from, _list.View());
                if (read.IsError) { failed = read.Errno; break; }
                crc = DiskFormat.Crc(_memory.Span[..read.Bytes], BitConverter.GetBytes(crc));
            }
        }
        else if (type == Link)
        {
            IoResult target = await fs.ReadLinkAsync(inode, _memory.Slice(0, 4096));
            if (target.IsError) { failed = target.Errno; }
            else { crc = DiskFormat.Crc(_memory.Span[..target.Bytes]); }
        }
        if (failed != Errno.None) { return Error(path, failed); }
        (Errno listed, string xattrs) = await XattrsAsync(fs, inode);
        if (listed != Errno.None) { return Error(path, listed); }
        Found[path] = $"{text} {crc:x8} {xattrs}";
        return 0;
    }

    private async IoTask<(Errno, string)> XattrsAsync(BlobfsSession fs, ulong inode)
    {
        IoVec target = _memory.Slice(ReadBytes, 65536);
        IoResult listed = await fs.ListXattrAsync(default, inode, target);
        if (listed.IsError) { return (listed.Errno, ""); }
        if (listed.Bytes == 0) { return (Errno.None, ""); }
        var found = new List<string>();
        byte[] names = target.Span[..listed.Bytes].ToArray();
        for (int at = 0; at < names.Length;)
        {
            int end = Array.IndexOf(names, (byte)0, at);
            if (end < 0) { return (Errno.EBADMSG, ""); }
            int length = end - at;
            if (length is > 0 and <= 255)
            {
                IoVec name = _memory.Slice(ReadBytes + 65536 - 256, length), value = _memory.Slice(ReadBytes + 65536, 65536);
                names.AsSpan(at, length).CopyTo(name.Span);
                IoResult got = await fs.GetXattrAsync(inode, name, value);
                if (got.IsError) { return (got.Errno, ""); }
                found.Add($"{Encoding.UTF8.GetString(names, at, length)}={DiskFormat.Crc(value.Span[..got.Bytes]):x8}");
            }
            at = end + 1;
        }
        found.Sort(StringComparer.Ordinal);
        return (Errno.None, string.Join(' ', found));
    }

    private static IEnumerable<long> Starts(long size)
    {
        for (long at = 0; at < size; at += ReadBytes) { yield return at; }
    }

    private int Error(string path, Errno errno)
    {
        Errors++;
        Found[path] = errno.ToString();
        return 0;
    }

    private sealed class Names : DirectoryWriter
    {
        private List<(string Name, ulong Inode, ulong Cookie)> _entries = [];

        public int Count => _entries.Count;

        public override bool WantsAttributes => false;

        public void Clear() => _entries.Clear();

        public List<(string Name, ulong Inode, ulong Cookie)> Take()
        {
            List<(string, ulong, ulong)> taken = _entries;
            _entries = [];
            return taken;
        }

        public override bool TryAdd(ReadOnlySpan<byte> name, ulong inode, ulong cookie, uint type)
        {
            if (_entries.Count == 200) { return false; }
            _entries.Add((Encoding.Latin1.GetString(name), inode, cookie));
            return true;
        }

        public override bool TryAdd(ReadOnlySpan<byte> name, in InodeAttributes attributes, ulong cookie) => TryAdd(name, attributes.Inode, cookie, attributes.Mode >> 12);
    }
}
