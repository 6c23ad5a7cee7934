namespace VhostFs.ProgramTests;

/// <summary>Exchanges with SPDK v25.05.1, replayed to the program: requests as its clients send them, and its answers, down to the order of members.</summary>
public sealed class ExchangeTests : IDisposable
{
    private static readonly string s_scripts = Path.Combine(AppContext.BaseDirectory, "Exchanges");
    private readonly TemporaryDirectory _directory = new();

    public static TheoryData<string> Scripts => [.. Directory.EnumerateFiles(s_scripts).Select(path => Path.GetFileName(path)!).Order(StringComparer.Ordinal)];

    public void Dispose() => _directory.Dispose();

    [Theory]
    [MemberData(nameof(Scripts))]
    public async Task Each_request_of_a_client_of_SPDK_gets_the_answer_that_it_knows(string script)
    {
        Directory.CreateDirectory(_directory["sockets"]);
        await File.WriteAllBytesAsync(_directory["disk.img"], new byte[1 << 20]);
        using var daemon = new RunningProgram("serve", "-r", _directory["rpc"], "-S", _directory["sockets"]);
        await daemon.WaitForErrorTextAsync("[rpc] listening");
        string documentation = await File.ReadAllTextAsync(Repository.File("docs", "rpc.md"));
        using (var player = new ExchangePlayer(_directory["rpc"], new() { ["disk"] = _directory["disk.img"], ["sockets"] = _directory["sockets"] }))
        {
            foreach (Exchange step in ExchangeScript.Read(Path.Combine(s_scripts, script))) { player.Play(step, documentation); }
        }
        daemon.Signal(RunningProgram.SIGTERM);
        Assert.Equal(0, await daemon.WaitForEndAsync());
    }
}
