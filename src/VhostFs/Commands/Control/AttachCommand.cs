using System.CommandLine;
using System.Globalization;
using System.Text.Json;
using System.Text.Json.Nodes;

namespace VhostFs.Commands;

/// <summary><c>vhostfs attach</c> and <c>detach</c>: a disk or a file system plugged into a running QEMU, and taken out again.</summary>
internal static class AttachCommand
{
    private static readonly TimeSpan s_guestTime = TimeSpan.FromSeconds(30);

    public static Command NewAttach(Terminal terminal)
    {
        var name = new Argument<string>("name") { Description = "A block device or a controller of the daemon; with --socket: how the device is to be called in QEMU" };
        Option<string> qmp = QmpOption(), bus = Declare.Text("--bus", "id", "Plug it in there (a q35 machine needs a pcie-root-port; default: QEMU chooses)");
        Option<string> fsSocket = Declare.Text("--socket", "path", "Plug in the file system that 'vhostfs serve' exports there"), tag = Declare.Text("--tag", "tag", "With --socket: the virtio-fs tag (default: NAME)");
        Option<long> queues = Declare.Count("--queues", "Number of request queues (default: 1)");
        Option<string> socket = ControlClient.SocketOption();
        var command = new Command("attach", "Plug a disk or a file system into a running QEMU") { name, qmp, bus, fsSocket, tag, queues, socket };
        command.SetAction((parsed, _) =>
        {
            string device = parsed.GetValue(name)!;
            var place = new Place(parsed.GetValue(qmp)!, parsed.GetValue(bus), Math.Max(parsed.GetValue(queues), 1));
            return parsed.GetValue(fsSocket) is { } path
                ? GuardAsync(terminal, () => PlugAsync(terminal, place, device, Path.GetFullPath(path), FileSystem(place, parsed.GetValue(tag) ?? device), reconnects: false))
                : ControlClient.RunAsync(terminal, parsed.GetValue(socket), daemon => AttachAsync(terminal, daemon, place, device));
        });
        return command;
    }

    public static Command NewDetach(Terminal terminal)
    {
        var name = new Argument<string>("name") { Description = "As it was attached" };
        Option<string> qmp = QmpOption();
        Option<bool> keep = Declare.Flag("--keep", "Keep the controller");
        Option<string> socket = ControlClient.SocketOption();
        var command = new Command("detach", "Take a disk or a file system out of a running QEMU") { name, qmp, keep, socket };
        command.SetAction((parsed, _) => GuardAsync(terminal, async () =>
        {
            string device = parsed.GetValue(name)!;
            await UnplugAsync(parsed.GetValue(qmp)!, device);
            return parsed.GetValue(keep) ? ExitCode.Ok : await ControlClient.RunAsync(terminal, parsed.GetValue(socket), daemon => DeleteControllerAsync(daemon, device));
        }));
        return command;
    }

    private static Option<string> QmpOption()
    {
        Option<string> option = Declare.Text("--qmp", "path", "QEMU's QMP socket (qemu -qmp unix:PATH,server=on,wait=off)");
        option.Required = true;
        return option;
    }

    private static async Task<int> GuardAsync(Terminal terminal, Func<Task<int>> work)
    {
        try { return await work(); }
        catch (CommandException e)
        {
            terminal.Fail(e.Message);
            return ExitCode.Failure;
        }
    }

    private static JsonObject FileSystem(Place place, string tag) =>
        new() { ["driver"] = "vhost-user-fs-pci", ["tag"] = tag, ["num-request-queues"] = place.Queues, ["queue-size"] = 1024 };

    /// <summary>By a controller of that name; when there is none, by one that is made for the bdev of that name.</summary>
    private static async Task<int> AttachAsync(Terminal terminal, ControlClient daemon, Place place, string name)
    {
        string controller = ControllerName(name);
        JsonElement? found = await FindControllerAsync(daemon, controller);
        bool isNew = found is null;
        if (isNew) { await daemon.CallAsync("vhost_create_blk_controller", new JsonObject { ["ctrlr"] = controller, ["dev_name"] = name }); }
        try
        {
            JsonElement shown = found ?? await FindControllerAsync(daemon, controller) ?? throw new CommandException($"controller '{controller}' has gone again");
            JsonElement backend = shown.GetProperty("backend_specific");
            bool isFs = backend.TryGetProperty("fs", out JsonElement fs), isScsi = backend.TryGetProperty("scsi", out _);
            JsonObject device = isFs ? FileSystem(place, fs.GetProperty("tag").GetString()!)
                : new JsonObject { ["driver"] = isScsi ? "vhost-user-scsi-pci" : "vhost-user-blk-pci", [isScsi ? "num_queues" : "num-queues"] = place.Queues };
            return await PlugAsync(terminal, place, name, shown.GetProperty("socket").GetString()!, device, reconnects: !isFs);
        }
        catch (CommandException) when (isNew)
        {
            await DeleteControllerAsync(daemon, name);
            throw;
        }
    }

    private static async Task<int> PlugAsync(Terminal terminal, Place place, string name, string socket, JsonObject device, bool reconnects)
    {
        using QmpClient qemu = await QmpClient.ConnectAsync(place.Qmp);
        string id = DeviceId(name), chardev = id + "-socket";
        await AddChardevAsync(qemu, chardev, socket, reconnects);
        device["id"] = id;
        device["chardev"] = chardev;
        if (place.Bus is not null) { device["bus"] = place.Bus; }
        try { await qemu.ExecuteAsync("device_add", device); }
        catch (CommandException)
        {
            await qemu.ExecuteAsync("chardev-remove", new JsonObject { ["id"] = chardev });
            throw;
        }
        terminal.Output.WriteLine(id);
        return ExitCode.Ok;
    }

    // With reconnection a disk outlives a restart of the daemon. QEMU 10 counts in ms, older ones do not know that.
    private static async Task AddChardevAsync(QmpClient qemu, string id, string socket, bool reconnects)
    {
        JsonObject Backend(string? option, int value)
        {
            var data = new JsonObject { ["addr"] = new JsonObject { ["type"] = "unix", ["data"] = new JsonObject { ["path"] = socket } }, ["server"] = false };
            if (option is not null) { data[option] = value; }
            return new JsonObject { ["id"] = id, ["backend"] = new JsonObject { ["type"] = "socket", ["data"] = data } };
        }
        if (!reconnects)
        {
            await qemu.ExecuteAsync("chardev-add", Backend(null, 0));
            return;
        }
        try { await qemu.ExecuteAsync("chardev-add", Backend("reconnect-ms", 1000)); }
        catch (CommandException e) when (e.Message.Contains("reconnect-ms", StringComparison.Ordinal)) { await qemu.ExecuteAsync("chardev-add", Backend("reconnect", 1)); }
    }

    private static async Task UnplugAsync(string path, string name)
    {
        using QmpClient qemu = await QmpClient.ConnectAsync(path);
        string id = DeviceId(name);
        await qemu.ExecuteAsync("device_del", new JsonObject { ["id"] = id });
        if (!await qemu.WaitForDeletionAsync(id, s_guestTime))
        {
            throw new CommandException(string.Create(CultureInfo.InvariantCulture, $"the guest has not let go of {id} in {s_guestTime.TotalSeconds:0} s; unmount what is on it there, and try again"));
        }
        await qemu.ExecuteAsync("chardev-remove", new JsonObject { ["id"] = id + "-socket" });
    }

    private static async Task<int> DeleteControllerAsync(ControlClient daemon, string name)
    {
        string controller = ControllerName(name);
        if (await FindControllerAsync(daemon, controller) is not null) { await daemon.CallAsync("vhost_delete_controller", new JsonObject { ["ctrlr"] = controller }); }
        return ExitCode.Ok;
    }

    private static async Task<JsonElement?> FindControllerAsync(ControlClient daemon, string controller)
    {
        foreach (JsonElement shown in (await daemon.CallAsync("vhost_get_controllers")).EnumerateArray())
        {
            if (shown.GetProperty("ctrlr").GetString() == controller) { return shown; }
        }
        return null;
    }

    // A socket has no '/' in its name: a logical volume's STORE/NAME does.
    private static string ControllerName(string name) => name.Replace('/', '-');

    /// <summary>QEMU takes letters, digits, '-', '.' and '_', a letter first.</summary>
    private static string DeviceId(string name) => "vhostfs-" + string.Concat(name.Select(c => char.IsAsciiLetterOrDigit(c) || c is '-' or '.' or '_' ? c : '-'));

    private sealed record Place(string Qmp, string? Bus, long Queues);
}
