using System.Buffers.Binary;
using System.IO.Compression;
using System.Text;

namespace VhostFs.ProgramTests;

/// <summary>A disk with a GUID partition table, written by hand from UEFI 2.10, 5.3, so that any part of it may be wrong.</summary>
internal sealed class GptImage
{
    public const string Type = "6527994e-2c5a-4eec-9613-8f5944074e8b", OldType = "7c5222bd-8f5d-4087-9c00-bf9843c7b58c", LinuxType = "0fc63daf-8483-4772-8e79-3d69d8477de4";
    public const int EntryCountOffset = 80, EntryBytesOffset = 84, EntriesBlockOffset = 72, FirstUsableOffset = 40, LastUsableOffset = 48, HeaderBytesOffset = 12, MyBlockOffset = 24;

    private const int HeaderCrcOffset = 16, EntriesCrcOffset = 88;
    private readonly int _entryBytes;
    private readonly int _entryCount;
    private int _partitions;

    /// <summary>An empty table of the usual shape: as many entries, and the same in the backup.</summary>
    public GptImage(int blockSize = 512, int blocks = 2048, int entryCount = 128, int entryBytes = 128)
    {
        BlockSize = blockSize;
        Blocks = blocks;
        (_entryCount, _entryBytes) = (entryCount, entryBytes);
        Bytes = new byte[blockSize * blocks];
        EntryBlocks = ((entryCount * entryBytes) + blockSize - 1) / blockSize;
        Bytes[446 + 4] = 0xEE;
        Put(446 + 8, 1, 4);
        Put(446 + 12, (ulong)blocks - 1, 4);
        Put(510, 0xAA55, 2);
        WriteHeader(1, blocks - 1, 2);
        WriteHeader(blocks - 1, 1, blocks - 1 - EntryBlocks);
        Seal();
    }

    public int BlockSize { get; }

    public int Blocks { get; }

    public int EntryBlocks { get; }

    public int FirstUsable => 2 + EntryBlocks;

    public int LastUsable => Blocks - 2 - EntryBlocks;

    public byte[] Bytes { get; }

    /// <summary>CRC-32 of somebody else's making: it is at the end of a gzip file.</summary>
    public static uint Crc(ReadOnlySpan<byte> bytes)
    {
        if (bytes.IsEmpty) { return 0; } // gzip writes nothing at all then
        using var packed = new MemoryStream();
        using (var gzip = new GZipStream(packed, CompressionLevel.NoCompression, leaveOpen: true)) { gzip.Write(bytes); }
        return BinaryPrimitives.ReadUInt32LittleEndian(packed.ToArray().AsSpan()[^8..]);
    }

    /// <param name="index">Its place in the table; null: the next.</param>
    public GptImage Add(string type, int firstBlock, int lastBlock, string name = "", string? id = null, int? index = null)
    {
        int at = index ?? _partitions++;
        foreach (int entries in (int[])[2, Blocks - 1 - EntryBlocks])
        {
            int entry = (entries * BlockSize) + (at * _entryBytes);
            new Guid(type).TryWriteBytes(Bytes.AsSpan(entry));
            new Guid(id ?? $"00000000-0000-4000-9000-{at:x12}").TryWriteBytes(Bytes.AsSpan(entry + 16));
            Put(entry + 32, (ulong)(uint)firstBlock, 8);
            Put(entry + 40, (ulong)(uint)lastBlock, 8);
            Encoding.Unicode.GetBytes(name).CopyTo(Bytes.AsSpan(entry + 56));
        }
        Seal();
        return this;
    }

    /// <summary>Another value in a header, or in both of them, with checksums that are right.</summary>
    public GptImage Set(int offset, ulong value, int bytes, bool inPrimary = true, bool inBackup = true)
    {
        if (inPrimary) { Put(BlockSize + offset, value, bytes); }
        if (inBackup) { Put(((Blocks - 1) * BlockSize) + offset, value, bytes); }
        Seal();
        return this;
    }

    /// <summary>Another byte, and checksums that are wrong then.</summary>
    public GptImage Spoil(int at)
    {
        Bytes[at] ^= 0x40;
        return this;
    }

    public void Seal()
    {
        foreach (int header in (int[])[BlockSize, (Blocks - 1) * BlockSize])
        {
            long entries = (long)BinaryPrimitives.ReadUInt64LittleEndian(Bytes.AsSpan(header + EntriesBlockOffset)) * BlockSize;
            long length = (long)BinaryPrimitives.ReadUInt32LittleEndian(Bytes.AsSpan(header + EntryCountOffset)) * BinaryPrimitives.ReadUInt32LittleEndian(Bytes.AsSpan(header + EntryBytesOffset));
            if (entries >= 0 && entries <= Bytes.Length && length <= Bytes.Length - entries) { Put(header + EntriesCrcOffset, Crc(Bytes.AsSpan((int)entries, (int)length)), 4); }
            uint headerBytes = BinaryPrimitives.ReadUInt32LittleEndian(Bytes.AsSpan(header + HeaderBytesOffset));
            Put(header + HeaderCrcOffset, 0, 4);
            Put(header + HeaderCrcOffset, Crc(Bytes.AsSpan(header, (int)Math.Min(headerBytes, (uint)BlockSize))), 4);
        }
    }

    private void WriteHeader(int block, int other, int entriesBlock)
    {
        int at = block * BlockSize;
        "EFI PART"u8.CopyTo(Bytes.AsSpan(at));
        Put(at + 8, 0x10000, 4);
        Put(at + HeaderBytesOffset, 92, 4);
        Put(at + MyBlockOffset, (ulong)block, 8);
        Put(at + 32, (ulong)other, 8);
        Put(at + FirstUsableOffset, (ulong)FirstUsable, 8);
        Put(at + LastUsableOffset, (ulong)LastUsable, 8);
        Put(at + EntriesBlockOffset, (ulong)entriesBlock, 8);
        Put(at + EntryCountOffset, (ulong)_entryCount, 4);
        Put(at + EntryBytesOffset, (ulong)_entryBytes, 4);
    }

    private void Put(int at, ulong value, int bytes)
    {
        Span<byte> little = stackalloc byte[8];
        BinaryPrimitives.WriteUInt64LittleEndian(little, value);
        little[..bytes].CopyTo(Bytes.AsSpan(at));
    }
}
