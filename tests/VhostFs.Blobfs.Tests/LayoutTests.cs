using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using VhostFs.Fuse;
using Xunit;

namespace VhostFs.Blobfs.Tests;

/// <summary>docs/blobfs-format.md, byte by byte.</summary>
public sealed class LayoutTests
{
    private static readonly InodeRecord Sample = new(
        0x01020304, 0x11121314, 0x21222324, 0x31323334, 0x4142434445464748, 0x5152535455565758, 0x61626364, InodeFlags.Inline,
        0x71727374, 0x81828384, 0x9192939495969798, 0xA1A2A3A4A5A6A7A8,
        0x3132333435363738, 0xB1B2B3B4, 0xC1C2C3C4, 0x4142434445464740, 0x5152535455565750, 0xD1D2D3D4, 0xE1E2E3E4, 0x6162636465666760,
        0xF1F2F3F4, 0x05060708, 0x1516171819202122, 0, 0, 0, 0);

    [Fact]
    public void An_inode_is_160_bytes_with_its_fields_where_the_format_says()
    {
        Assert.Equal(160, InodeRecord.Size);
        Assert.Equal(160, Unsafe.SizeOf<InodeRecord>());
        var bytes = new byte[160];
        Sample.Write(bytes);
        Assert.Equal(Golden, Convert.ToHexString(bytes));
        Assert.True(InodeRecord.TryRead(bytes, out InodeRecord read));
        Assert.Equal(Sample, read);
        Assert.False(InodeRecord.TryRead(bytes.AsSpan(1), out _));
    }

    private const string Golden =
        "0403020114131211" + "2423222134333231" + "4847464544434241" + "5857565554535251" + "6463626101000000"
        + "7473727184838281" + "9897969594939291" + "A8A7A6A5A4A3A2A1" + "3837363534333231" + "B4B3B2B1C4C3C2C1"
        + "4047464544434241" + "5057565554535251" + "D4D3D2D1E4E3E2E1" + "6067666564636261" + "F4F3F2F108070605"
        + "2221201918171615" + "0000000000000000" + "0000000000000000" + "0000000000000000" + "0000000000000000";

    [Fact]
    public void A_bucket_keeps_slots_when_names_come_and_go()
    {
        Span<byte> bucket = stackalloc byte[DirectoryBucket.MaxBytes];
        Span<byte> other = stackalloc byte[DirectoryBucket.MaxBytes];
        int length = DirectoryBucket.Insert(default, "ab"u8, 0x1122334455667788, 8, bucket);
        Assert.Equal("0008020088776655443322116162", Convert.ToHexString(bucket[..length]));
        length = DirectoryBucket.Insert(bucket[..length], "c"u8, 2, 4, other);
        length = DirectoryBucket.Remove(other[..length], "ab"u8, bucket);
        Assert.Equal("01040100020000000000000063", Convert.ToHexString(bucket[..length]));
        length = DirectoryBucket.Insert(bucket[..length], "d"u8, 3, 4, other);
        Assert.Equal("0004010003000000000000006401040100020000000000000063", Convert.ToHexString(other[..length]));
        length = DirectoryBucket.Replace(other[..length], "c"u8, 9, 1, bucket);
        Assert.Equal("0004010003000000000000006401010100090000000000000063", Convert.ToHexString(bucket[..length]));
        Assert.Equal(0, DirectoryBucket.Remove(bucket[13..length], "c"u8, other));
    }

    [Fact]
    public void A_ninth_name_finds_no_slot_and_bad_buckets_are_malformed()
    {
        byte[] bucket = [];
        var target = new byte[DirectoryBucket.MaxBytes];
        for (byte i = 0; i < 8; i++)
        {
            int length = DirectoryBucket.Insert(bucket, [(byte)('a' + i)], i, 8, target);
            bucket = target[..length];
        }
        Assert.Equal(0, DirectoryBucket.Insert(bucket, "z"u8, 9, 8, target));
        Assert.False(DirectoryBucket.TryFind(bucket.AsSpan(..^1), "z"u8, out _, out _, out bool malformed));
        Assert.True(malformed);
        Assert.False(DirectoryBucket.TryFind(new byte[12], "z"u8, out _, out _, out malformed)); // an empty name
        Assert.True(malformed);
    }

    [Fact]
    public void SipHash_1_3_gives_the_published_values()
    {
        // Key 00..0f, messages 00, 00 01, ...: the first entries of the vectors of SipHash-1-3 (as in the Linux kernel's and Rust's tests).
        var hash = new SipHash(0x0706050403020100, 0x0f0e0d0c0b0a0908);
        var message = new byte[64];
        for (byte i = 0; i < 64; i++) { message[i] = i; }
        Assert.Equal(0xabac0158050fc4dcUL, hash.Hash(default));
        Assert.Equal(0xc9f49bf37d57ca93UL, hash.Hash(message.AsSpan(0, 1)));
        Assert.Equal(0x82cb9b024dc7d44dUL, hash.Hash(message.AsSpan(0, 2)));
    }

    [Fact]
    public void Hashes_leave_room_for_the_dots_and_for_probing()
    {
        Assert.Equal(1UL, BlobfsKeys.EntryHash(0));
        Assert.Equal((1UL << 60) - 1, BlobfsKeys.EntryHash(ulong.MaxValue));
        Assert.True(Directories.CookieOf(BlobfsKeys.EntryHash(ulong.MaxValue), 7) <= long.MaxValue);
        Assert.Equal((1UL << 55) - 9, BlobfsKeys.XattrHash(ulong.MaxValue));
        Assert.Equal(Blobstore.ItemType.Xattr, BlobfsKeys.Xattr(1, BlobfsKeys.XattrHash(ulong.MaxValue) + 8, 31).Type);
    }
}
