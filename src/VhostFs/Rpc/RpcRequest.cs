using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Nodes;

namespace VhostFs.Rpc;

/// <summary>What JSON-RPC 2.0 says of requests and answers: members, ids, notifications, batches.</summary>
internal static class RpcRequest
{
    private const string Version = "2.0";

    // As SPDK writes: quotes in messages and signs in paths as they are, for those who search the answer as text.
    private static readonly JsonSerializerOptions s_plain = new() { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    /// <summary>The answer to one request or batch; null when none is due.</summary>
    public static async Task<byte[]?> AnswerAsync(ReadOnlyMemory<byte> text, IReadOnlyDictionary<string, RpcMethod> methods, RpcStream stream, Log log)
    {
        JsonDocument document;
        try { document = JsonDocument.Parse(text); }
        catch (JsonException e) { return Error(default, RpcErrorCode.ParseError, e.Message); }
        using (document)
        {
            if (document.RootElement.ValueKind != JsonValueKind.Array) { return ToBytes(await AnswerOneAsync(document.RootElement, methods, stream, log)); }
            if (document.RootElement.GetArrayLength() == 0) { return Error(default, RpcErrorCode.InvalidRequest, "a batch without requests"); }
            var answers = new JsonArray();
            foreach (JsonElement request in document.RootElement.EnumerateArray())
            {
                if (await AnswerOneAsync(request, methods, stream, log) is { } answer) { answers.Add(answer); }
            }
            return answers.Count == 0 ? null : ToBytes(answers);
        }
    }

    public static byte[] Error(JsonElement id, int code, string message) => ToBytes(ErrorNode(id, code, message))!;

    public static byte[] Call(int id, string method, JsonObject parameters) =>
        ToBytes(new JsonObject { ["jsonrpc"] = Version, ["id"] = id, ["method"] = method, ["params"] = parameters })!;

    private static async Task<JsonObject?> AnswerOneAsync(JsonElement request, IReadOnlyDictionary<string, RpcMethod> methods, RpcStream stream, Log log)
    {
        if (request.ValueKind != JsonValueKind.Object) { return ErrorNode(default, RpcErrorCode.InvalidRequest, "a request is an object"); }
        bool wantsAnswer = request.TryGetProperty("id", out JsonElement id);
        if (wantsAnswer && id.ValueKind is not (JsonValueKind.String or JsonValueKind.Number or JsonValueKind.Null))
        {
            return ErrorNode(default, RpcErrorCode.InvalidRequest, "'id' must be a text, a number or null");
        }
        JsonObject? answer = await CallAsync(request, id, methods, stream, log);
        return wantsAnswer ? answer : null;
    }

    private static async Task<JsonObject> CallAsync(JsonElement request, JsonElement id, IReadOnlyDictionary<string, RpcMethod> methods, RpcStream stream, Log log)
    {
        // It may be left out: SPDK lets it be.
        if (request.TryGetProperty("jsonrpc", out JsonElement version) && (version.ValueKind != JsonValueKind.String || version.GetString() != Version))
        {
            return ErrorNode(id, RpcErrorCode.InvalidRequest, "'jsonrpc' must be \"2.0\"");
        }
        if (!request.TryGetProperty("method", out JsonElement name) || name.ValueKind != JsonValueKind.String) { return ErrorNode(id, RpcErrorCode.InvalidRequest, "'method' must be a text"); }
        if (request.TryGetProperty("params", out JsonElement parameters) && parameters.ValueKind is not (JsonValueKind.Object or JsonValueKind.Array or JsonValueKind.Null))
        {
            return ErrorNode(id, RpcErrorCode.InvalidRequest, "'params' must be an object or a list");
        }
        if (!methods.TryGetValue(name.GetString()!, out RpcMethod? method)) { return ErrorNode(id, RpcErrorCode.MethodNotFound, "Method not found"); }
#pragma warning disable CA1031 // whatever escapes is a bug of that method: it must not end the connection of its caller, nor the process
        try { return new JsonObject { ["jsonrpc"] = Version, ["id"] = Id(id), ["result"] = JsonSerializer.SerializeToNode(await method(new RpcCall(name.GetString()!, parameters, stream))) }; }
        catch (RpcException e)
        {
            if (e.Reason.Length > 0) { log.Info("rpc", $"{name.GetString()}: {e.Reason}"); }
            return ErrorNode(id, e.Code, e.Message);
        }
        catch (Exception bug)
        {
            log.Error("rpc", $"a bug, please report it: {bug}");
            return ErrorNode(id, RpcErrorCode.InternalError, "a bug; the daemon's log says more");
        }
#pragma warning restore CA1031
    }

    private static JsonObject ErrorNode(JsonElement id, int code, string message) =>
        new() { ["jsonrpc"] = Version, ["id"] = Id(id), ["error"] = new JsonObject { ["code"] = code, ["message"] = message } };

    // As it came: a number may be larger than any type of ours.
    private static JsonNode? Id(JsonElement id) => id.ValueKind is JsonValueKind.Undefined or JsonValueKind.Null ? null : JsonNode.Parse(id.GetRawText());

    // The line end is for people with netcat; clients find the end of a value themselves.
    private static byte[]? ToBytes(JsonNode? node) => node is null ? null : [.. JsonSerializer.SerializeToUtf8Bytes(node, s_plain), (byte)'\n'];
}
