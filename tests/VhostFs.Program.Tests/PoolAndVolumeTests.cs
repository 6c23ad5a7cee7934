using System.Text.Json;

namespace VhostFs.ProgramTests;

/// <summary>The short commands on a real image file.</summary>
public sealed class PoolAndVolumeTests : IDisposable
{
    private readonly TemporaryDirectory _directory = new();

    private string Image => _directory["disk.img"];

    public void Dispose() => _directory.Dispose();

    [Fact]
    public async Task Volumes_are_made_listed_and_deleted()
    {
        await SucceedAsync("pool", "create", Image, "--size", "64M");
        await SucceedAsync("volume", "create", Image, "web");
        await SucceedAsync("volume", "create", Image, "db", "--no-data-checksums");
        string table = await SucceedAsync("volume", "list", Image);
        Assert.Matches("^NAME +ALLOCATED +QUOTA +INODES +CREATED +UUID\nweb .*\ndb .*\n$", table);

        using (JsonDocument list = JsonDocument.Parse(await SucceedAsync("volume", "list", Image, "--json")))
        {
            Assert.Equal(["web", "db"], list.RootElement.EnumerateArray().Select(v => v.GetProperty("name").GetString()));
            Assert.All(list.RootElement.EnumerateArray(), v => Assert.True(v.GetProperty("uuid").TryGetGuid(out _) && v.GetProperty("created").TryGetDateTime(out _)));
        }
        await SucceedAsync("volume", "delete", Image, "web");
        using JsonDocument info = JsonDocument.Parse(await SucceedAsync("pool", "info", Image, "--json"));
        Assert.Equal(64 << 20, info.RootElement.GetProperty("size_bytes").GetInt64());
        Assert.Equal("db", Assert.Single(info.RootElement.GetProperty("volumes").EnumerateArray()).GetProperty("name").GetString());
        Assert.Contains("volumes   1", await SucceedAsync("pool", "info", Image), StringComparison.Ordinal);
    }

    [Fact]
    public async Task Volumes_have_limits_that_can_be_changed_and_lifted()
    {
        await SucceedAsync("pool", "create", Image, "--size", "64M");
        await SucceedAsync("volume", "create", Image, "web", "--quota", "10M", "--inodes", "500");
        await SucceedAsync("volume", "create", Image, "db");
        Assert.Matches("\nweb +[^ ]+ [^ ]+ +10 MiB +500 +2[^\n]*\ndb +[^ ]+ [^ ]+ +- +- ", await SucceedAsync("volume", "list", Image));
        await SucceedAsync("volume", "set-quota", Image, "web", "--inodes", "7");
        await SucceedAsync("volume", "set-quota", Image, "db", "--quota", "1G");
        using (JsonDocument list = JsonDocument.Parse(await SucceedAsync("volume", "list", Image, "--json")))
        {
            JsonElement web = list.RootElement[0], db = list.RootElement[1];
            Assert.Equal((7, false), (web.GetProperty("quota_inodes").GetInt64(), web.TryGetProperty("quota_bytes", out _)));
            Assert.Equal((1L << 30, false), (db.GetProperty("quota_bytes").GetInt64(), db.TryGetProperty("quota_inodes", out _)));
        }
        await SucceedAsync("check", Image);
        await FailAsync(1, "no such volume 'wbe'; the pool has 'web', 'db'", "volume", "set-quota", Image, "wbe", "--quota", "1G");
        await FailAsync(2, "--inodes: a number more than 0", "volume", "set-quota", Image, "web", "--inodes", "0");
        await FailAsync(2, "--quota: ", "volume", "create", Image, "new", "--quota", "much");
    }

    [Fact]
    public async Task What_does_not_exist_is_named_with_what_does()
    {
        await SucceedAsync("pool", "create", Image, "--size", "64M");
        await SucceedAsync("volume", "create", Image, "web");
        await FailAsync(1, "a volume 'web' exists already", "volume", "create", Image, "web");
        await FailAsync(1, "no such volume 'wbe'; the pool has 'web'", "volume", "delete", Image, "wbe");
        await FailAsync(2, "'a/b' is not a volume name", "volume", "create", Image, "a/b");
        await FailAsync(1, "make it with 'vhostfs pool create", "volume", "list", _directory["other.img"]);
        await FailAsync(2, "give a size to make it", "pool", "create", _directory["other.img"]);
        await FailAsync(1, "the pool has 'web'", "serve", "--volume", Image, "--volume-name", "db", "--socket", _directory["s"]);
    }

    [Fact]
    public async Task A_pool_with_many_volumes_is_served_by_name()
    {
        await SucceedAsync("pool", "create", Image, "--size", "64M");
        await SucceedAsync("volume", "create", Image, "web");
        await SucceedAsync("volume", "create", Image, "db");
        await FailAsync(1, "the pool has the volumes 'web', 'db'; say which with --volume-name", "serve", "--volume", Image, "--socket", _directory["s"]);
        using var daemon = new RunningProgram("serve", "--volume", Image, "--volume-name", "db", "--socket", _directory["s"]);
        await daemon.WaitForErrorTextAsync("[export db] Waiting for vhost-user socket connection");
    }

    [Fact]
    public async Task Data_that_is_there_is_destroyed_only_by_force()
    {
        await SucceedAsync("pool", "create", Image, "--size", "64M");
        await SucceedAsync("volume", "create", Image, "precious");
        await FailAsync(1, "is not empty: it holds a pool or something else; --force destroys it", "pool", "create", Image);
        Assert.Contains("precious", await SucceedAsync("volume", "list", Image), StringComparison.Ordinal);
        await SucceedAsync("pool", "create", Image, "--force");
        Assert.DoesNotContain("precious", await SucceedAsync("volume", "list", Image), StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_pool_grows_with_its_file_and_never_shrinks()
    {
        await SucceedAsync("pool", "create", Image, "--size", "64M");
        await SucceedAsync("volume", "create", Image, "web");
        Assert.Contains(": 64 MiB, ", await SucceedAsync("pool", "grow", Image), StringComparison.Ordinal);
        Assert.Contains(": 300 MiB, ", await SucceedAsync("pool", "grow", Image, "--size", "300M"), StringComparison.Ordinal);
        Assert.Equal(300L << 20, new FileInfo(Image).Length);
        using (FileStream file = File.OpenWrite(Image)) { file.SetLength(400L << 20); }
        Assert.Contains("size      300 MiB", await SucceedAsync("pool", "info", Image), StringComparison.Ordinal);
        Assert.Contains(": 400 MiB, ", await SucceedAsync("pool", "grow", Image), StringComparison.Ordinal);
        Assert.Contains("0 errors, 0 warnings", await SucceedAsync("check", Image, "--free-space"), StringComparison.Ordinal);
        await FailAsync(1, "has 400M, more than 200M; a pool does not shrink", "pool", "grow", Image, "--size", "200M");
        await FailAsync(1, "make it with 'vhostfs pool create", "pool", "grow", _directory["other.img"]);
        await File.WriteAllBytesAsync(_directory["zero.img"], new byte[16 << 20]);
        await FailAsync(1, "holds no pool", "pool", "grow", _directory["zero.img"], "--size", "32M");
        Assert.Equal(16L << 20, new FileInfo(_directory["zero.img"]).Length);
    }

    [Fact]
    public async Task Check_tells_clean_damaged_and_unreadable_apart()
    {
        await SucceedAsync("pool", "create", Image, "--size", "64M");
        await SucceedAsync("volume", "create", Image, "web");
        Assert.Contains(": clean;", await SucceedAsync("check", Image), StringComparison.Ordinal);
        using (JsonDocument clean = JsonDocument.Parse(await SucceedAsync("check", Image, "--json")))
        {
            Assert.Equal("clean", clean.RootElement.GetProperty("verdict").GetString());
            Assert.Equal(1, clean.RootElement.GetProperty("counts").GetProperty("volumes").GetInt64());
        }

        Damage(Image, "VFSN"u8); // every tree node
        (int status, string output, _) = await RunningProgram.RunAsync("check", Image, "--json");
        Assert.True(status is 1 or 2, output);
        using (JsonDocument damaged = JsonDocument.Parse(output))
        {
            Assert.Equal(status == 1 ? "damaged" : "unreadable", damaged.RootElement.GetProperty("verdict").GetString());
            Assert.NotEmpty(damaged.RootElement.GetProperty("findings").EnumerateArray());
        }

        await File.WriteAllBytesAsync(_directory["zero.img"], new byte[16 << 20]);
        (status, output, _) = await RunningProgram.RunAsync("check", _directory["zero.img"]);
        Assert.Equal(2, status);
        Assert.Contains("unreadable", output, StringComparison.Ordinal);
        await FailAsync(2, "cannot open", "check", _directory["none.img"]);
    }

    // Flips a byte right behind each place with this magic.
    private static void Damage(string path, ReadOnlySpan<byte> magic)
    {
        byte[] image = File.ReadAllBytes(path);
        int found = 0;
        for (int offset = 0; offset < image.Length; offset += 4096)
        {
            if (!image.AsSpan(offset).StartsWith(magic)) { continue; }
            image[offset + 40] ^= 0xff;
            found++;
        }
        Assert.True(found > 0);
        File.WriteAllBytes(path, image);
    }

    private static async Task<string> SucceedAsync(params string[] arguments)
    {
        (int status, string output, string error) = await RunningProgram.RunAsync(arguments);
        Assert.True(status == 0, $"{string.Join(' ', arguments)}: {status}\n{error}{output}");
        Assert.Equal("", error);
        return output;
    }

    private static async Task FailAsync(int expected, string message, params string[] arguments)
    {
        (int status, string output, string error) = await RunningProgram.RunAsync(arguments);
        Assert.Contains(message, error, StringComparison.Ordinal);
        Assert.True(status == expected, $"{string.Join(' ', arguments)}: {status}\n{error}{output}");
    }
}
