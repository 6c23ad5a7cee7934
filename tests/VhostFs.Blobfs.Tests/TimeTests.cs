using VhostFs.Fuse;
using VhostFs.Linux;
using Xunit;

namespace VhostFs.Blobfs.Tests;

/// <summary>Access times in all modes, dates far away, and which of the three times a change moves.</summary>
public sealed class TimeTests : IDisposable
{
    private const ulong Root = BlobfsHarness.Root;
    private const ulong O_NOATIME = 0x40000;
    private readonly BlobfsHarness _fs = new();
    private readonly ulong _file;

    public TimeTests()
    {
        _file = _fs.MakeFile(Root, "f").Value.Inode;
        _fs.Write(_file, 0, "content"u8);
    }

    public void Dispose() => _fs.Dispose();

    [Theory]
    [InlineData(AccessTimeMode.Relative, true, false, true)]
    [InlineData(AccessTimeMode.Strict, true, true, true)]
    [InlineData(AccessTimeMode.Off, false, false, false)]
    public void Reading_moves_the_access_time_as_the_session_says(AccessTimeMode mode, bool first, bool second, bool nextDay)
    {
        BlobfsSession session = _fs.Fs.OpenSession(accessTimes: mode);
        Assert.Equal(first, Moves(() => Read(session, 0)));
        Assert.Equal(second, Moves(() => Read(session, 0)));
        _fs.AdvanceSeconds(25 * 3600);
        Assert.Equal(nextDay, Moves(() => Read(session, 0)));
        _fs.EndSession(session);
    }

    [Theory]
    [InlineData(AccessTimeMode.Relative)]
    [InlineData(AccessTimeMode.Strict)]
    public void A_handle_opened_with_O_NOATIME_leaves_no_trace(AccessTimeMode mode)
    {
        BlobfsSession session = _fs.Fs.OpenSession(accessTimes: mode);
        ulong handle = _fs.Run(() => session.OpenAsync(_file, (uint)O_NOATIME, false)).Value;
        Assert.False(Moves(() => Read(session, handle)));
        Assert.True(Moves(() => Read(session, 0)));
        ulong directory = _fs.Run(() => session.OpenDirectoryAsync(Root, (uint)O_NOATIME)).Value;
        FsTime before = _fs.Stat(Root).Value.AccessTime;
        Assert.Equal(Errno.None, _fs.Run(() => session.ReadDirectoryAsync(Root, directory, 0, new ListWriter(100, false))));
        Assert.Equal(before, _fs.Stat(Root).Value.AccessTime);
        _fs.EndSession(session);
    }

    [Fact]
    public void A_read_only_session_moves_no_access_time_whatever_its_mode()
    {
        BlobfsSession session = _fs.Fs.OpenSession(isReadOnly: true, AccessTimeMode.Strict);
        Assert.False(Moves(() => Read(session, 0)));
    }

    /// <summary>The ends of what 64-bit seconds can say, the years before the epoch, and those that do not fit 32 bits.</summary>
    [Theory]
    [InlineData(-1L, 999_999_999u)]
    [InlineData(-2_208_988_800L, 1u)]
    [InlineData(int.MinValue - 1L, 0u)]
    [InlineData(int.MaxValue + 1L, 5u)]
    [InlineData(253_402_300_800L, 0u)]
    [InlineData(long.MinValue, 0u)]
    [InlineData(long.MaxValue, 999_999_999u)]
    public void Any_second_is_kept_over_a_mount(long seconds, uint nanoseconds)
    {
        var time = new FsTime(seconds, nanoseconds);
        Assert.Equal(Errno.None, _fs.Set(_file, new SetAttributes(AccessTime: time, ModifyTime: time)).Errno);
        _fs.Remount(clean: false);
        InodeAttributes told = _fs.Stat(_file).Value;
        Assert.Equal((time, time), (told.AccessTime, told.ModifyTime));
    }

    [Fact]
    public void Utimensat_sets_what_it_names_and_always_the_change_time()
    {
        var past = new FsTime(1000, 1);
        InodeAttributes before = _fs.Stat(_file).Value;
        InodeAttributes set = _fs.Set(_file, new SetAttributes(AccessTime: past)).Value;
        Assert.Equal((past, before.ModifyTime), (set.AccessTime, set.ModifyTime));
        Assert.NotEqual(before.ChangeTime, set.ChangeTime);
        set = _fs.Set(_file, new SetAttributes(ModifyTime: past, AccessTimeNow: true)).Value;
        Assert.Equal((set.ChangeTime, past), (set.AccessTime, set.ModifyTime));
        set = _fs.Set(_file, new SetAttributes(AccessTimeNow: true, ModifyTimeNow: true)).Value;
        Assert.Equal((set.ChangeTime, set.ChangeTime), (set.AccessTime, set.ModifyTime));
        Assert.Equal(before.BirthTime, set.BirthTime);
    }

    private bool Moves(Action work)
    {
        FsTime before = _fs.Stat(_file).Value.AccessTime;
        work();
        return _fs.Stat(_file).Value.AccessTime != before;
    }

    private void Read(BlobfsSession session, ulong handle)
    {
        IoVecs target = _fs.Vecs(_fs.Room(10));
        Assert.Equal(7, _fs.Run(() => session.ReadAsync(_file, handle, 0, target)).Bytes);
    }
}
