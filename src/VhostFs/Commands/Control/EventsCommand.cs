using System.CommandLine;
using System.Text.Json;
using System.Text.Json.Nodes;

namespace VhostFs.Commands;

/// <summary><c>vhostfs events</c>: what comes and goes in a running daemon, as it happens.</summary>
internal static class EventsCommand
{
    private const int WaitMs = 600_000;

    public static Command New(Terminal terminal)
    {
        Option<bool> past = Declare.Flag("--past", "Print what has happened, and end");
        Option<bool> json = Declare.Json();
        Option<string> socket = ControlClient.SocketOption();
        var command = new Command("events", "Print what comes and goes in a running daemon, until it ends") { past, json, socket };
        command.SetAction((parsed, _) => ControlClient.RunAsync(terminal, parsed.GetValue(socket), async daemon =>
        {
            ulong next = 0;
            do
            {
                JsonElement events = await daemon.CallAsync("notify_get_notifications", new JsonObject { ["id"] = next, ["timeout"] = parsed.GetValue(past) ? 0 : WaitMs });
                foreach (JsonElement happened in events.EnumerateArray())
                {
                    terminal.Output.WriteLine(parsed.GetValue(json) ? happened.GetRawText() : $"{happened.GetProperty("type").GetString()} {happened.GetProperty("ctx").GetString()}");
                    next = happened.GetProperty("id").GetUInt64() + 1;
                }
                terminal.Output.Flush();
            }
            while (!parsed.GetValue(past));
            return ExitCode.Ok;
        }));
        return command;
    }
}
