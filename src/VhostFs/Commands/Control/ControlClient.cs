using System.CommandLine;
using System.Net.Sockets;
using System.Text.Json;
using System.Text.Json.Nodes;
using VhostFs.Rpc;

namespace VhostFs.Commands;

/// <summary>What the commands have in common that speak to a running daemon: finding it, calling it, and saying what went wrong.</summary>
internal sealed class ControlClient : IDisposable
{
    private readonly RpcClient _client;

    private ControlClient(RpcClient client) => _client = client;

    public static Option<string> SocketOption() => Declare.Text("--rpc-socket", "path", "Control socket of the daemon (default: of the only one that runs here)", "-r");

    /// <summary><c>list</c>: what a method answers, as it is or as a table.</summary>
    /// <param name="rows">The first is the heading.</param>
    public static Command NewList(Terminal terminal, string description, string method, Func<JsonElement, IReadOnlyList<string[]>> rows)
    {
        Option<bool> json = Declare.Json();
        Option<string> socket = SocketOption();
        var command = new Command("list", description) { json, socket };
        command.SetAction((parsed, _) => RunAsync(terminal, parsed.GetValue(socket), async daemon =>
        {
            JsonElement answer = await daemon.CallAsync(method);
            if (parsed.GetValue(json)) { terminal.WriteJson(answer.WriteTo); }
            else { terminal.WriteTable(rows(answer)); }
            return ExitCode.Ok;
        }));
        return command;
    }

    /// <summary>Connects, works and ends with the command's exit status.</summary>
    public static async Task<int> RunAsync(Terminal terminal, string? socket, Func<ControlClient, Task<int>> work)
    {
        try
        {
            if ((socket is { Length: > 0 } ? RpcClient.TryConnect(socket, 0, out string error) : TryFind(out error)) is not { } client)
            {
                terminal.Fail(error);
                return ExitCode.Failure;
            }
            using var control = new ControlClient(client);
            return await work(control);
        }
        catch (CommandException e) { terminal.Fail(e.Message); }
        catch (SocketException e) { terminal.Fail($"the connection to the daemon is broken: {e.Message}"); }
        return ExitCode.Failure;
    }

    /// <exception cref="CommandException">The daemon refuses; the message says what.</exception>
    public async Task<JsonElement> CallAsync(string method, JsonObject? parameters = null)
    {
        try { return await _client.CallAsync(method, parameters ?? [], [], CancellationToken.None); }
        catch (RpcException e) when (e.Code == RpcErrorCode.MethodNotFound) { throw new CommandException($"the daemon does not know {method}; it is older than this program, or serves something else"); }
        catch (RpcException e) { throw new CommandException($"{method}: {e.Message}; the daemon's log says more"); }
    }

    public void Dispose() => _client.Dispose();

    private static RpcClient? TryFind(out string error)
    {
        var found = new List<(string Path, RpcClient Client)>();
        foreach (string path in RuntimeDirectory.FindAll())
        {
            if (RpcClient.TryConnect(path, 0, out _) is { } client) { found.Add((path, client)); }
        }
        error = found.Count == 0
            ? "no daemon with a control socket runs here; start one with 'vhostfs serve', or give --rpc-socket if it listens elsewhere"
            : $"several daemons run here: {string.Join(", ", found.Select(f => f.Path))}; say which with --rpc-socket";
        if (found.Count == 1) { return found[0].Client; }
        foreach ((_, RpcClient client) in found) { client.Dispose(); }
        return null;
    }
}

/// <summary>A command cannot do what it was asked; the message is for the user.</summary>
internal sealed class CommandException(string message) : Exception(message);
