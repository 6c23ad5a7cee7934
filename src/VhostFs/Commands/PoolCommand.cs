using System.CommandLine;
using VhostFs.Bdev;
using VhostFs.Blobstore;
using VhostFs.Hosting;
using VhostFs.Linux;
using VhostFs.Reactor;

namespace VhostFs.Commands;

/// <summary><c>vhostfs pool create|grow|info</c>.</summary>
internal static class PoolCommand
{
    public static Command New(Terminal terminal) => new("pool", "Make pools, grow them and look at them")
    {
        NewCreate(terminal),
        NewGrow(terminal),
        NewInfo(terminal),
    };

    public static Argument<string> PathArgument() => new("file") { Description = "Image file or device that holds the pool" };

    private static Command NewCreate(Terminal terminal)
    {
        Argument<string> path = PathArgument();
        Option<long> size = Declare.Size("--size", "Make the file with this size (needed when it is not there)");
        Option<long> cluster = Declare.Size("--cluster-size", "Unit in which volumes get space: a power of two from 128K to 16M (default: by the size of the pool)");
        Option<bool> force = Declare.Flag("--force", "Destroy a pool that is there already, and everything in it");
        var command = new Command("create", "Format a file or device as a pool") { path, size, cluster, force };
        command.SetAction(parsed => Create(terminal, Path.GetFullPath(parsed.GetValue(path)!), parsed.GetValue(size), parsed.GetValue(cluster), parsed.GetValue(force)));
        return command;
    }

    private static Command NewGrow(Terminal terminal)
    {
        Argument<string> path = PathArgument();
        Option<long> size = Declare.Size("--size", "Make the file this large first; a device grows by its own tools");
        var command = new Command("grow", "Make a pool as large as its file or device is now") { path, size };
        command.SetAction(parsed =>
        {
            string file = Path.GetFullPath(parsed.GetValue(path)!);
            long sizeBytes = parsed.GetValue(size) & -4096L;
            return PoolTask.WithBdev(terminal, new UringBdevOptions(file, file), bdev => PoolTask.WithPoolAsync(terminal, bdev, file, pool => GrowAsync(terminal, bdev, pool, file, sizeBytes)));
        });
        return command;
    }

    private static Command NewInfo(Terminal terminal)
    {
        Argument<string> path = PathArgument();
        Option<bool> json = Declare.Json();
        var command = new Command("info", "Say what is in a pool") { path, json };
        command.SetAction(parsed => PoolTask.WithPool(terminal, Path.GetFullPath(parsed.GetValue(path)!), pool =>
        {
            WriteInfo(terminal, pool, parsed.GetValue(json));
            return new IoTask<int>(ExitCode.Ok);
        }));
        return command;
    }

    private static int Create(Terminal terminal, string path, long size, long cluster, bool force)
    {
        if (cluster > 16 << 20)
        {
            terminal.Fail($"--cluster-size: {Sizes.Exact(cluster)} is more than 16M");
            return ExitCode.Usage;
        }
        var format = new FormatOptions { ClusterBytes = (int)cluster, Force = force };
        // Parent directories that do not exist are open's to complain about.
        if (File.Exists(path))
        {
            return PoolTask.WithBdev(terminal, new UringBdevOptions(path, path) { CreateSizeBytes = size & -4096L }, bdev => FormatAsync(terminal, bdev, path, format, null));
        }
        if (size == 0)
        {
            terminal.Fail($"{path} does not exist; give a size to make it, for example --size 10G");
            return ExitCode.Usage;
        }
        using var file = new NewFile(path);
        return PoolTask.WithBdev(terminal, new UringBdevOptions(path, file.TemporaryPath) { CreateSizeBytes = size & -4096L }, bdev => FormatAsync(terminal, bdev, path, format, file));
    }

    private static async IoTask<int> GrowAsync(Terminal terminal, IBdev bdev, Pool pool, string path, long size)
    {
        if (size > 0 && size < bdev.SizeBytes)
        {
            terminal.Fail($"{path} has {Sizes.Exact(bdev.SizeBytes)}, more than {Sizes.Exact(size)}; a pool does not shrink");
            return ExitCode.Failure;
        }
        Errno resized = size > bdev.SizeBytes ? await bdev.ResizeAsync(size) : Errno.None;
        if (resized != Errno.None)
        {
            terminal.Fail(resized == Errno.EOPNOTSUPP ? $"{path} is a device; grow it with its own tools, and call this without --size" : $"{path} cannot have {Sizes.Exact(size)}: {resized}");
            return ExitCode.Failure;
        }
        if (await pool.GrowAsync() != Errno.None) { return ExitCode.Failure; } // the pool has said why
        terminal.Output.WriteLine($"{path}: {Sizes.Human(pool.SizeBytes)}, {Sizes.Human(pool.FreeBytes)} free");
        return ExitCode.Ok;
    }

    private static async IoTask<int> FormatAsync(Terminal terminal, IBdev bdev, string path, FormatOptions format, NewFile? file)
    {
        if (file is null && !format.Force && await HoldsDataAsync(bdev))
        {
            terminal.Fail($"{path} is not empty: it holds a pool or something else; --force destroys it");
            return ExitCode.Failure;
        }
        OpenResult<Pool> formatted = await Pool.FormatAsync(bdev, format);
        if (formatted.Value is not { } pool)
        {
            terminal.Fail(formatted.Error!);
            return ExitCode.Failure;
        }
        string summary = $"{path}: pool {pool.Uuid}, {Sizes.Human(pool.SizeBytes)} in clusters of {Sizes.Exact(pool.ClusterBytes)}";
        Errno closed = await pool.CloseAsync();
        if ((closed == Errno.None ? file?.Publish() : $"formatting {path} failed: {closed}") is { } problem)
        {
            terminal.Fail(problem);
            return ExitCode.Failure;
        }
        terminal.Output.WriteLine(summary);
        return ExitCode.Ok;
    }

    // Partition tables and the superblocks of file systems lie within the first MiB. What cannot be read counts as data.
    private static async IoTask<bool> HoldsDataAsync(IBdev bdev)
    {
        const int probeBytes = 1 << 20;
        using var buffer = new NativeBuffer(probeBytes);
        using var list = new IoVecList(1);
        list.Add(buffer.Slice(0, (int)Math.Min(probeBytes, bdev.SizeBytes)));
        IoResult read = await bdev.ReadAsync(0, list.View());
        return read.IsError || buffer.Span[..read.Bytes].ContainsAnyExcept((byte)0);
    }

    private static void WriteInfo(Terminal terminal, Pool pool, bool json)
    {
        if (json)
        {
            terminal.WriteJson(writer =>
            {
                writer.WriteStartObject();
                writer.WriteString("uuid", pool.Uuid);
                writer.WriteNumber("size_bytes", pool.SizeBytes);
                writer.WriteNumber("free_bytes", pool.FreeBytes);
                writer.WriteNumber("cluster_bytes", pool.ClusterBytes);
                writer.WritePropertyName("volumes");
                VolumeCommand.WriteVolumes(writer, pool);
                writer.WriteEndObject();
            });
            return;
        }
        terminal.Output.WriteLine($"uuid      {pool.Uuid}");
        terminal.Output.WriteLine($"size      {Sizes.Human(pool.SizeBytes)}");
        terminal.Output.WriteLine($"free      {Sizes.Human(pool.FreeBytes)}");
        terminal.Output.WriteLine($"cluster   {Sizes.Exact(pool.ClusterBytes)}");
        terminal.Output.WriteLine($"volumes   {pool.Volumes.Count}");
    }
}
