using System.Text.Json;
using VhostFs.Rpc;

namespace VhostFs.Block;

/// <summary>A configuration as SPDK's clients save it: calls, by subsystem, that are made once more at the start.</summary>
internal static class SavedConfig
{
    /// <summary>Makes the calls in their order; null, or what went wrong with the first that fails. Methods that are not known here are left out, and named in the log.</summary>
    public static async Task<string?> LoadAsync(string path, IReadOnlyDictionary<string, RpcMethod> methods, Log log)
    {
        JsonDocument document;
        try { document = JsonDocument.Parse(await File.ReadAllBytesAsync(path)); }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or JsonException) { return $"{path} cannot be read: {e.Message}"; }
        using (document)
        {
            int made = 0, index = 0;
            foreach ((string method, JsonElement parameters) in Calls(document.RootElement))
            {
                index++;
                if (!methods.TryGetValue(method, out RpcMethod? known))
                {
                    log.Warn("rpc", $"{path}: {method} is not known here, and left out");
                    continue;
                }
                try { await known(new RpcCall(method, parameters, null)); }
                // Which call, and not its parameters: there may be keys among them.
                catch (RpcException e) { return $"{path}: call {index}, {method}: {e.Message}{(e.Reason.Length > 0 ? $" ({e.Reason})" : "")}"; }
                made++;
            }
            log.Info("rpc", $"{path}: {made} calls made");
            return null;
        }
    }

    private static IEnumerable<(string Method, JsonElement Parameters)> Calls(JsonElement root)
    {
        if (root.ValueKind != JsonValueKind.Object || !root.TryGetProperty("subsystems", out JsonElement subsystems) || subsystems.ValueKind != JsonValueKind.Array) { yield break; }
        foreach (JsonElement subsystem in subsystems.EnumerateArray())
        {
            if (subsystem.ValueKind != JsonValueKind.Object || !subsystem.TryGetProperty("config", out JsonElement config) || config.ValueKind != JsonValueKind.Array) { continue; }
            foreach (JsonElement call in config.EnumerateArray())
            {
                if (call.ValueKind != JsonValueKind.Object || !call.TryGetProperty("method", out JsonElement method) || method.ValueKind != JsonValueKind.String) { continue; }
                yield return (method.GetString()!, call.TryGetProperty("params", out JsonElement parameters) ? parameters : default);
            }
        }
    }
}
