using VhostFs.Campaigns;
using VhostFs.Fuse;
using VhostFs.GuestDriver;
using VhostFs.Linux;

namespace VhostFs.Scale.Tests;

/// <summary>The guest of one volume: knows what it wrote, and compares all that it reads.</summary>
internal sealed class VolumeWorker(string socket, int seed) : IDisposable
{
    private const uint O_RDWR = 2;
    private const int MaxFiles = 40;
    private const int MaxFileBytes = 96 << 10;
    private const int MaxTransferBytes = 16 << 10;

    private readonly Random _random = new(seed);
    private readonly Dictionary<string, byte[]> _files = [];
    private readonly byte[] _buffer = new byte[MaxTransferBytes];
    private FrontEnd? _frontEnd;
    private FuseClient _client = null!;
    private int _nextName;

    public long Requests { get; private set; }

    public void Connect()
    {
        _frontEnd = FrontEnd.Up(socket);
        _client = new FuseClient(_frontEnd, _frontEnd.Queues[1]);
    }

    public void Disconnect()
    {
        if (_frontEnd is null) { return; }
        Requests += _client.Requests;
        _frontEnd.Dispose();
        _frontEnd = null;
    }

    public void Dispose() => Disconnect();

    /// <summary>Files of a few bytes, as many as asked for, in the root.</summary>
    public void MakeFiles(int count)
    {
        for (int i = 0; i < count; i++)
        {
            string name = $"small{i}";
            byte[] content = new byte[1 + _random.Next(200)];
            _random.NextBytes(content);
            Expect(_client.Create(FuseClient.Root, name, O_RDWR, 0x1A4, out FuseCreateOut created), "create", name);
            WriteAt(name, created.Entry.NodeId, created.Open.Handle, 0, content);
            LetGo(name, created.Entry.NodeId, created.Open.Handle);
            _files[name] = content;
        }
    }

    /// <summary>One file operation: a few requests.</summary>
    public void Step()
    {
        if (_files.Count == 0 || (_files.Count < MaxFiles && _random.Next(4) == 0))
        {
            string fresh = $"f{_nextName++}";
            Expect(_client.Create(FuseClient.Root, fresh, O_RDWR, 0x1A4, out FuseCreateOut created), "create", fresh);
            _files[fresh] = [];
            Overwrite(fresh, created.Entry.NodeId, created.Open.Handle);
            LetGo(fresh, created.Entry.NodeId, created.Open.Handle);
            return;
        }
        string name = _files.Keys.ElementAt(_random.Next(_files.Count));
        switch (_random.Next(8))
        {
            case 0:
                Expect(_client.Unlink(FuseClient.Root, name), "unlink", name);
                _files.Remove(name);
                break;
            case 1:
                string newName = $"f{_nextName++}";
                Expect(_client.Rename(FuseClient.Root, name, FuseClient.Root, newName), "rename", name);
                _files.Remove(name, out byte[]? content);
                _files[newName] = content!;
                break;
            case 2:
                CompareNames();
                break;
            case < 6:
                WithFile(name, (node, handle) => Overwrite(name, node, handle));
                break;
            default:
                WithFile(name, (node, handle) => Compare(name, node, handle));
                break;
        }
    }

    public void GetRootAttributes() => Expect(_client.GetAttributes(FuseClient.Root, out _), "getattr", "/");

    public void Sync() => Expect(_client.SyncFileSystem(), "syncfs", "/");

    /// <summary>All names and all bytes.</summary>
    public void CompareAll()
    {
        CompareNames();
        foreach (string name in _files.Keys) { WithFile(name, (node, handle) => Compare(name, node, handle)); }
    }

    private void CompareNames()
    {
        var names = new Dictionary<string, ulong>();
        Expect(_client.List(FuseClient.Root, names), "readdir", "/");
        if (names.Count != _files.Count || !names.Keys.All(_files.ContainsKey))
        {
            throw new FindingException($"{socket}: the root has {names.Count} names, expected {_files.Count}; wrong: {string.Join(", ", names.Keys.Except(_files.Keys).Concat(_files.Keys.Except(names.Keys)).Take(5))}");
        }
    }

    private void WithFile(string name, Action<ulong, ulong> work)
    {
        Expect(_client.Lookup(FuseClient.Root, name, out FuseEntryOut entry), "lookup", name);
        Expect(_client.Open(entry.NodeId, O_RDWR, out ulong handle), "open", name);
        work(entry.NodeId, handle);
        LetGo(name, entry.NodeId, handle);
    }

    private void LetGo(string name, ulong node, ulong handle)
    {
        Expect(_client.Release(node, handle), "release", name);
        _client.Forget(node, 1);
    }

    private void Overwrite(string name, ulong node, ulong handle)
    {
        byte[] content = _files[name];
        int offset = _random.Next(Math.Min(content.Length + 1, MaxFileBytes - MaxTransferBytes));
        Span<byte> data = _buffer.AsSpan(0, 1 + _random.Next(MaxTransferBytes));
        _random.NextBytes(data);
        WriteAt(name, node, handle, offset, data);
        if (content.Length < offset + data.Length) { Array.Resize(ref content, offset + data.Length); }
        data.CopyTo(content.AsSpan(offset));
        _files[name] = content;
        if (_random.Next(16) == 0) { Expect(_client.Fsync(node, handle), "fsync", name); }
    }

    private void WriteAt(string name, ulong node, ulong handle, int offset, ReadOnlySpan<byte> data)
    {
        Expect(_client.Write(node, handle, (ulong)offset, data, out int written), "write", name);
        if (written != data.Length) { throw new FindingException($"{socket}: wrote {written} of {data.Length} bytes of {name}"); }
    }

    private void Compare(string name, ulong node, ulong handle)
    {
        byte[] content = _files[name];
        for (int offset = 0; offset <= content.Length; offset += MaxTransferBytes)
        {
            Expect(_client.Read(node, handle, (ulong)offset, MaxTransferBytes, out ReadOnlySpan<byte> data), "read", name);
            ReadOnlySpan<byte> expected = content.AsSpan(offset, Math.Min(MaxTransferBytes, content.Length - offset));
            int same = expected.CommonPrefixLength(data);
            if (same != expected.Length || data.Length != expected.Length)
            {
                throw new FindingException($"{socket}: {name} of {content.Length} bytes differs at byte {offset + same}; read {data.Length} bytes at {offset}, expected {expected.Length}");
            }
        }
    }

    private void Expect(Errno errno, string operation, string name)
    {
        if (errno != Errno.None) { throw new FindingException($"{socket}: {operation} {name}: {errno}"); }
    }
}
