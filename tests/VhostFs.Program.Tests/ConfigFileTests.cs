using System.Text;
using VhostFs.Config;
using VhostFs.Fuse;

namespace VhostFs.ProgramTests;

public class ConfigFileTests
{
    private const string Good = """
        {
          // comments and trailing commas are fine
          "log_level": "debug",
          "bdevs": [
            { "name": "slow", "kind": "delay", "base": "disk0", "read_us": 5, "write_us": 6, "flush_us": 7 },
            { "name": "disk0", "filename": "disk0.img", "size": "64M", "cache": "direct" },
            { "name": "mem0", "kind": "malloc", "size": 33554432 },
          ],
          "pools": [
            { "name": "pool0", "bdev": "slow", "create": true, "volumes": [ { "name": "web" }, { "name": "db" } ] },
            { "name": "pool1", "bdev": "mem0", "volumes": [ { "name": "scratch" } ] }
          ],
          "exports": [
            { "name": "vm1", "volume": "pool0/web", "socket": "/run/vm1.sock", "tag": "www", "cache": "always", "writeback": true, "entry_timeout": 1.5 },
            { "volume": "pool0/db", "socket": "db.sock", "socket_group": "kvm", "readonly": true, "xattr": false },
            { "name": "vm3", "volume": "pool1/scratch", "fd": 3 }
          ]
        }
        """;

    [Fact]
    public void A_good_file_is_read_whole()
    {
        ServeConfig config = Load(Good, out List<ConfigError> errors)!;
        Assert.Empty(errors);
        Assert.Equal(LogLevel.Debug, config.LogLevel);
        Assert.Equal(["disk0", "slow", "mem0"], config.Bdevs.Select(b => b.Name)); // a base comes before what stands on it
        Assert.Equal(64L << 20, config.Bdevs[0].SizeBytes);
        Assert.Equal(BdevCache.Direct, config.Bdevs[0].Cache);
        Assert.Equal((5, 6, 7), (config.Bdevs[1].ReadDelayUs, config.Bdevs[1].WriteDelayUs, config.Bdevs[1].FlushDelayUs));
        Assert.Equal(32L << 20, config.Bdevs[2].SizeBytes);
        Assert.Equal(["web", "db"], config.Pools[0].Volumes);
        ExportConfig vm1 = config.Exports[0];
        Assert.Equal(("pool0", "web", "/run/vm1.sock", "www"), (vm1.Pool, vm1.Volume, vm1.Socket, vm1.Tag));
        Assert.Equal(FuseCacheMode.Always, vm1.Fuse.Cache);
        Assert.True(vm1.Fuse.Writeback);
        Assert.Equal(TimeSpan.FromSeconds(1.5), vm1.Fuse.EntryTimeout);
        ExportConfig db = config.Exports[1];
        Assert.Equal(("db", "kvm"), (db.Name, db.SocketGroup));
        Assert.True(db.Fuse.ReadOnly);
        Assert.False(db.Fuse.PosixAcl); // follows xattr unless it is written
        Assert.Equal(3, config.Exports[2].ListenFd);
    }

    [Fact]
    public void A_volatile_bdev_is_read_whole()
    {
        ServeConfig config = Load(Good.Replace("\"kind\": \"delay\", \"base\": \"disk0\", \"read_us\": 5, \"write_us\": 6, \"flush_us\": 7",
            "\"kind\": \"volatile\", \"base\": \"disk0\", \"seed\": 8, \"early_percent\": 9", StringComparison.Ordinal), out List<ConfigError> errors)!;
        Assert.Empty(errors);
        Assert.Equal((BdevKind.Volatile, "disk0", 8, 9), (config.Bdevs[1].Kind, config.Bdevs[1].Base, config.Bdevs[1].Seed, config.Bdevs[1].EarlyPercent));
    }

    [Fact]
    public void Relative_paths_are_relative_to_the_file()
    {
        ServeConfig config = ConfigFile.Parse("/etc/vhostfs/config.json", Encoding.UTF8.GetBytes(Good), [])!;
        Assert.Equal("/etc/vhostfs/disk0.img", config.Bdevs[0].FileName);
        Assert.Equal("/etc/vhostfs/db.sock", config.Exports[1].Socket);
    }

    public static TheoryData<string, string, string> Mistakes => new()
    {
        { "\"pool0/web\"", "\"poolX/web\"", "config.json:14: exports[0].volume: no such pool 'poolX'; declared are 'pool0', 'pool1'" },
        { "\"bdev\": \"mem0\"", "\"bdev\": \"mem9\"", "config.json:11: pools[1].bdev: no such bdev 'mem9'; declared are 'slow', 'disk0', 'mem0'" },
        { "\"tag\": \"www\"", "\"tga\": \"www\"", "config.json:14: exports[0].tga: unknown key; did you mean 'tag'?" },
        { "\"cache\": \"always\"", "\"cache\": \"sometimes\"", "config.json:14: exports[0].cache: 'sometimes' is not one of auto, always, never, metadata" },
        { "\"64M\"", "\"64 MB\"", "config.json:6: bdevs[1].size: '64 MB' is not a size; write bytes, or a number with K, M, G, T or P (powers of 1024), for example 10G" },
        { "\"64M\"", "true", "config.json:6: bdevs[1].size: must be a size such as \"10G\", not true or false" },
        { "\"create\": true", "\"create\": \"yes\"", "config.json:10: pools[0].create: must be true or false, not a text" },
        { "\"fd\": 3", "\"fd\": -3", "config.json:16: exports[2].fd: must be a whole number from 0 to 1048576, not -3" },
        { "\"fd\": 3", "\"tag\": \"x\"", "config.json:16: exports[2].socket: needs a socket path; write for example \"socket\": \"/run/vm1.sock\"" },
        { "\"fd\": 3", "\"fd\": 3, \"socket\": \"s\"", "config.json:16: exports[2].fd: a descriptor and a socket path exclude each other; keep one" },
        { "\"name\": \"vm3\"", "\"name\": \"vm1\"", "config.json:16: exports[2].name: two exports are called 'vm1' (the first: exports[0] on line 14)" },
        { "\"db.sock\"", "\"/run/vm1.sock\"", "config.json:15: exports[1].socket: two exports listen on '/run/vm1.sock' (the first: exports[0] on line 14)" },
        { "\"base\": \"disk0\"", "\"base\": \"slow\"", "config.json:5: bdevs[0].base: 'slow' does not end at a real bdev: the bases go in a circle or lead nowhere" },
        { "\"bdev\": \"mem0\"", "\"bdev\": \"disk0\"", "config.json:11: pools[1].bdev: 'disk0' is the base of 'slow'; put the pool on 'slow'" },
        { "\"name\": \"web\"", "\"name\": \"a/b\"", "config.json:10: pools[0].volumes[0].name: 'a/b' is not a volume name; use no '/' and no control characters" },
        { "\"name\": \"db\" }", "\"name\": \"web\" }", "config.json:10: pools[0].volumes[1].name: 'web' is declared twice in this pool" },
        { "\"pool0/db\"", "\"pool0/web\"", "config.json:14: exports[0].writeback: export 'web' serves the same volume; writeback is for a volume with one guest" },
        { "\"readonly\": true", "\"sharing\": \"shared\", \"writeback\": true", "config.json:15: exports[1].writeback: with sharing 'shared' others write, too, and collected writes would undo theirs; drop writeback, or say sharing 'exclusive'" },
        { "\"readonly\": true", "\"sharing\": \"shared-ro\", \"readonly\": false", "config.json:15: exports[1].readonly: sharing 'shared-ro' is for reading; leave it read-only, or say sharing 'shared'" },
        { "\"pool0/web\", \"socket\": \"/run/vm1.sock\", \"tag\": \"www\", \"cache\": \"always\", \"writeback\": true", "\"pool0/db\", \"socket\": \"/run/vm1.sock\", \"sharing\": \"exclusive\"", "config.json:14: exports[0].sharing: export 'db' serves the same volume; 'exclusive' is for a volume with one guest: say 'shared', or 'shared-ro' when nobody writes" },
        { "\"pool0/web\", \"socket\": \"/run/vm1.sock\", \"tag\": \"www\", \"cache\": \"always\", \"writeback\": true", "\"pool0/db\", \"sharing\": \"shared-ro\", \"socket\": \"/run/vm1.sock\" }, { \"name\": \"w\", \"volume\": \"pool0/db\", \"socket\": \"w.sock\"", "config.json:14: exports[0].sharing: export 'w' may write to the same volume, and readers with 'shared-ro' never look again; make it read-only, or say 'shared' for both" },
        { "\"xattr\": false", "\"xattr\": false, \"posix_acl\": true", "config.json:15: exports[1].posix_acl: ACLs are stored as extended attributes; turn xattr on, or posix_acl off" },
        { "\"name\": \"pool1\", ", "", "config.json:11: pools[1]: 'name' is missing; write for example \"name\": \"pool0\"" },
        { "33554432", "0", "config.json:7: bdevs[2].size: a memory bdev needs a size; write for example \"size\": \"256M\"" },
        { "\"pool1/scratch\"", "\"scratch\"", "config.json:16: exports[2].volume: which pool? write \"pool/scratch\"; pools here: 'pool0', 'pool1'" },
        { "\"log_level\": \"debug\",", "\"log_level\": \"debug\",\n\"log_level\": \"info\",", "config.json:4: log_level: written twice (first on line 3); keep one of them" },
    };

    [Theory]
    [MemberData(nameof(Mistakes))]
    public void A_mistake_is_named_with_its_line_and_path(string right, string wrong, string message)
    {
        int at = Good.IndexOf(right, StringComparison.Ordinal);
        string text = string.Concat(Good.AsSpan(0, at), wrong, Good.AsSpan(at + right.Length));
        Assert.Null(Load(text, out List<ConfigError> errors));
        Assert.Equal([message], errors.Select(e => e.ToString()));
    }

    [Fact]
    public void All_mistakes_of_a_file_are_named_at_once()
    {
        string text = Good.Replace("\"debug\"", "\"loud\"", StringComparison.Ordinal).Replace("\"fd\": 3", "\"fd\": \"three\"", StringComparison.Ordinal);
        Assert.Null(Load(text, out List<ConfigError> errors));
        Assert.Equal(["log_level", "exports[2].fd"], errors.Select(e => e.Where.Path));
    }

    [Theory]
    [InlineData("{\n  \"exports\": [\n    {,}\n", 3)]
    [InlineData("", 1)]
    [InlineData("{}\n\n}", 3)]
    public void Text_that_is_not_JSON_is_refused_with_its_line(string text, int line)
    {
        Assert.Null(Load(text, out List<ConfigError> errors));
        ConfigError error = Assert.Single(errors);
        Assert.StartsWith($"config.json:{line}: not valid JSON: ", error.ToString(), StringComparison.Ordinal);
        Assert.DoesNotContain("BytePositionInLine", error.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("[]", "config.json:1: must be an object { ... }, not a list")]
    [InlineData("{}", "config.json:1: exports: nothing to serve; declare at least one export with a volume and a socket")]
    [InlineData("{\"exports\": 5}", "config.json:1: exports: must be a list [ ... ], not a number")]
    public void A_file_that_serves_nothing_is_refused(string text, string message)
    {
        Assert.Null(Load(text, out List<ConfigError> errors));
        Assert.Contains(message, errors.Select(e => e.ToString()));
    }

    [Fact]
    public void Deep_nesting_is_refused_and_does_not_overflow()
    {
        Assert.Null(Load(new string('[', 100_000), out List<ConfigError> errors));
        Assert.Contains("not valid JSON", Assert.Single(errors).Message, StringComparison.Ordinal);
    }

    private static ServeConfig? Load(string text, out List<ConfigError> errors)
    {
        errors = [];
        return ConfigFile.Parse("config.json", Encoding.UTF8.GetBytes(text), errors);
    }
}
