using System.Text.Json.Nodes;
using VhostFs.Rpc;

namespace VhostFs.Block;

/// <summary>A call that makes something again as it is now: what clients keep with save_config, and send back.</summary>
internal sealed record SavedCall(string Method, JsonObject Parameters)
{
    /// <summary>The call that has made a bdev, with what it left to us: its UUID, and its name if it was to have any.</summary>
    public static SavedCall Of(RpcCall call, RegisteredBdev bdev)
    {
        JsonObject parameters = JsonNode.Parse(call.Parameters.GetRawText())!.AsObject();
        parameters["uuid"] = bdev.Uuid;
        if (bdev.Module == BdevModule.Malloc) { parameters["name"] = bdev.Name; }
        return new SavedCall(call.Method, parameters);
    }

    /// <summary>As {"method", "params"}, with the size that the bdev has now.</summary>
    public JsonObject ToJson(RegisteredBdev bdev)
    {
        JsonObject json = ToJson();
        if (Parameters.ContainsKey("num_blocks")) { json["params"]!["num_blocks"] = bdev.Bdev.SizeBytes / bdev.Bdev.BlockSize; }
        return json;
    }

    public JsonObject ToJson() => new() { ["method"] = Method, ["params"] = Parameters.DeepClone() };
}
