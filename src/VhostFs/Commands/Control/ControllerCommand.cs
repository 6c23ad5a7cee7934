using System.CommandLine;
using System.Text.Json;
using System.Text.Json.Nodes;

namespace VhostFs.Commands;

/// <summary><c>vhostfs controller list|create|delete</c>: what a running daemon shows to VMs.</summary>
internal static class ControllerCommand
{
    public static Command New(Terminal terminal) => new("controller", "Make, list and delete the vhost-user controllers of a running daemon")
    {
        ControlClient.NewList(terminal, "List the controllers", "vhost_get_controllers", Rows),
        NewCreate(terminal),
        NewDelete(terminal),
    };

    private static Command NewCreate(Terminal terminal)
    {
        var name = new Argument<string>("name") { Description = "Name of the controller, and of its socket" };
        var bdev = new Argument<string>("bdev") { Description = "The block device that it shows" };
        Option<bool> readOnly = Declare.Flag("--readonly", "Refuse every change");
        Option<string> socket = ControlClient.SocketOption();
        var command = new Command("create", "Show a block device as a disk: vhost-user-blk") { name, bdev, readOnly, socket };
        command.SetAction((parsed, _) => ControlClient.RunAsync(terminal, parsed.GetValue(socket), async daemon =>
        {
            await daemon.CallAsync("vhost_create_blk_controller", new JsonObject { ["ctrlr"] = parsed.GetValue(name), ["dev_name"] = parsed.GetValue(bdev), ["readonly"] = parsed.GetValue(readOnly) });
            JsonElement controller = (await daemon.CallAsync("vhost_get_controllers", new JsonObject { ["name"] = parsed.GetValue(name) }))[0];
            terminal.Output.WriteLine(controller.GetProperty("socket").GetString());
            return ExitCode.Ok;
        }));
        return command;
    }

    private static Command NewDelete(Terminal terminal)
    {
        var name = new Argument<string>("name") { Description = "Name of the controller" };
        Option<string> socket = ControlClient.SocketOption();
        var command = new Command("delete", "Delete a controller to which no VM is connected") { name, socket };
        command.SetAction((parsed, _) => ControlClient.RunAsync(terminal, parsed.GetValue(socket), async daemon =>
        {
            await daemon.CallAsync("vhost_delete_controller", new JsonObject { ["ctrlr"] = parsed.GetValue(name) });
            return ExitCode.Ok;
        }));
        return command;
    }

    private static List<string[]> Rows(JsonElement controllers)
    {
        var rows = new List<string[]> { (string[])["NAME", "SHOWS", "VM", "SOCKET"] };
        foreach (JsonElement controller in controllers.EnumerateArray())
        {
            rows.Add([controller.GetProperty("ctrlr").GetString()!, Shown(controller.GetProperty("backend_specific")), controller.GetProperty("sessions").GetArrayLength() > 0 ? "connected" : "-", controller.GetProperty("socket").GetString()!]);
        }
        return rows;
    }

    private static string Shown(JsonElement backend)
    {
        if (backend.TryGetProperty("block", out JsonElement block)) { return block.GetProperty("bdev").GetString() ?? "nothing any more"; }
        if (backend.TryGetProperty("fs", out JsonElement fs)) { return fs.GetProperty("volume").GetString()!; }
        return backend.TryGetProperty("scsi", out JsonElement targets)
            ? string.Join(", ", targets.EnumerateArray().SelectMany(t => t.GetProperty("luns").EnumerateArray()).Select(l => l.GetProperty("bdev_name").GetString()))
            : "";
    }
}
