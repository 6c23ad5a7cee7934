using System.Buffers.Binary;

namespace VhostFs.Blobstore.Check;

/// <summary>The extended attributes of one inode, in key order: each a first chunk with name and length, and the chunks that follow it.</summary>
internal sealed class XattrChecker(CheckReport report, string volume, byte[] hashKey)
{
    private const int ChunkBits = 5;
    private const int PrefixBytes = 8;
    private const int MaxProbes = 8;
    private const uint MaxValueBytes = 65536;
    private const ulong MaxHash = (1UL << 55) - 9;

    private readonly HashSet<string> _names = [];
    private ulong _inode;
    private ulong _position;
    private int _nextChunk;
    private int _chunkCount;
    private long _bytesLeft;

    /// <summary>Bytes of the names of the inode's attributes so far, each with one byte more.</summary>
    public long NameBytes { get; private set; }

    /// <summary>True when the item begins an attribute.</summary>
    /// <param name="debris">The inode says that chunks of a value that was never finished may be there.</param>
    public bool Add(ItemKey key, ReadOnlySpan<byte> value, bool debris)
    {
        ulong position = key.Sub >> ChunkBits;
        int chunk = (int)(key.Sub & ((1 << ChunkBits) - 1));
        if (chunk != 0)
        {
            if (key.Object != _inode || position != _position || chunk != _nextChunk || chunk >= _chunkCount)
            {
                if (!debris) { Error(key, "a chunk without the one before it"); }
            }
            else
            {
                _nextChunk++;
                _bytesLeft -= value.Length;
                if (value.Length == 0 || _bytesLeft < 0 || (_nextChunk == _chunkCount) != (_bytesLeft == 0)) { Error(key, "the chunks do not add up to the length of the value"); }
            }
            return false;
        }
        End();
        if (key.Object != _inode)
        {
            _names.Clear();
            NameBytes = 0;
        }
        (_inode, _position, _nextChunk) = (key.Object, position, 1);
        ReadFirst(key, value);
        return true;
    }

    /// <summary>After the last item of an inode or of the volume: nothing may be missing.</summary>
    public void End()
    {
        if (_nextChunk != 0 && _nextChunk < _chunkCount) { report.Error("xattr", $"{volume}, inode {_inode}", $"{_chunkCount - _nextChunk} chunks of an attribute are missing"); }
        (_nextChunk, _chunkCount) = (0, 0);
    }

    private void ReadFirst(ItemKey key, ReadOnlySpan<byte> value)
    {
        int nameLength = value.Length >= PrefixBytes ? value[0] : 0;
        if (nameLength == 0 || value.Length < PrefixBytes + nameLength)
        {
            Error(key, "the first chunk is malformed");
            return;
        }
        ReadOnlySpan<byte> name = value.Slice(PrefixBytes, nameLength);
        NameBytes += nameLength + 1;
        uint valueLength = BinaryPrimitives.ReadUInt32LittleEndian(value[4..]);
        _chunkCount = BinaryPrimitives.ReadUInt16LittleEndian(value[2..]);
        _bytesLeft = valueLength - (value.Length - PrefixBytes - nameLength);
        if (valueLength > MaxValueBytes) { Error(key, $"a value of {valueLength} bytes"); }
        if (_chunkCount is 0 or > 1 << ChunkBits || _bytesLeft < 0 || (_chunkCount == 1) != (_bytesLeft == 0)) { Error(key, "the chunks do not add up to the length of the value"); }
        ulong hash = Math.Min(SipHash.Of(hashKey, name) >> 9, MaxHash);
        if (_position - hash >= MaxProbes) { Error(key, "lies where its name does not hash to"); }
        if (!_names.Add(Convert.ToHexString(name))) { Error(key, "a second attribute of the same name"); }
    }

    private void Error(ItemKey key, string sentence) => report.Error("xattr", $"{volume}, inode {key.Object}, key {key.Sub:x}", sentence);
}
