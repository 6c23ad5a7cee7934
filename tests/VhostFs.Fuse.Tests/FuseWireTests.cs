using System.Runtime.InteropServices;
using Xunit;

namespace VhostFs.Fuse.Tests;

/// <summary>The structures against linux/fuse.h: sizes, offsets, golden bytes.</summary>
public class FuseWireTests
{
    public static TheoryData<Type, int> Sizes => new()
    {
        { typeof(FuseInHeader), 40 }, { typeof(FuseOutHeader), 16 }, { typeof(FuseAttr), 88 }, { typeof(FuseEntryOut), 128 }, { typeof(FuseAttrOut), 104 },
        { typeof(FuseForgetIn), 8 }, { typeof(FuseForgetOne), 16 }, { typeof(FuseBatchForgetIn), 8 }, { typeof(FuseGetattrIn), 16 }, { typeof(FuseSetattrIn), 88 },
        { typeof(FuseMknodIn), 16 }, { typeof(FuseMkdirIn), 8 }, { typeof(FuseRenameIn), 8 }, { typeof(FuseRename2In), 16 }, { typeof(FuseLinkIn), 8 },
        { typeof(FuseOpenIn), 8 }, { typeof(FuseOpenOut), 16 }, { typeof(FuseCreateIn), 16 }, { typeof(FuseCreateOut), 144 }, { typeof(FuseReleaseIn), 24 },
        { typeof(FuseFlushIn), 24 }, { typeof(FuseReadIn), 40 }, { typeof(FuseWriteIn), 40 }, { typeof(FuseWriteOut), 8 }, { typeof(FuseStatfsOut), 80 },
        { typeof(FuseFsyncIn), 16 }, { typeof(FuseSetxattrCompatIn), 8 }, { typeof(FuseSetxattrIn), 16 }, { typeof(FuseGetxattrIn), 8 }, { typeof(FuseGetxattrOut), 8 },
        { typeof(FuseInitIn), 16 }, { typeof(FuseInitExtIn), 48 }, { typeof(FuseInitOut), 64 }, { typeof(FuseFallocateIn), 32 }, { typeof(FuseLseekIn), 24 },
        { typeof(FuseLseekOut), 8 }, { typeof(FuseCopyFileRangeIn), 56 }, { typeof(FuseCopyFileRangeOut), 8 }, { typeof(FuseSyncfsIn), 8 }, { typeof(FuseDirent), 24 },
        { typeof(FuseDirentPlus), 152 }, { typeof(FuseStatxIn), 24 }, { typeof(FuseStatxTime), 16 }, { typeof(FuseStatx), 256 }, { typeof(FuseStatxOut), 288 },
        { typeof(FuseExtHeader), 8 }, { typeof(FuseSecctx), 8 }, { typeof(FuseFileLock), 24 }, { typeof(FuseLkIn), 48 }, { typeof(FuseLkOut), 24 }, { typeof(FuseInterruptIn), 8 },
        { typeof(FuseIoctlIn), 32 }, { typeof(FuseIoctlOut), 16 }, { typeof(FuseFlagsOut), 20 }, { typeof(FsXattr), 28 }, { typeof(FuseFsXattrOut), 44 },
    };

    [Theory, MemberData(nameof(Sizes))]
    public void Sizes_are_the_kernels(Type type, int size)
    {
        Assert.Equal(size, Marshal.SizeOf(type));
        Assert.True(type.IsLayoutSequential);
        // Free of implicit padding, or a reply would carry uninitialised bytes: the fields' sizes sum up to the whole.
        Assert.Equal(size, type.GetFields(System.Reflection.BindingFlags.Instance | System.Reflection.BindingFlags.NonPublic)
            .Sum(f => f.FieldType.IsEnum ? 4 : Marshal.SizeOf(f.FieldType)));
    }

    [Theory]
    [InlineData(typeof(FuseInHeader), "TotalExtLen", 36)]
    [InlineData(typeof(FuseInHeader), "NodeId", 16)]
    [InlineData(typeof(FuseAttr), "Mode", 60)]
    [InlineData(typeof(FuseAttr), "Flags", 84)]
    [InlineData(typeof(FuseEntryOut), "Attributes", 40)]
    [InlineData(typeof(FuseSetattrIn), "Mode", 68)]
    [InlineData(typeof(FuseSetattrIn), "Uid", 76)]
    [InlineData(typeof(FuseInitOut), "MaxWrite", 20)]
    [InlineData(typeof(FuseInitOut), "MaxPages", 28)]
    [InlineData(typeof(FuseInitOut), "Flags2", 32)]
    [InlineData(typeof(FuseInitOut), "RequestTimeout", 40)]
    [InlineData(typeof(FuseReadIn), "SizeBytes", 16)]
    [InlineData(typeof(FuseWriteIn), "Flags", 32)]
    [InlineData(typeof(FuseStatfsOut), "FragmentSize", 48)]
    [InlineData(typeof(FuseStatx), "Inode", 32)]
    [InlineData(typeof(FuseStatx), "AttributesMask", 56)]
    [InlineData(typeof(FuseStatx), "BirthTime", 80)]
    [InlineData(typeof(FuseStatx), "DeviceNumberMajor", 128)]
    [InlineData(typeof(FuseStatxOut), "Statx", 32)]
    [InlineData(typeof(FuseDirentPlus), "Dirent", 128)]
    [InlineData(typeof(FuseLkIn), "LockFlags", 40)]
    [InlineData(typeof(FuseFileLock), "Pid", 20)]
    public void Fields_lie_where_the_kernel_has_them(Type type, string field, int offset) =>
        Assert.Equal(offset, (int)Marshal.OffsetOf(type, $"<{field}>k__BackingField"));

    [Fact]
    public void Headers_have_their_golden_bytes()
    {
        Assert.Equal("38000000" + "1A000000" + "0800000000000000" + "0100000000000000" + "E8030000" + "E9030000" + "EA030000" + "0200" + "0000",
            Convert.ToHexString(FuseClient.Bytes(new FuseInHeader(56, 26, 8, 1, 1000, 1001, 1002, 2))));
        Assert.Equal("10000000" + "FEFFFFFF" + "0800000000000000", Convert.ToHexString(FuseClient.Bytes(new FuseOutHeader(16, -2, 8))));
    }

    [Fact]
    public void An_init_exchange_has_its_golden_bytes()
    {
        Assert.Equal("07000000" + "29000000" + "00000200" + "FBFFFF7B", Convert.ToHexString(FuseClient.Bytes(new FuseInitIn(7, 41, 0x20000, 0x7bfffffb))));
        Assert.Equal("07000000" + "26000000" + "00000200" + "00000040" + "FFFF" + "FDBF" + "00001000" + "01000000" + "0001" + "0000" + "05000000"
            + string.Concat(Enumerable.Repeat("00", 28)),
            Convert.ToHexString(FuseClient.Bytes(new FuseInitOut(7, 38, 0x20000, 1u << 30, 65535, 49149, 1 << 20, 1, 256, 0, 5))));
    }

    [Fact]
    public void Opcodes_have_the_kernels_numbers()
    {
        Assert.Equal(53u, (uint)FuseOpcode.COPY_FILE_RANGE_64);
        Assert.Equal(52u, (uint)FuseOpcode.STATX);
        Assert.Equal(45u, (uint)FuseOpcode.RENAME2);
        Assert.Equal(35u, (uint)FuseOpcode.CREATE);
    }
}
