using VhostFs.Fuse;
using VhostFs.Linux;
using VhostFs.Simulation.Tests.Guest;
using VhostFs.Simulation.Tests.World;

namespace VhostFs.Simulation.Tests.Model;

/// <summary>Draws the next operation of a worker: mostly something that makes sense in the state it believes in, now and then not.</summary>
internal sealed class OperationChooser(SimRandom random, int largestFileBytes)
{
    private const int MaxPaths = 10;
    private const int InlineBytes = 2048;
    private const uint NoReplace = 1, ExchangeFlag = 2;
    private const uint CreateOnly = 1, ReplaceOnly = 2;
    private static readonly string[] s_directories = ["d0", "d1", "d2"];
    private static readonly string[] s_names = ["a", "b", "c", "a-rather-long-name-for-a-file-so-that-buckets-fill", "e"];
    private static readonly string[] s_xattrs = ["user.one", "user.two", "trusted.three"];

    public FileOperation Next(ModelState state)
    {
        string? file = PickOf(state, InodeKind.File);
        int kind = random.Below(100);
        if (state.Count == 0 || kind < 12) { return Create(FreshPath(state)); }
        if (file is not null)
        {
            switch (kind)
            {
                case < 36: return Write(state, file);
                case < 38: return Copy(state, file);
                case < 52: return Read(state, file);
                case < 60: return Truncate(state, file);
                case < 64: return HardLink(file, FreshPath(state));
            }
        }
        return kind switch
        {
            < 69 => Sync(state),
            < 73 => MakeDirectory(random.Pick(s_directories)),
            < 76 => MakeLink(FreshPath(state), new string('t', random.Between(1, 300))),
            < 83 => Rename(state),
            < 84 => CreateNameless(FreshPath(state)),
            < 86 when file is not null => RemoveOpen(file),
            < 88 => Remove(state),
            < 91 => Stat(PickAny(state)),
            < 94 => List(state),
            < 97 => SetXattr(state),
            < 99 => GetXattr(state),
            _ => Chmod(PickAny(state)),
        };
    }

    public FileOperation Sync(ModelState state) =>
        new("sync", files => files.SyncAsync(PickOf(state, InodeKind.File) ?? ""), s => new Prediction(Errno.None, s, []), IsSync: true);

    private static FileOperation Create(string path) => new(
        $"create {path}", files => files.CreateAsync(path, 0x1A4),
        state => Made(state, path, new ModelInode(InodeKind.File, 0x1A4, 0, 0), withAttributes: true), IsChange: true);

    private static FileOperation MakeDirectory(string path) => new(
        $"mkdir {path}", files => files.MakeDirectoryAsync(path, 0x1ED),
        state => Made(state, path, new ModelInode(InodeKind.Directory, 0x1ED, 0, 0), withAttributes: false), IsChange: true);

    private static FileOperation MakeLink(string path, string target) => new(
        $"symlink {path}", files => files.MakeLinkAsync(path, target),
        state => Made(state, path, new ModelInode(InodeKind.Link, 0x1FF, 0, 0) { Target = target }, withAttributes: false), IsChange: true);

    private static FileOperation HardLink(string existing, string path) => new(
        $"link {existing} {path}", files => files.HardLinkAsync(existing, path),
        state =>
        {
            if (Absent(state, existing) is var absent and not Errno.None) { return Refused(state, absent); }
            if (Parentless(state, path) is var parentless and not Errno.None) { return Refused(state, parentless); }
            if (state.Find(path) is not null) { return Refused(state, Errno.EEXIST); }
            return new Prediction(Errno.None, state.AddLink(path, existing), []);
        }, IsChange: true);

    private FileOperation Write(ModelState view, string path)
    {
        long size = view.Find(path)!.Content.Length;
        int length = random.Below(10) switch
        {
            < 3 => random.Between(1, 300),
            < 5 => random.Between(1000, 3000),
            < 7 => 4096 * random.Between(1, 4),
            < 9 => random.Between(1, 20_000),
            _ => random.Between(32 << 10, 96 << 10),
        };
        bool append = random.OneIn(8);
        long offset = append ? 0 : random.Below(5) switch
        {
            0 => 0,
            1 => size,
            2 => random.Below(size + 1) & ~4095L,
            3 => random.Below(largestFileBytes),
            _ => random.Below(size + 1),
        };
        length = (int)Math.Min(length, largestFileBytes - (append ? size : offset));
        if (length <= 0) { return Truncate(view, path); }
        byte[] data = new byte[length];
        random.Fill(data);
        return new FileOperation(append ? $"append {length} to {path}" : $"write {path} {offset}+{length}", files => files.WriteAsync(path, offset, data, append), state =>
        {
            if (state.Find(path) is not { } inode) { return Refused(state, Absent(state, path)); }
            long at = append ? inode.Content.Length : offset;
            return new Prediction(Errno.None, state.Change(path, inode with { Content = ModelInode.Written(inode.Content, at, data) }), GuestFiles.Text($"{length} written"));
        }, IsChange: true);
    }

    private FileOperation Copy(ModelState view, string source)
    {
        string target = PickOf(view, InodeKind.File)!;
        int sourceSize = view.Find(source)!.Content.Length, length = random.Between(1, GuestConnection.MaxPayloadBytes);
        long from = random.Below(sourceSize + 1), to = random.Below(view.Find(target)!.Content.Length + 1);
        return new FileOperation($"copy {source} {from}+{length} to {target} {to}", files => files.CopyAsync(source, from, target, to, length), state =>
        {
            if (Absent(state, source) is var sourceless and not Errno.None) { return Refused(state, sourceless); }
            if (Absent(state, target) is var targetless and not Errno.None) { return Refused(state, targetless); }
            ModelInode origin = state.Find(source)!, inode = state.Find(target)!;
            int wanted = (int)Math.Max(Math.Min(length, origin.Content.Length - from), 0);
            if (wanted > 0 && state.AreSame(source, target) && from < to + wanted && to < from + wanted) { return Refused(state, Errno.EINVAL); }
            if (wanted == 0) { return new Prediction(Errno.None, state, GuestFiles.Text("0 copied")); }
            byte[] data = origin.Content.AsSpan((int)from, wanted).ToArray();
            return new Prediction(Errno.None, state.Change(target, inode with { Content = ModelInode.Written(inode.Content, to, data) }), GuestFiles.Text($"{wanted} copied"));
        }, IsChange: true);
    }

    private FileOperation CreateNameless(string path)
    {
        byte[] data = new byte[random.OneIn(2) ? random.Between(1, 2000) : random.Between(2000, Math.Min(largestFileBytes, 50_000))];
        random.Fill(data);
        return new FileOperation($"tmpfile of {data.Length}, then link {path}", files => files.CreateNamelessAsync(path, 0x180, data),
            state => Made(state, path, new ModelInode(InodeKind.File, 0x180, 0, 0) { Content = data }, withAttributes: false), IsChange: true);
    }

    private static FileOperation RemoveOpen(string path) => new($"unlink {path} while it is open", files => files.RemoveOpenAsync(path), state =>
    {
        if (state.Find(path) is not { } inode) { return Refused(state, Absent(state, path)); }
        return new Prediction(Errno.None, state.Remove(path), inode.Content.AsSpan(0, Math.Min(inode.Content.Length, GuestConnection.MaxPayloadBytes)).ToArray());
    }, IsChange: true);

    private FileOperation Read(ModelState view, string path)
    {
        int size = view.Find(path)!.Content.Length;
        int offset = random.OneIn(3) ? 0 : random.Below(size + 10), length = random.OneIn(3) ? random.Between(1, 5000) : GuestConnection.MaxPayloadBytes;
        return new FileOperation($"read {path} {offset}+{length}", files => files.ReadAsync(path, offset, length), state =>
        {
            if (state.Find(path) is not { } inode) { return Refused(state, Absent(state, path)); }
            int first = Math.Min(offset, inode.Content.Length);
            return new Prediction(Errno.None, state, inode.Content.AsSpan(first, Math.Min(length, inode.Content.Length - first)).ToArray());
        });
    }

    private FileOperation Truncate(ModelState view, string path)
    {
        int size = view.Find(path)!.Content.Length;
        long target = random.Below(4) switch { 0 => 0, 1 => random.Below(InlineBytes + 100), 2 => random.Below(size + 1), _ => random.Below(largestFileBytes) };
        var changes = new FuseSetattrIn(SetAttrValid.SIZE, 0, 0, (ulong)target, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);
        return new FileOperation($"truncate {path} {target}", files => files.SetAttributesAsync(path, changes), state =>
            state.Find(path) is not { } inode ? Refused(state, Absent(state, path)) : Stated(state.Change(path, inode with { Content = ModelInode.Resized(inode.Content, target) }), path), IsChange: true);
    }

    private FileOperation Chmod(string path)
    {
        uint mode = (uint)random.Below(0x200), uid = (uint)random.Below(5), gid = (uint)random.Below(5);
        var changes = new FuseSetattrIn(SetAttrValid.MODE | SetAttrValid.UID | SetAttrValid.GID, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, mode, 0, uid, gid);
        return new FileOperation($"chmod {path} {Convert.ToString(mode, 8)} {uid}:{gid}", files => files.SetAttributesAsync(path, changes), state =>
            state.Find(path) is not { } inode ? Refused(state, Absent(state, path)) : Stated(state.Change(path, inode with { Mode = mode, Uid = uid, Gid = gid }), path), IsChange: true);
    }

    private static FileOperation Stat(string path) => new($"stat {path}", files => files.StatAsync(path), state =>
        state.Find(path) is null ? Refused(state, Absent(state, path)) : Stated(state, path));

    private FileOperation List(ModelState view)
    {
        string directory = random.OneIn(2) ? "" : PickOf(view, InodeKind.Directory) ?? "";
        return new FileOperation($"list {directory}", files => files.ListAsync(directory), state =>
        {
            if (directory.Length > 0 && state.Find(directory) is null) { return Refused(state, Absent(state, directory)); }
            IEnumerable<string> names = state.Children(directory).Select(path => $"{ModelState.Name(path)} {TypeOf(state.Find(path)!.Kind)}").Concat([". 4", ".. 4"]);
            return new Prediction(Errno.None, state, GuestFiles.Text(string.Join('\n', names.Order(StringComparer.Ordinal))));
        });
    }

    private FileOperation Rename(ModelState view)
    {
        string source = PickAny(view);
        bool isDirectory = view.Find(source) is { Kind: InodeKind.Directory };
        string target = isDirectory ? random.Pick(s_directories) : random.OneIn(3) ? PickAny(view) : FreshPath(view);
        uint flags = random.Below(6) switch { 0 => NoReplace, 1 => ExchangeFlag, _ => 0 };
        return new FileOperation($"rename {source} {target} {flags}", files => files.RenameAsync(source, target, flags), state => Renamed(state, source, target, flags), IsChange: true);
    }

    private static Prediction Renamed(ModelState state, string source, string target, uint flags)
    {
        if (Parentless(state, source) is var sourceless and not Errno.None) { return Refused(state, sourceless); }
        if (Parentless(state, target) is var targetless and not Errno.None) { return Refused(state, targetless); }
        if (state.Find(source) is not { } moved) { return Refused(state, Errno.ENOENT); }
        ModelInode? victim = state.Find(target);
        if (flags == NoReplace && victim is not null) { return Refused(state, Errno.EEXIST); }
        if (flags == ExchangeFlag)
        {
            if (victim is null) { return Refused(state, Errno.ENOENT); }
            if (IsInside(target, source) || IsInside(source, target)) { return Refused(state, Errno.EINVAL); }
            return state.AreSame(source, target) ? new Prediction(Errno.None, state, []) : new Prediction(Errno.None, Exchanged(state, source, target), []);
        }
        if (IsInside(target, source)) { return Refused(state, Errno.EINVAL); }
        if (victim is not null && state.AreSame(source, target)) { return new Prediction(Errno.None, state, []); }
        if (victim is { Kind: InodeKind.Directory })
        {
            if (moved.Kind != InodeKind.Directory) { return Refused(state, Errno.EISDIR); }
            if (state.Children(target).Any()) { return Refused(state, Errno.ENOTEMPTY); }
        }
        else if (victim is not null && moved.Kind == InodeKind.Directory) { return Refused(state, Errno.ENOTDIR); }
        return new Prediction(Errno.None, state.Rename(source, target), []);
    }

    // Directories take what is below them along.
    private static ModelState Exchanged(ModelState state, string first, string second)
    {
        const string Between = "\u0001";
        return state.Rename(first, Between).Rename(second, first).Rename(Between, second);
    }

    private FileOperation Remove(ModelState view)
    {
        string path = PickAny(view);
        bool isDirectory = view.Find(path) is { Kind: InodeKind.Directory } != random.OneIn(30);
        return new FileOperation($"{(isDirectory ? "rmdir" : "unlink")} {path}", files => files.RemoveAsync(path, isDirectory), state =>
        {
            if (state.Find(path) is not { } inode) { return Refused(state, Absent(state, path)); }
            if (isDirectory != (inode.Kind == InodeKind.Directory)) { return Refused(state, isDirectory ? Errno.ENOTDIR : Errno.EISDIR); }
            return isDirectory && state.Children(path).Any() ? Refused(state, Errno.ENOTEMPTY) : new Prediction(Errno.None, state.Remove(path), []);
        }, IsChange: true);
    }

    private FileOperation SetXattr(ModelState view)
    {
        string path = PickOf(view, InodeKind.File) ?? PickAny(view), name = random.Pick(s_xattrs);
        if (random.OneIn(4))
        {
            return new FileOperation($"removexattr {path} {name}", files => files.RemoveXattrAsync(path, name), state =>
            {
                if (state.Find(path) is not { } inode) { return Refused(state, Absent(state, path)); }
                return inode.Xattrs.ContainsKey(name) ? new Prediction(Errno.None, state.Change(path, inode with { Xattrs = inode.Xattrs.Remove(name) }), []) : Refused(state, Errno.ENODATA);
            }, IsChange: true);
        }
        byte[] value = new byte[random.OneIn(5) ? random.Between(3000, 20_000) : random.Below(200)];
        random.Fill(value);
        uint flags = random.Below(6) switch { 0 => CreateOnly, 1 => ReplaceOnly, _ => 0 };
        return new FileOperation($"setxattr {path} {name} {value.Length} {flags}", files => files.SetXattrAsync(path, name, value, flags), state =>
        {
            if (state.Find(path) is not { } inode) { return Refused(state, Absent(state, path)); }
            bool exists = inode.Xattrs.ContainsKey(name);
            if (exists && flags == CreateOnly) { return Refused(state, Errno.EEXIST); }
            if (!exists && flags == ReplaceOnly) { return Refused(state, Errno.ENODATA); }
            return new Prediction(Errno.None, state.Change(path, inode with { Xattrs = inode.Xattrs.SetItem(name, value) }), []);
        }, IsChange: true);
    }

    private FileOperation GetXattr(ModelState view)
    {
        string path = PickOf(view, InodeKind.File) ?? PickAny(view), name = random.Pick(s_xattrs);
        return new FileOperation($"getxattr {path} {name}", files => files.GetXattrAsync(path, name), state =>
        {
            if (state.Find(path) is not { } inode) { return Refused(state, Absent(state, path)); }
            return inode.Xattrs.TryGetValue(name, out byte[]? value) ? new Prediction(Errno.None, state, value) : Refused(state, Errno.ENODATA);
        });
    }

    private static Prediction Made(ModelState state, string path, ModelInode inode, bool withAttributes)
    {
        if (Parentless(state, path) is var parentless and not Errno.None) { return Refused(state, parentless); }
        if (state.Find(path) is not null) { return Refused(state, Errno.EEXIST); }
        ModelState next = state.Add(path, inode);
        return withAttributes ? Stated(next, path) : new Prediction(Errno.None, next, []);
    }

    private static Prediction Stated(ModelState state, string path)
    {
        ModelInode inode = state.Find(path)!;
        return new Prediction(Errno.None, state, GuestFiles.Text(GuestFiles.Describe(inode.Kind, inode.Mode, inode.Uid, inode.Gid, state.LinkCount(path), inode.Content.Length)));
    }

    private static Prediction Refused(ModelState state, Errno errno) => new(errno, state, []);

    /// <summary>Why there can be nothing at this path: ENOENT or ENOTDIR.</summary>
    private static Errno Parentless(ModelState state, string path)
    {
        string parent = ModelState.Parent(path);
        if (parent.Length == 0) { return Errno.None; }
        if (state.Find(parent) is { } inode) { return inode.Kind == InodeKind.Directory ? Errno.None : Errno.ENOTDIR; }
        return Parentless(state, parent) is var above and not Errno.None ? above : Errno.ENOENT;
    }

    private static Errno Absent(ModelState state, string path) =>
        Parentless(state, path) is var parentless and not Errno.None ? parentless : state.Find(path) is null ? Errno.ENOENT : Errno.None;

    private static bool IsInside(string path, string directory) => path.StartsWith(directory + "/", StringComparison.Ordinal);

    private static int TypeOf(InodeKind kind) => kind switch { InodeKind.Directory => 4, InodeKind.Link => 10, _ => 8 };

    private string? PickOf(ModelState state, InodeKind kind)
    {
        string[] paths = [.. state.Paths.Where(path => state.Find(path)!.Kind == kind)];
        return paths.Length == 0 ? null : random.Pick(paths);
    }

    private string PickAny(ModelState state)
    {
        string[] paths = [.. state.Paths];
        return paths.Length == 0 || random.OneIn(20) ? random.Pick(s_names) : random.Pick(paths);
    }

    private string FreshPath(ModelState state)
    {
        if (state.Count >= MaxPaths) { return PickAny(state); }
        string name = random.Pick(s_names);
        return random.OneIn(2) && PickOf(state, InodeKind.Directory) is { } directory && !directory.Contains('/', StringComparison.Ordinal) ? $"{directory}/{name}" : name;
    }
}
