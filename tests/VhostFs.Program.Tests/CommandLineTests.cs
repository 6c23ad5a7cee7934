using System.Text.Json;

namespace VhostFs.ProgramTests;

public class CommandLineTests
{
    [Theory]
    [InlineData("serve", "say what to serve")]
    [InlineData("serve --volume /dev/null", "--socket: needs a socket path")]
    [InlineData("serve --volume /no/disk.img --socket s", "/no/disk.img does not exist; give a size to make it, for example --size 10G")]
    [InlineData("serve --volume d --size 10X --socket s", "--size: '10X' is not a size")]
    [InlineData("serve --volume d --size 0 --socket s", "--size: the size must be more than 0")]
    [InlineData("serve --volume d --size 1G --socket s --cache sometimes", "--cache: 'sometimes' is not one of auto, always, never, metadata")]
    [InlineData("serve --volume d --size 1G --socket s --log-level loud", "--log-level: 'loud' is not one of")]
    [InlineData("serve --volume d --size 1G --socket s --fd 3", "--fd: a descriptor and a socket path exclude each other")]
    [InlineData("serve --volume d --size 1G --fd three", "three")]
    [InlineData("serve --volume d --size 1G --socket s -o source=/srv", "-o source: a volume is served, not a host directory")]
    [InlineData("serve --volume d --size 1G --socket s -o xatr", "-o xatr: unknown option")]
    [InlineData("serve --volume d --size 1G --socket s --writeback --cache never", "--writeback: the guest cannot collect writes with cache 'never'")]
    [InlineData("serve --volume d --size 1G --socket s --no-xattr --posix-acl", "--posix-acl: ACLs are stored as extended attributes")]
    [InlineData("serve --volume d --size 1G --socket s --tag 0123456789012345678901234567890123456789", "--tag: '0123456789012345678901234567890123456789' is longer than 36 bytes")]
    [InlineData("serve config.json --cache auto", "--cache: does not go together with a configuration file")]
    [InlineData("serve /no/config.json", "/no/config.json:1: no such file")]
    [InlineData("serve --sokcet s", "unknown option --sokcet; did you mean --socket?")]
    [InlineData("srve", "srve")]
    [InlineData("", "Required command")]
    public async Task Wrong_usage_ends_with_2_and_says_what_is_wrong(string arguments, string message)
    {
        (int status, _, string error) = await RunAsync(arguments);
        Assert.Contains(message, error, StringComparison.Ordinal);
        Assert.Equal(2, status);
        Assert.All(error.TrimEnd('\n').Split('\n'), line => Assert.Matches("^(vhostfs: |Try 'vhostfs)", line));
    }

    [Theory]
    [InlineData("--print-capabilities")]
    [InlineData("serve --print-capabilities")]
    public async Task Capabilities_are_JSON_that_libvirt_reads(string arguments)
    {
        (int status, string output, _) = await RunAsync(arguments);
        Assert.Equal(0, status);
        using JsonDocument json = JsonDocument.Parse(output);
        Assert.Equal("fs", json.RootElement.GetProperty("type").GetString());
        Assert.Contains("separate-options", json.RootElement.GetProperty("features").EnumerateArray().Select(f => f.GetString()));
    }

    [Theory]
    [InlineData("--thread-pool-size=1 -o announce_submounts")] // Kata, runtime-rs
    [InlineData("--thread-pool-size=1 --announce-submounts --syslog --xattr")] // Kata, Go
    [InlineData("--sandbox none --rlimit-nofile=1024 --readonly -d")] // libvirt
    [InlineData("-o cache=none,xattr,no_posix_acl -o no_flock")]
    public async Task Launchers_options_are_accepted(string options)
    {
        (int status, string output, string error) = await RunAsync($"serve --check-config --volume d --size 1G --socket-path s {options}");
        Assert.Equal("", error);
        Assert.Equal(0, status);
        Assert.Contains("1 exports", output, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("--help")]
    [InlineData("serve --help")]
    [InlineData("--version")]
    public async Task Help_is_an_answer_and_no_error(string arguments)
    {
        (int status, string output, string error) = await RunAsync(arguments);
        Assert.Equal((0, ""), (status, error));
        Assert.NotEmpty(output);
    }

    private static async Task<(int Status, string Output, string Error)> RunAsync(string arguments)
    {
        var output = new StringWriter();
        var error = new StringWriter();
        int status = await VhostFs.Program.RunAsync(arguments.Split(' ', StringSplitOptions.RemoveEmptyEntries), output, error);
        return (status, output.ToString(), error.ToString());
    }
}
