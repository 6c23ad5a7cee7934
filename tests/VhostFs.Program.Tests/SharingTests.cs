using System.Text;
using VhostFs.Commands;
using VhostFs.Config;
using VhostFs.Fuse;
using VhostFs.FuseDev;
using VhostFs.Hosting;
using VhostFs.Linux;

namespace VhostFs.ProgramTests;

public sealed class SharingTests
{
    private static readonly TimeSpan s_day = TimeSpan.FromDays(1);

    [Fact]
    public void A_session_that_is_alone_may_keep_everything_and_collects_writes()
    {
        FuseServerOptions fuse = new FuseWishes { Sharing = SharingMode.Exclusive }.Settle();
        Assert.Equal((FuseCacheMode.Always, true, false, true), (fuse.Cache, fuse.Writeback, fuse.ReadOnly, fuse.ExplicitInvalidation));
        Assert.Equal((s_day, s_day, s_day), (fuse.EntryTimeout, fuse.AttributeTimeout, fuse.NegativeTimeout));
        Assert.False(new FuseWishes { Sharing = SharingMode.Exclusive, ReadOnly = true }.Settle().Writeback);
        Assert.False(new FuseWishes { Sharing = SharingMode.Exclusive, Cache = FuseCacheMode.Never }.Settle().Writeback);
    }

    [Fact]
    public void Readers_alone_never_ask_again()
    {
        FuseServerOptions fuse = new FuseWishes { Sharing = SharingMode.SharedReadOnly }.Settle();
        Assert.Equal((FuseCacheMode.Always, false, true, true), (fuse.Cache, fuse.Writeback, fuse.ReadOnly, fuse.ExplicitInvalidation));
        Assert.True(fuse.EntryTimeout >= 300 * s_day && fuse.AttributeTimeout >= 300 * s_day && fuse.NegativeTimeout >= 300 * s_day);
    }

    [Fact]
    public void Who_shares_keeps_nothing_without_asking()
    {
        FuseServerOptions fuse = new FuseWishes { Sharing = SharingMode.Shared }.Settle();
        Assert.Equal((FuseCacheMode.Auto, false, false, false, false), (fuse.Cache, fuse.Writeback, fuse.ReadOnly, fuse.ExplicitInvalidation, fuse.ReadDirectoryPlus));
        Assert.Equal((TimeSpan.Zero, TimeSpan.Zero, TimeSpan.Zero), (fuse.EntryTimeout, fuse.AttributeTimeout, fuse.NegativeTimeout));
    }

    [Theory]
    [InlineData("", true, true)]
    [InlineData("sharing=shared", true, true)]
    [InlineData("sharing=shared-ro,no_flock", true, false)]
    [InlineData("sharing=exclusive", false, false)]
    [InlineData("sharing=exclusive,posix_lock", true, false)]
    [InlineData("no_posix_lock", false, true)]
    public void A_host_mount_shares_locks_unless_it_is_alone(string options, bool posix, bool flock)
    {
        FuseServerOptions fuse = MountOptionList.Read([options], Request, [], []).Wishes.Settle();
        Assert.Equal((posix, flock), (fuse.PosixLocks, fuse.FlockLocks));
    }

    [Theory]
    [InlineData("rw", AccessTimeMode.Relative)]
    [InlineData("noatime", AccessTimeMode.Off)]
    [InlineData("noatime,atime", AccessTimeMode.Relative)]
    [InlineData("strictatime", AccessTimeMode.Strict)]
    [InlineData("lazytime,relatime", AccessTimeMode.Relative)]
    [InlineData("noatime,atime=strict", AccessTimeMode.Strict)]
    [InlineData("strictatime,atime=off", AccessTimeMode.Off)]
    public void A_host_mount_keeps_access_times_as_its_options_say(string options, AccessTimeMode expected)
    {
        var errors = new List<ConfigError>();
        Assert.Equal(expected, MountOptionList.Read([options], Request, errors, []).Wishes.Settle().AccessTimes);
        Assert.Empty(errors);
    }

    [Fact]
    public void Guests_that_share_a_volume_share_locks()
    {
        Assert.Equal((true, true), Locks(new FuseWishes { Sharing = SharingMode.Shared }));
        Assert.Equal((false, false), Locks(new FuseWishes { Sharing = SharingMode.SharedReadOnly }));
        Assert.Equal((false, true), Locks(new FuseWishes { FlockLocks = true }));

        static (bool, bool) Locks(FuseWishes wishes) => (wishes.Settle().PosixLocks, wishes.Settle().FlockLocks);
    }

    [Fact]
    public void When_nothing_is_said_the_defaults_are_those_of_the_server() => Assert.Equal(new FuseServerOptions(), new FuseWishes().Settle());

    [Fact]
    public void What_the_user_says_wins()
    {
        FuseServerOptions fuse = new FuseWishes { Sharing = SharingMode.Exclusive, Writeback = false, AttributeTimeout = TimeSpan.FromSeconds(3) }.Settle();
        Assert.Equal((false, TimeSpan.FromSeconds(3), s_day), (fuse.Writeback, fuse.AttributeTimeout, fuse.EntryTimeout));
        fuse = new FuseWishes { Sharing = SharingMode.Shared, Cache = FuseCacheMode.Metadata }.Settle();
        Assert.Equal((FuseCacheMode.Metadata, null, null), (fuse.Cache, fuse.EntryTimeout, fuse.AttributeTimeout)); // as the cache mode says
    }

    [Fact]
    public void What_is_said_reaches_another_process_as_it_was_said()
    {
        FuseWishes wishes = new()
        {
            Sharing = SharingMode.Shared,
            Cache = FuseCacheMode.Metadata,
            Writeback = false,
            ReadOnly = true,
            ReadDirectoryPlus = false,
            PosixLocks = true,
            FlockLocks = false,
            EntryTimeout = TimeSpan.FromSeconds(1.5),
            AttributeTimeout = TimeSpan.FromSeconds(2),
            NegativeTimeout = TimeSpan.FromSeconds(3),
            Others = new FuseServerOptions { Xattr = false, PosixAcl = false, SecurityLabel = true, KillPrivilegesV2 = false, AnnounceSubmounts = true, AllowMmap = true, AccessTimes = AccessTimeMode.Strict },
        };
        List<ConfigError> errors = [];
        FuseWishes Read(FuseWishes said) => FuseSection.Read(new ConfigSection(ConfigParser.Parse("params", Encoding.UTF8.GetBytes(FuseSection.Write(said).ToJsonString()), errors)!, errors));
        Assert.Equal(wishes, Read(wishes));
        Assert.Equal(new FuseWishes(), Read(new FuseWishes()));
        Assert.Empty(errors);
    }

    [Theory]
    [InlineData("sharing=shared,writeback", "-o writeback: with sharing 'shared' others write, too")]
    [InlineData("sharing=shared-ro,rw", "-o readonly: sharing 'shared-ro' is for reading")]
    [InlineData("sharing=alone", "-o sharing: 'alone' is not one of exclusive, shared-ro, shared")]
    public void Contradictions_on_the_command_line_are_named(string options, string message)
    {
        List<ConfigError> errors = [];
        MountOptionList.Read([options], Request, errors, []);
        Assert.Contains(errors, e => e.ToString().Contains(message, StringComparison.Ordinal));
    }

    [Fact]
    public void A_mount_of_readers_is_read_only_to_the_kernel_too()
    {
        List<ConfigError> errors = [];
        MountOptionList list = MountOptionList.Read(["sharing=shared-ro"], Request, errors, []);
        Assert.Empty(errors);
        Assert.True(list.Wishes.Settle().ReadOnly);
        Assert.NotEqual(0UL, list.Request.Flags & MountCalls.MS_RDONLY);
    }

    [Fact]
    public void A_volume_that_somebody_has_to_himself_is_refused_to_others_until_he_is_gone()
    {
        var claims = new VolumeClaims("web");
        VolumeClaim alone = Claim("export vm1", SharingMode.Exclusive), other = Claim("mount /mnt", SharingMode.Shared);
        Assert.Null(claims.TryTake(alone));
        Assert.Equal("volume 'web' is in use by export vm1, which has it to itself; end that first, or give both the sharing 'shared'", claims.TryTake(other));
        claims.Release(alone);
        Assert.Null(claims.TryTake(other));
        Assert.Contains("is in use by mount /mnt, and this session wants it to itself", claims.TryTake(alone), StringComparison.Ordinal);
    }

    [Fact]
    public void Collected_writes_need_a_volume_of_ones_own()
    {
        var claims = new VolumeClaims("web");
        Assert.Null(claims.TryTake(new VolumeClaim("export vm1", SharingMode.Unsaid, new FuseServerOptions { Writeback = true })));
        Assert.NotNull(claims.TryTake(Claim("export vm2", SharingMode.Unsaid)));
    }

    [Fact]
    public void Readers_that_never_look_again_and_writers_exclude_each_other()
    {
        var claims = new VolumeClaims("web");
        Assert.Null(claims.TryTake(Claim("export r1", SharingMode.SharedReadOnly)));
        Assert.Null(claims.TryTake(Claim("export r2", SharingMode.SharedReadOnly)));
        Assert.Null(claims.TryTake(new VolumeClaim("export r3", SharingMode.Unsaid, new FuseServerOptions { ReadOnly = true })));
        Assert.Contains("only reading is possible beside it", claims.TryTake(Claim("mount /mnt", SharingMode.Shared)), StringComparison.Ordinal);
        claims = new VolumeClaims("web");
        Assert.Null(claims.TryTake(Claim("export w", SharingMode.Unsaid)));
        Assert.Contains("export w may write to volume 'web'", claims.TryTake(Claim("export r1", SharingMode.SharedReadOnly)), StringComparison.Ordinal);
    }

    private static MountRequest Request => new() { MountPoint = "/mnt", Source = "disk.img" };

    private static VolumeClaim Claim(string holder, SharingMode sharing) => new(holder, sharing, new FuseWishes { Sharing = sharing }.Settle());
}
