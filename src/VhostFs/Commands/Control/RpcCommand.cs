using System.CommandLine;
using System.Text.Json;
using System.Text.Json.Nodes;

namespace VhostFs.Commands;

/// <summary><c>vhostfs rpc METHOD [PARAMETERS]</c>: any call to a running daemon.</summary>
internal static class RpcCommand
{
    private static readonly JsonSerializerOptions s_indented = new() { WriteIndented = true };

    public static Command New(Terminal terminal)
    {
        var method = new Argument<string>("method") { Description = "Name of the method; rpc_get_methods lists them" };
        var parameters = new Argument<string?>("parameters") { Description = "JSON object", Arity = ArgumentArity.ZeroOrOne };
        Option<string> socket = ControlClient.SocketOption();
        var command = new Command("rpc", "Call a method of a running daemon, and print its result as JSON") { method, parameters, socket };
        command.SetAction((parsed, _) => ControlClient.RunAsync(terminal, parsed.GetValue(socket), async daemon =>
        {
            JsonElement result = await daemon.CallAsync(parsed.GetValue(method)!, Parse(parsed.GetValue(parameters)));
            terminal.Output.WriteLine(JsonSerializer.Serialize(result, s_indented));
            return ExitCode.Ok;
        }));
        return command;
    }

    private static JsonObject Parse(string? text)
    {
        try { return text is null ? [] : JsonNode.Parse(text) as JsonObject ?? throw new CommandException("the parameters must be a JSON object, such as '{\"name\": \"Malloc0\"}'"); }
        catch (JsonException e) { throw new CommandException($"the parameters are not JSON: {e.Message}"); }
    }
}
