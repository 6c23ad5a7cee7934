using System.Runtime.InteropServices;
using VhostFs.Fuse;
using VhostFs.Linux;
using VhostFs.Reactor;

namespace VhostFs.FuseDev;

/// <summary>Sends what the kernel of a mount is to forget, as messages for /dev/fuse, to the process that holds the mount; that one writes them to the device.</summary>
/// <remarks>
/// <para>Not from here: such a write waits for the lock of a directory in which a program may be waiting for our reply. A process that has the pool open must be able to
/// die at any time, and one that hangs in a write cannot. The holder may hang there; the reply, from whichever process, frees it.</para>
/// <para>An inode that changes again before its message has gone is told once. Bounds: <see cref="MaxNodes"/> inodes and <see cref="MaxEntryBytes"/> of names wait; what comes
/// beyond is lost, and the kernel keeps for its time-outs what it has.</para>
/// </remarks>
public sealed class KernelCache : IKernelCache, IDisposable
{
    public const int MaxNodes = 64 * 1024;
    public const int MaxEntryBytes = 4 << 20;
    private const int BufferBytes = 16 * 1024;

    private readonly Ring _ring;
    private readonly SafeFd _stream;
    private readonly Action<string> _warn;
    private readonly Dictionary<ulong, bool> _nodes = [];
    private readonly NativeBuffer _buffer = new(BufferBytes);
    private byte[] _entries = [];
    private int _entryBytes;
    private int _entriesSent;
    private IoHandle _writing;
    private bool _isSending;
    private bool _isOver;
    private bool _hasLost;

    /// <param name="stream">A stream to the holder; owned from now on.</param>
    /// <param name="warn">Told when messages are lost.</param>
    public KernelCache(Ring ring, SafeFd stream, Action<string> warn)
    {
        _ring = ring;
        _stream = stream;
        _warn = warn;
        // The ring waits for room in the stream by itself, unless the stream says that it must not.
        IoResult flags = FileCalls.GetFlags(stream);
        if (!flags.IsError) { FileCalls.SetFlags(stream, flags.Value & ~FileCalls.O_NONBLOCK); }
    }

    public void InvalidateInode(ulong node, bool contentChanged)
    {
        if (_isOver) { return; }
        if (_nodes.Count >= MaxNodes && !_nodes.ContainsKey(node)) { Lose(); }
        else { CollectionsMarshal.GetValueRefOrAddDefault(_nodes, node, out _) |= contentChanged; }
        Send();
    }

    public void InvalidateEntry(ulong parent, ReadOnlySpan<byte> name)
    {
        if (_isOver) { return; }
        int length = FuseOutHeader.Size + FuseNotifyInvalEntryOut.Size + name.Length + 1;
        if (TryMakeRoom(length))
        {
            Span<byte> message = _entries.AsSpan(_entryBytes, length);
            MemoryMarshal.Write(message, new FuseOutHeader((uint)length, (int)FuseNotifyCode.INVAL_ENTRY, 0));
            MemoryMarshal.Write(message[FuseOutHeader.Size..], new FuseNotifyInvalEntryOut(parent, (uint)name.Length, FuseNotifyInvalEntryOut.FUSE_EXPIRE_ONLY));
            name.CopyTo(message[(FuseOutHeader.Size + FuseNotifyInvalEntryOut.Size)..]);
            message[^1] = 0;
            _entryBytes += length;
        }
        else { Lose(); }
        Send();
    }

    /// <summary>Sends nothing any more.</summary>
    public void Dispose()
    {
        if (_isOver) { return; }
        _isOver = true;
        if (_isSending) { _ring.CancelAsync(_writing).Detach(); }
        else { Free(); }
    }

    private void Send()
    {
        if (!_isSending) { SendAsync().Detach(); }
    }

    private async IoTask<bool> SendAsync()
    {
        _isSending = true;
        while (!_isOver && Fill() is > 0 and int length)
        {
            IoResult written = new(0);
            for (int sent = 0; sent < length && !written.IsError && !_isOver; sent += written.Bytes) { written = await _ring.WriteStreamAsync(_stream, _buffer.Slice(sent, length - sent), out _writing); }
            if (!written.IsError || _isOver) { continue; }
            _isOver = true;
            _warn($"the process that made the mount does not hear us any more ({written.Errno}): what others change shows when the mount's time-outs are over");
        }
        _isSending = false;
        if (_isOver) { Free(); }
        return true;
    }

    /// <summary>Whole messages only; what goes is pending no more.</summary>
    private int Fill()
    {
        int length = 0;
        const int nodeBytes = FuseOutHeader.Size + FuseNotifyInvalInodeOut.Size;
        foreach ((ulong node, bool contentChanged) in _nodes)
        {
            if (length + nodeBytes > BufferBytes) { break; }
            Span<byte> message = _buffer.Span.Slice(length, nodeBytes);
            MemoryMarshal.Write(message, new FuseOutHeader(nodeBytes, (int)FuseNotifyCode.INVAL_INODE, 0));
            MemoryMarshal.Write(message[FuseOutHeader.Size..], new FuseNotifyInvalInodeOut(node, contentChanged ? 0 : -1, 0));
            length += nodeBytes;
            _nodes.Remove(node); // the one change that a running enumeration allows
        }
        while (_entriesSent < _entryBytes)
        {
            int next = (int)MemoryMarshal.Read<FuseOutHeader>(_entries.AsSpan(_entriesSent)).Length;
            if (length + next > BufferBytes) { break; }
            _entries.AsSpan(_entriesSent, next).CopyTo(_buffer.Span[length..]);
            length += next;
            _entriesSent += next;
        }
        if (_entriesSent == _entryBytes) { _entriesSent = _entryBytes = 0; }
        if (length == 0) { _hasLost = false; }
        return length;
    }

    private bool TryMakeRoom(int length)
    {
        if (_entryBytes + length <= _entries.Length) { return true; }
        _entries.AsSpan(_entriesSent, _entryBytes - _entriesSent).CopyTo(_entries);
        _entryBytes -= _entriesSent;
        _entriesSent = 0;
        if (_entryBytes + length > MaxEntryBytes) { return false; }
        if (_entryBytes + length > _entries.Length) { Array.Resize(ref _entries, Math.Clamp(2 * _entries.Length, 4096, MaxEntryBytes)); }
        return true;
    }

    private void Lose()
    {
        if (_hasLost) { return; }
        _hasLost = true;
        _warn("others change more than the kernel can be told: some of it shows when the mount's time-outs are over");
    }

    private void Free()
    {
        _stream.Dispose();
        _buffer.Dispose();
    }
}
