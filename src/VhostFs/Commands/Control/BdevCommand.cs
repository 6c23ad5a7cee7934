using System.CommandLine;
using System.Text.Json;
using System.Text.Json.Nodes;

namespace VhostFs.Commands;

/// <summary><c>vhostfs bdev list|create|delete</c>: the block devices of a running daemon.</summary>
internal static class BdevCommand
{
    private const int DefaultBlockSize = 4096;

    /// <summary>The module in the name of its methods, by what bdev_get_bdevs calls its bdevs.</summary>
    private static readonly Dictionary<string, string> s_modules = new(StringComparer.Ordinal)
    {
        ["Malloc disk"] = "malloc",
        ["Null disk"] = "null",
        ["AIO disk"] = "aio",
        ["URING bdev"] = "uring",
        ["Logical Volume"] = "lvol",
        ["Error Injection Disk"] = "error",
        ["Split Disk"] = "split",
        ["Raid Volume"] = "raid",
    };

    public static Command New(Terminal terminal) => new("bdev", "Make, list and delete the block devices of a running daemon")
    {
        ControlClient.NewList(terminal, "List the block devices", "bdev_get_bdevs", Rows),
        NewCreate(terminal),
        NewDelete(terminal),
    };

    private static Command NewCreate(Terminal terminal)
    {
        var kind = new Argument<string>("kind") { Description = "malloc, null, uring, aio or lvol" };
        var name = new Argument<string>("name") { Description = "Name of the block device; STORE/NAME of a logical volume" };
        Option<long> size = Declare.Size("--size", "Size of a malloc, null or lvol bdev, such as 64M");
        Option<string> file = Declare.Text("--file", "path", "File or device of a uring or aio bdev");
        Option<long> blockSize = Declare.Count("--block-size", "512 or 4096 bytes (default: 4096; the device's own for a device)");
        Option<string> socket = ControlClient.SocketOption();
        kind.AcceptOnlyFromAmong("malloc", "null", "uring", "aio", "lvol");
        var command = new Command("create", "Make a block device (other modules: 'vhostfs rpc bdev_MODULE_create')") { kind, name, size, file, blockSize, socket };
        command.SetAction((parsed, _) => ControlClient.RunAsync(terminal, parsed.GetValue(socket), async daemon =>
        {
            (string method, JsonObject parameters) = Creation(parsed.GetValue(kind)!, parsed.GetValue(name)!, parsed.GetValue(size), parsed.GetValue(file), parsed.GetValue(blockSize));
            terminal.Output.WriteLine((await daemon.CallAsync(method, parameters)).GetString());
            return ExitCode.Ok;
        }));
        return command;
    }

    private static Command NewDelete(Terminal terminal)
    {
        var name = new Argument<string>("name") { Description = "Name, alias or UUID of the block device" };
        Option<string> socket = ControlClient.SocketOption();
        var command = new Command("delete", "Delete a block device; a file stays as it is, a logical volume is lost") { name, socket };
        command.SetAction((parsed, _) => ControlClient.RunAsync(terminal, parsed.GetValue(socket), async daemon =>
        {
            JsonElement bdev = (await daemon.CallAsync("bdev_get_bdevs", new JsonObject { ["name"] = parsed.GetValue(name) }))[0];
            string product = bdev.GetProperty("product_name").GetString()!;
            await daemon.CallAsync($"bdev_{s_modules.GetValueOrDefault(product, product)}_delete", new JsonObject { ["name"] = bdev.GetProperty("name").GetString() });
            return ExitCode.Ok;
        }));
        return command;
    }

    private static (string Method, JsonObject Parameters) Creation(string kind, string name, long size, string? file, long blockSize)
    {
        bool hasFile = kind is "uring" or "aio";
        if (hasFile && file is null) { throw new CommandException($"say which file or device: --file PATH"); }
        if (!hasFile && size == 0) { throw new CommandException("say how large it is to be: --size 64M, for example"); }
        if (kind == "lvol")
        {
            const long mib = 1 << 20;
            int slash = name.IndexOf('/', StringComparison.Ordinal);
            if (slash < 0) { throw new CommandException($"'{name}' is no logical volume; write STORE/NAME"); }
            return ("bdev_lvol_create", new JsonObject { ["lvs_name"] = name[..slash], ["lvol_name"] = name[(slash + 1)..], ["size_in_mib"] = (size + mib - 1) / mib });
        }
        var parameters = new JsonObject { ["name"] = name };
        if (hasFile)
        {
            parameters["filename"] = Path.GetFullPath(file!);
            if (blockSize > 0) { parameters["block_size"] = blockSize; }
        }
        else
        {
            long block = blockSize > 0 ? blockSize : DefaultBlockSize;
            parameters["block_size"] = block;
            parameters["num_blocks"] = size / block;
        }
        return ($"bdev_{kind}_create", parameters);
    }

    private static List<string[]> Rows(JsonElement bdevs)
    {
        var rows = new List<string[]> { (string[])["NAME", "ALIAS", "KIND", "SIZE", "BLOCK", "IN USE"] };
        foreach (JsonElement bdev in bdevs.EnumerateArray())
        {
            int block = bdev.GetProperty("block_size").GetInt32();
            string alias = bdev.GetProperty("aliases")[0].GetString()!, product = bdev.GetProperty("product_name").GetString()!;
            rows.Add([bdev.GetProperty("name").GetString()!, alias, s_modules.GetValueOrDefault(product, product), Sizes.Human(bdev.GetProperty("num_blocks").GetInt64() * block), $"{block} B", bdev.GetProperty("claimed").GetBoolean() ? "yes" : "no"]);
        }
        return rows;
    }
}
