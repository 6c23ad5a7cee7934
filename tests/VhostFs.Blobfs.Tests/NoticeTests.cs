using System.Text;
using VhostFs.Fuse;
using VhostFs.Linux;
using Xunit;

namespace VhostFs.Blobfs.Tests;

/// <summary>What one session changes is told to another one's kernel.</summary>
public sealed class NoticeTests : IDisposable
{
    private const ulong Root = BlobfsHarness.Root;

    private readonly BlobfsHarness _fs = new();
    private readonly Recorder _told = new();
    private readonly BlobfsSession _other;
    private readonly ulong _file;
    private readonly ulong _directory;

    public NoticeTests()
    {
        _file = _fs.MakeFile(Root, "file").Value.Inode;
        _directory = _fs.MakeDirectory(Root, "directory").Value.Inode;
        _fs.MakeFile(_directory, "inside");
        _fs.SetXattr(_file, "user.old", [1]);
        _fs.Write(_file, 0, new byte[10_000]);
        _other = _fs.Fs.OpenSession();
        foreach (string name in new[] { "file", "directory" }) { _fs.Run(() => _other.LookupAsync(Root, _fs.Bytes(name))); }
        _fs.Do(() => _other.KeepUpToDate(_told));
    }

    public void Dispose() => _fs.Dispose();

    public static TheoryData<string, string> Changes => new()
    {
        { "write", "content file" },
        { "write inline", "content file" },
        { "truncate", "content file" },
        { "punch", "content file" },
        { "allocate", "content file" },
        { "copy", "content file" },
        { "open to truncate", "content file" },
        { "chmod", "attributes file" },
        { "utimes", "attributes file" },
        { "chattr", "attributes file" },
        { "set xattr", "attributes file" },
        { "set large xattr", "attributes file" },
        { "remove xattr", "attributes file" },
        { "create", "name root/new, content root" },
        { "mknod", "name root/new, content root" },
        { "mkdir", "name root/new, content root" },
        { "symlink", "name root/new, content root" },
        { "link", "name root/new, content root, attributes file" },
        { "unlink", "name root/file, content root, attributes file" },
        { "rename", "name root/file, content root, name directory/moved, content directory, attributes file" },
        { "rename over", "name directory/inside, content directory, name root/file, content root, attributes file" },
        { "exchange", "name root/file, content root, name root/directory, content root, attributes file, attributes directory" },
        // What the other kernel has never heard of, it need not forget.
        { "change inside", "" },
        { "create inside", "name directory/new, content directory" },
        { "read", "" },
        { "fail", "" },
    };

    [Theory]
    [MemberData(nameof(Changes))]
    public void Each_change_is_told_to_who_knows_what_has_changed(string change, string expected)
    {
        Assert.Equal(change == "fail" ? Errno.EEXIST : Errno.None, Do(change));
        Assert.Equal(expected.Split(", ", StringSplitOptions.RemoveEmptyEntries), _told.Lines.Select(Name));
    }

    [Fact]
    public void Nobody_is_told_what_he_did_himself()
    {
        BlobfsSession first = _fs.Session;
        _fs.Session = _other;
        Assert.Equal(Errno.None, Do("write"));
        Assert.Equal(Errno.None, Do("rename"));
        Assert.Empty(_told.Lines);
        _fs.Session = first;
    }

    [Fact]
    public void Nothing_is_told_to_a_session_that_has_ended()
    {
        _fs.EndSession(_other);
        Assert.Equal(Errno.None, Do("write"));
        Assert.Empty(_told.Lines);
    }

    [Fact]
    public void Who_forgot_an_inode_is_told_no_more_and_a_resumed_kernel_is_told_everything()
    {
        _fs.Do(() => _other.Forget(_file, 1));
        Assert.Equal(Errno.None, Do("write"));
        Assert.Empty(_told.Lines);
        var resumed = new Recorder();
        BlobfsSession session = _fs.Fs.OpenSession();
        _fs.Do(() =>
        {
            session.Resume();
            session.KeepUpToDate(resumed);
        });
        Assert.Equal(Errno.None, Do("write"));
        Assert.Equal(["content file"], resumed.Lines.Select(Name));
    }

    private Errno Do(string change)
    {
        ulong other = _fs.Session.ReferencedInodes > 0 ? _fs.Lookup(_directory, "inside").Value.Inode : 0;
        switch (change)
        {
            case "write": return _fs.Write(_file, 5000, new byte[100]).Errno;
            case "write inline":
                // A small file, so that its content is in the tree: what came before does not count.
                _fs.Truncate(_file, 0);
                _told.Lines.Clear();
                return _fs.Write(_file, 0, [1, 2, 3]).Errno;
            case "truncate": return _fs.Truncate(_file, 100);
            case "punch": return _fs.Fallocate(_file, Allocation.PunchHole | Allocation.KeepSize, 0, 4096);
            case "allocate": return _fs.Fallocate(_file, 0, 0, 20_000);
            case "copy":
                _fs.Write(other, 0, new byte[8192]);
                return _fs.Run(() => _fs.Session.CopyFileRangeAsync(other, 0, 0, _file, 0, 0, 8192)).Errno;
            case "open to truncate": return _fs.Open(_file, 0x201);
            case "chmod": return _fs.Set(_file, new SetAttributes(Mode: 0x180)).Errno;
            case "utimes": return _fs.Set(_file, new SetAttributes(ModifyTime: new FsTime(1, 2))).Errno;
            case "chattr": return _fs.Run(() => _fs.Session.SetFlagsAsync(_fs.Caller, _file, FsFlags.NODUMP, FsFlags.NODUMP));
            case "set xattr": return _fs.SetXattr(_file, "user.new", [1]);
            case "set large xattr": return _fs.SetXattr(_file, "user.new", new byte[60_000]);
            case "remove xattr": return _fs.RemoveXattr(_file, "user.old");
            case "create": return _fs.Create(Root, "new").Errno;
            case "mknod": return _fs.MakeFile(Root, "new").Errno;
            case "mkdir": return _fs.MakeDirectory(Root, "new").Errno;
            case "symlink": return _fs.Symlink(Root, "new", "to").Errno;
            case "link": return _fs.Link(_file, Root, "new").Errno;
            case "unlink": return _fs.Unlink(Root, "file");
            case "rename": return _fs.Rename(Root, "file", _directory, "moved");
            case "rename over": return _fs.Rename(_directory, "inside", Root, "file");
            case "exchange": return _fs.Rename(Root, "file", Root, "directory", Renames.Exchange);
            case "change inside": return _fs.Write(other, 0, [1]).Errno;
            case "create inside": return _fs.MakeFile(_directory, "new").Errno;
            case "read":
                _fs.Read(_file, 0, 100);
                return _fs.Stat(_file).Errno;
            case "fail": return _fs.MakeFile(Root, "file").Errno;
            default: throw new ArgumentOutOfRangeException(nameof(change), change, null);
        }
    }

    private string Name(string line)
    {
        string[] words = line.Split(' ');
        string NameOf(string inode) => inode == $"{Root}" ? "root" : inode == $"{_file}" ? "file" : inode == $"{_directory}" ? "directory" : inode;
        string[] path = words[1].Split('/');
        return $"{words[0]} {NameOf(path[0])}{(path.Length > 1 ? "/" + path[1] : "")}";
    }

    private sealed class Recorder : IKernelCache
    {
        public List<string> Lines { get; } = [];

        public void InvalidateInode(ulong node, bool contentChanged) => Lines.Add($"{(contentChanged ? "content" : "attributes")} {node}");

        public void InvalidateEntry(ulong parent, ReadOnlySpan<byte> name) => Lines.Add($"name {parent}/{Encoding.UTF8.GetString(name)}");
    }
}
