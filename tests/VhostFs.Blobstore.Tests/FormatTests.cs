using System.Buffers.Binary;
using Xunit;

namespace VhostFs.Blobstore.Tests;

/// <summary>The bytes of docs/blobstore-format.md, so that a change of the format is never an accident.</summary>
public sealed class FormatTests
{
    private const string Uuid = "01020304-0506-0708-090a-0b0c0d0e0f10";

    [Fact]
    public void Superblock_fields_are_where_the_document_says()
    {
        var block = new byte[4096];
        var geometry = new PoolGeometry(0x1111, 0x2220, 256, 0x33, new Anchor(0x4444, 0x555), 0x6664, 0x778);
        var superblock = new Superblock
        {
            Incompatible = (IncompatibleFeatures)0x88, ReadOnlyCompatibleFeatures = 0x99, Uuid = Guid.Parse(Uuid), Generation = 0xAAA, Epoch = 0xBBB,
            Geometry = geometry, IsOpen = true, OwnerProcess = 0xCCC, OwnerHost = "host",
        };
        superblock.Write(block);
        Assert.Equal("VHFSPOOL"u8, block.AsSpan(0, 8));
        Assert.Equal(1u, U32(block, 8));
        Assert.Equal(4096u, U32(block, 12));
        Assert.Equal(0x88u, U64(block, 16));
        Assert.Equal(0x99u, U64(block, 24));
        Assert.Equal(0u, U64(block, 32));
        Assert.Equal(Guid.Parse(Uuid), new Guid(block.AsSpan(40, 16)));
        Assert.Equal(0xAAAu, U64(block, 56));
        Assert.Equal(0xBBBu, U64(block, 64));
        Assert.Equal(0x1111u, U64(block, 72));
        Assert.Equal(0x2220u, U64(block, 80));
        Assert.Equal(256u, U32(block, 88));
        Assert.Equal(0x33u, U32(block, 92));
        Assert.Equal(0x4444u, U64(block, 96));
        Assert.Equal(0x555u, U32(block, 104));
        Assert.Equal(0u, U32(block, 108));
        Assert.Equal(0x6664u, U64(block, 112));
        Assert.Equal(0x778u, U32(block, 120));
        Assert.Equal(1u, U32(block, 124));
        Assert.Equal(0xCCCu, U32(block, 128));
        Assert.Equal("host\0"u8, block.AsSpan(132, 5));
        Assert.Equal(Crc32C.Compute(block.AsSpan(0, 4092)), U32(block, 4092));
        Assert.Equal(0x00009E06u, U32(block, 4092)); // computed from the document, by other code
        Assert.Equal(superblock, Superblock.Read(block));
        EveryFlippedByteIsNoticed(block, static b => Superblock.Read(b) is null);
    }

    [Fact]
    public void Clusters_of_volume_0_are_listed_behind_the_host_name_and_only_with_their_feature()
    {
        var block = new byte[4096];
        var superblock = new Superblock
        {
            Incompatible = IncompatibleFeatures.Nodes0Clusters,
            Geometry = new PoolGeometry(0x1111, 0x2220, 256, 0x33, new Anchor(0x4444, 0x555), 0x6664, 0x778) { Nodes0Clusters = [new ClusterExtent(0x21, 2), new ClusterExtent(0x2A, 0x3)] },
        };
        superblock.Write(block);
        Assert.Equal((2u, 2u), ((uint)U64(block, 16), U32(block, 108)));
        Assert.Equal([0x21u, 2u, 0x2Au, 3u, 0u], [U32(block, 256), U32(block, 260), U32(block, 264), U32(block, 268), U32(block, 272)]);
        Assert.Equal(superblock.Geometry.Nodes0Clusters, Superblock.Read(block)!.Geometry.Nodes0Clusters);
        EveryFlippedByteIsNoticed(block, static b => Superblock.Read(b) is null);
        (superblock with { Incompatible = IncompatibleFeatures.None }).Write(block);
        Assert.Empty(Superblock.Read(block)!.Geometry.Nodes0Clusters); // reserved, for who made that
        (superblock with { Geometry = superblock.Geometry with { Nodes0Clusters = [.. Enumerable.Repeat(new ClusterExtent(1, 1), PoolGeometry.MaxNodes0Clusters + 1)] } }).Write(block);
        Assert.Null(Superblock.Read(block));
    }

    [Fact]
    public void Volume_header_fields_are_where_the_document_says()
    {
        var block = new byte[4096];
        var header = new VolumeHeader
        {
            Flags = VolumeFlags.DataChecksums | VolumeFlags.CleanlyClosed, Uuid = Guid.Parse(Uuid), VolumeId = 5, Generation = 0x11, LogEpoch = 0x22,
            Root = new NodePointer(0x3330, 0x44, 0x55), Height = 3, CheckpointLsn = 0x66, Tail = new LogTail(0x60, 7, 0x88),
            NextInode = 0x99, SnapshotEpoch = 0xAA, HashKey0 = 0xBB, HashKey1 = 0xCC,
        };
        header.Write(block);
        Assert.Equal("VHFSVOLH"u8, block.AsSpan(0, 8));
        Assert.Equal(1u, U32(block, 8));
        Assert.Equal(3u, U32(block, 12));
        Assert.Equal(Guid.Parse(Uuid), new Guid(block.AsSpan(16, 16)));
        Assert.Equal(5u, U64(block, 32));
        Assert.Equal(0x11u, U64(block, 40));
        Assert.Equal(0x22u, U64(block, 48));
        Assert.Equal(0x3330u, U64(block, 56));
        Assert.Equal(0x44u, U64(block, 64));
        Assert.Equal(0x55u, U32(block, 72));
        Assert.Equal(3u, U32(block, 76));
        Assert.Equal(0x66u, U64(block, 80));
        Assert.Equal(0x60u, U64(block, 88));
        Assert.Equal(7u, U32(block, 96));
        Assert.Equal(0x88u, U32(block, 100));
        Assert.Equal(0x99u, U64(block, 104));
        Assert.Equal(0xAAu, U64(block, 112));
        Assert.Equal(0xBBu, U64(block, 120));
        Assert.Equal(0xCCu, U64(block, 128));
        Assert.Equal(0x3797B405u, U32(block, 4092)); // computed from the document, by other code
        Assert.Equal(header, VolumeHeader.Read(block, 5, 100));
        Assert.Null(VolumeHeader.Read(block, 6, 100));
        Assert.Null(VolumeHeader.Read(block, 5, 6)); // the tail lies behind the ring
        EveryFlippedByteIsNoticed(block, static b => VolumeHeader.Read(b, 5, 100) is null);
    }

    [Fact]
    public void Volume_records_survive_writing_and_reading_and_others_are_refused()
    {
        var record = new VolumeRecord(9, "name", new Anchor(1000, 512), Guid.Parse(Uuid), 12345, true);
        byte[] bytes = record.ToBytes();
        Assert.Equal(54, bytes.Length);
        Assert.Equal(record, VolumeRecord.Read(9, bytes));
        Assert.Null(VolumeRecord.Read(0, bytes)); // the catalogue's own number
        for (int length = 0; length < bytes.Length; length++) { Assert.Null(VolumeRecord.Read(9, bytes.AsSpan(0, length))); }
        bytes[48] = 0;
        Assert.Null(VolumeRecord.Read(9, bytes.AsSpan(0, 50)));
    }

    [Fact]
    public void Volume_records_carry_limits_and_refuse_negative_ones()
    {
        var blocks = new VolumeRecord(9, "name", new Anchor(1000, 512), Guid.Parse(Uuid), 12345, false, new VolumeQuota(77, 0));
        Assert.Equal(54, blocks.ToBytes().Length); // as before there were limits of inodes
        Assert.Equal(77u, U64(blocks.ToBytes(), 40));
        Assert.Equal(blocks, VolumeRecord.Read(9, blocks.ToBytes()));
        VolumeRecord both = blocks with { Quota = new VolumeQuota(77, 88) };
        byte[] bytes = both.ToBytes();
        Assert.Equal((62, 88u), (bytes.Length, U64(bytes, 54)));
        Assert.Equal(both, VolumeRecord.Read(9, bytes));
        for (int length = 55; length < 62; length++) { Assert.Null(VolumeRecord.Read(9, bytes.AsSpan(0, length))); }
        bytes[61] = 0x80;
        Assert.Null(VolumeRecord.Read(9, bytes));
    }

    private static void EveryFlippedByteIsNoticed(byte[] block, Func<byte[], bool> isRefused)
    {
        for (int i = 0; i < block.Length; i++)
        {
            block[i] ^= 0x10;
            Assert.True(isRefused(block), $"byte {i}");
            block[i] ^= 0x10;
        }
    }

    private static ulong U64(byte[] block, int offset) => BinaryPrimitives.ReadUInt64LittleEndian(block.AsSpan(offset));

    private static uint U32(byte[] block, int offset) => BinaryPrimitives.ReadUInt32LittleEndian(block.AsSpan(offset));
}
