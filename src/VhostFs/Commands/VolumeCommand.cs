using System.CommandLine;
using System.Globalization;
using System.Text.Json;
using VhostFs.Blobstore;
using VhostFs.Config;
using VhostFs.Linux;
using VhostFs.Reactor;

namespace VhostFs.Commands;

/// <summary><c>vhostfs volume create|list|set-quota|delete</c>.</summary>
internal static class VolumeCommand
{
    public static Command New(Terminal terminal) => new("volume", "Make, list and delete the volumes of a pool")
    {
        NewCreate(terminal),
        NewList(terminal),
        NewSetQuota(terminal),
        NewDelete(terminal),
    };

    public static void WriteVolumes(Utf8JsonWriter writer, Pool pool)
    {
        writer.WriteStartArray();
        foreach (VolumeInfo volume in pool.Volumes)
        {
            writer.WriteStartObject();
            writer.WriteString("name", volume.Name);
            writer.WriteNumber("id", volume.Id);
            writer.WriteString("uuid", volume.Uuid);
            writer.WriteString("created", volume.Created.ToString("yyyy-MM-dd'T'HH:mm:ss'Z'", CultureInfo.InvariantCulture));
            writer.WriteNumber("allocated_bytes", volume.AllocatedBytes);
            if (volume.Quota.Blocks > 0) { writer.WriteNumber("quota_bytes", volume.Quota.Blocks * BlobData.BlockBytes); }
            if (volume.Quota.Inodes > 0) { writer.WriteNumber("quota_inodes", volume.Quota.Inodes); }
            writer.WriteEndObject();
        }
        writer.WriteEndArray();
    }

    private static Argument<string> NameArgument()
    {
        var argument = new Argument<string>("name") { Description = "Name of the volume" };
        argument.Validators.Add(result =>
        {
            if (result.Tokens.Count > 0 && ConfigCheck.VolumeNameError(result.Tokens[0].Value) is { } error) { result.AddError(error); }
        });
        return argument;
    }

    private static Command NewCreate(Terminal terminal)
    {
        Argument<string> path = PoolCommand.PathArgument(), name = NameArgument();
        Option<bool> noChecksums = Declare.Flag("--no-data-checksums", "Do not checksum file contents (metadata always is)");
        Option<long> logSize = Declare.Size("--log-size", "Size of the volume's log (default: by the size of the pool, 1M to 16M)");
        Option<long> quota = Declare.Size("--quota", "The most that files may hold (default: what the pool has)");
        Option<long> inodes = Declare.Count("--inodes", "The most files and directories (default: no limit)");
        var command = new Command("create", "Make an empty volume") { path, name, noChecksums, logSize, quota, inodes };
        command.SetAction(parsed =>
        {
            var options = new VolumeOptions { DataChecksums = !parsed.GetValue(noChecksums), LogBytes = (int)Math.Min(parsed.GetValue(logSize), 1 << 30), Quota = Quota(parsed.GetValue(quota), parsed.GetValue(inodes)) };
            return PoolTask.WithPool(terminal, Path.GetFullPath(parsed.GetValue(path)!), pool => CreateAsync(terminal, pool, parsed.GetValue(name)!, options));
        });
        return command;
    }

    private static Command NewList(Terminal terminal)
    {
        Argument<string> path = PoolCommand.PathArgument();
        Option<bool> json = Declare.Json();
        var command = new Command("list", "List the volumes of a pool") { path, json };
        command.SetAction(parsed => PoolTask.WithPool(terminal, Path.GetFullPath(parsed.GetValue(path)!), pool =>
        {
            if (parsed.GetValue(json)) { terminal.WriteJson(writer => WriteVolumes(writer, pool)); }
            else { WriteTable(terminal, pool); }
            return new IoTask<int>(ExitCode.Ok);
        }));
        return command;
    }

    private static Command NewSetQuota(Terminal terminal)
    {
        Argument<string> path = PoolCommand.PathArgument(), name = NameArgument();
        Option<long> quota = Declare.Size("--quota", "The most that files may hold; not given: what the pool has");
        Option<long> inodes = Declare.Count("--inodes", "The most files and directories; not given: no limit");
        var command = new Command("set-quota", "Limit what a volume may hold, or lift the limits; the pool must not be served") { path, name, quota, inodes };
        command.SetAction(parsed =>
        {
            VolumeQuota limits = Quota(parsed.GetValue(quota), parsed.GetValue(inodes));
            return PoolTask.WithPool(terminal, Path.GetFullPath(parsed.GetValue(path)!), pool => SetQuotaAsync(terminal, pool, parsed.GetValue(name)!, limits));
        });
        return command;
    }

    // A part of a block is no block.
    private static VolumeQuota Quota(long bytes, long inodes) => new(bytes == 0 ? 0 : Math.Max(bytes / BlobData.BlockBytes, 1), inodes);

    private static Command NewDelete(Terminal terminal)
    {
        Argument<string> path = PoolCommand.PathArgument(), name = NameArgument();
        var command = new Command("delete", "Delete a volume and everything in it") { path, name };
        command.SetAction(parsed => PoolTask.WithPool(terminal, Path.GetFullPath(parsed.GetValue(path)!), pool => DeleteAsync(terminal, pool, parsed.GetValue(name)!)));
        return command;
    }

    private static async IoTask<int> CreateAsync(Terminal terminal, Pool pool, string name, VolumeOptions options)
    {
        OpenResult<Volume> created = await pool.CreateVolumeAsync(name, options);
        if (!created.IsError) { return ExitCode.Ok; }
        terminal.Fail(created.Error!);
        return ExitCode.Failure;
    }

    private static async IoTask<int> SetQuotaAsync(Terminal terminal, Pool pool, string name, VolumeQuota quota)
    {
        Errno set = await pool.SetQuotaAsync(name, quota);
        if (set == Errno.None) { return ExitCode.Ok; }
        terminal.Fail(set == Errno.ENOENT
            ? $"no such volume '{name}'; the pool has {ConfigCheck.Names(pool.Volumes.Select(v => v.Name))}"
            : $"the limits of volume '{name}' cannot be set: {set}");
        return ExitCode.Failure;
    }

    private static async IoTask<int> DeleteAsync(Terminal terminal, Pool pool, string name)
    {
        Errno deleted = await pool.DeleteVolumeAsync(name);
        if (deleted == Errno.None) { return ExitCode.Ok; }
        terminal.Fail(deleted == Errno.ENOENT
            ? $"no such volume '{name}'; the pool has {ConfigCheck.Names(pool.Volumes.Select(v => v.Name))}"
            : $"volume '{name}' cannot be deleted: {deleted}");
        return ExitCode.Failure;
    }

    private static void WriteTable(Terminal terminal, Pool pool)
    {
        var rows = new List<string[]> { (string[])["NAME", "ALLOCATED", "QUOTA", "INODES", "CREATED", "UUID"] };
        rows.AddRange(pool.Volumes.Select(v => (string[])
            [v.Name, Sizes.Human(v.AllocatedBytes), v.Quota.Blocks > 0 ? Sizes.Human(v.Quota.Blocks * BlobData.BlockBytes) : "-",
                v.Quota.Inodes > 0 ? v.Quota.Inodes.ToString(CultureInfo.InvariantCulture) : "-", v.Created.ToString("yyyy-MM-dd HH:mm", CultureInfo.InvariantCulture), v.Uuid.ToString()]));
        terminal.WriteTable(rows);
    }
}
