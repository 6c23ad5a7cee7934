using System.CommandLine;
using VhostFs.Config;
using VhostFs.Hosting;

namespace VhostFs.Commands;

/// <summary><c>vhostfs serve</c>: the daemon, in the foreground.</summary>
internal static class ServeCommand
{
    public static Command New(Terminal terminal)
    {
        var options = new ServeOptions();
        var command = new Command("serve", "Serve volumes to virtual machines, until SIGTERM");
        options.AddTo(command);
        command.SetAction((parsed, _) => RunAsync(terminal, options, parsed));
        return command;
    }

    private static async Task<int> RunAsync(Terminal terminal, ServeOptions options, ParseResult parsed)
    {
        if (parsed.GetValue(options.PrintCapabilities)) { return Capabilities.Print(terminal.Output); }
        var errors = new List<ConfigError>();
        var notes = new List<string>();
        ServeConfig? config = options.Read(parsed, errors, notes);
        if (config is null)
        {
            foreach (ConfigError error in errors) { terminal.Fail(error.ToString()); }
            return ExitCode.Usage;
        }
        if (parsed.GetValue(options.CheckConfig))
        {
            terminal.Output.WriteLine($"the configuration is right: {config.Pools.Count} pools, {config.Exports.Count} exports");
            return ExitCode.Ok;
        }
        var log = new Log(terminal.Error, config.LogLevel ?? LogLevel.Info);
        foreach (string note in notes) { log.Info("", note); }
        return await Daemon.RunAsync(config, log, terminal.Output);
    }
}
