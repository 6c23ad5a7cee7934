using System.Net.Sockets;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;

namespace VhostFs.Commands;

/// <summary>QEMU's control socket (QMP): commands and their answers, and waiting for an event.</summary>
internal sealed class QmpClient : IDisposable
{
    private static readonly TimeSpan s_patience = TimeSpan.FromSeconds(30);

    private readonly Socket _socket;
    private readonly StreamReader _reader;
    private readonly List<JsonElement> _events = [];

    private QmpClient(Socket socket)
    {
        _socket = socket;
        _reader = new StreamReader(new NetworkStream(socket), Encoding.UTF8);
    }

    /// <exception cref="CommandException">Nobody listens there, or it is not QEMU.</exception>
    public static async Task<QmpClient> ConnectAsync(string path)
    {
        var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        try { await socket.ConnectAsync(new UnixDomainSocketEndPoint(path)); }
        catch (Exception e) when (e is SocketException or ArgumentException)
        {
            socket.Dispose();
            throw new CommandException($"cannot connect to {path}: {e.Message}");
        }
        var client = new QmpClient(socket);
        try
        {
            JsonElement greeting = await client.ReadAsync(s_patience) ?? throw new CommandException($"{path} says nothing: another program may be connected to this QMP socket");
            if (!greeting.TryGetProperty("QMP", out _)) { throw new CommandException($"{path} is not QEMU's QMP socket"); }
            await client.ExecuteAsync("qmp_capabilities", null);
            return client;
        }
        catch (CommandException)
        {
            client.Dispose();
            throw;
        }
    }

    /// <exception cref="CommandException">QEMU refuses; the message is QEMU's.</exception>
    public async Task<JsonElement> ExecuteAsync(string command, JsonObject? arguments)
    {
        var request = new JsonObject { ["execute"] = command };
        if (arguments is not null) { request["arguments"] = arguments; }
        await _socket.SendAsync(Encoding.UTF8.GetBytes(request.ToJsonString() + "\n"));
        while (await ReadAsync(s_patience) is { } answer)
        {
            if (answer.TryGetProperty("event", out _)) { _events.Add(answer); }
            else if (answer.TryGetProperty("error", out JsonElement error)) { throw new CommandException($"QEMU refuses {command}: {error.GetProperty("desc").GetString()}"); }
            else if (answer.TryGetProperty("return", out JsonElement result)) { return result; }
        }
        throw new CommandException($"QEMU does not answer {command}");
    }

    /// <summary>True when the device has gone; false when the time is up.</summary>
    public async Task<bool> WaitForDeletionAsync(string device, TimeSpan patience)
    {
        DateTime end = DateTime.UtcNow + patience;
        while (true)
        {
            if (_events.Exists(e => IsDeletion(e, device))) { return true; }
            TimeSpan left = end - DateTime.UtcNow;
            if (left <= TimeSpan.Zero || await ReadAsync(left) is not { } message) { return false; }
            if (message.TryGetProperty("event", out _)) { _events.Add(message); }
        }
    }

    public void Dispose()
    {
        _reader.Dispose();
        _socket.Dispose();
    }

    private static bool IsDeletion(JsonElement message, string device) =>
        message.GetProperty("event").GetString() == "DEVICE_DELETED" && message.TryGetProperty("data", out JsonElement data)
        && data.TryGetProperty("device", out JsonElement name) && name.GetString() == device;

    /// <summary>One message; null when none comes in time.</summary>
    private async Task<JsonElement?> ReadAsync(TimeSpan patience)
    {
        using var time = new CancellationTokenSource(patience);
        try
        {
            string line = await _reader.ReadLineAsync(time.Token) ?? throw new CommandException("QEMU has ended");
            using JsonDocument document = JsonDocument.Parse(line);
            return document.RootElement.ValueKind == JsonValueKind.Object ? document.RootElement.Clone() : throw new CommandException("QEMU's answer makes no sense");
        }
        catch (OperationCanceledException) { return null; }
        catch (JsonException e) { throw new CommandException($"QEMU's answer makes no sense: {e.Message}"); }
        catch (IOException e) { throw new CommandException($"the connection to QEMU is broken: {e.Message}"); }
    }
}
