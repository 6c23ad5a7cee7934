using System.Text.Json.Nodes;

namespace VhostFs.Block;

/// <summary>A call that makes something again as it is now, <c>{"method", "params"}</c>: what clients keep with save_config, and send back.</summary>
internal static class SavedCall
{
    public static JsonObject Of(string method, JsonObject parameters) => new() { ["method"] = method, ["params"] = parameters };

    /// <summary>The call that has made a bdev, with what it left to us: its UUID, its name if any would do, and the size that it has now.</summary>
    public static JsonObject Of(string method, JsonObject made, RegisteredBdev bdev)
    {
        JsonObject parameters = made.DeepClone().AsObject();
        if (bdev.Module != BdevModule.Split) { parameters["uuid"] = bdev.Uuid; }
        if (bdev.Module == BdevModule.Malloc) { parameters["name"] = bdev.Name; }
        if (parameters.ContainsKey("num_blocks")) { parameters["num_blocks"] = bdev.Bdev.SizeBytes / bdev.Bdev.BlockSize; }
        return Of(method, parameters);
    }
}
