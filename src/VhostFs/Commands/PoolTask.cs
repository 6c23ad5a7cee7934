using VhostFs.Bdev;
using VhostFs.Blobstore;
using VhostFs.Linux;
using VhostFs.Reactor;

namespace VhostFs.Commands;

/// <summary>For the short commands: a reactor on this thread, a file or device opened on it, work, and everything closed again.</summary>
internal static class PoolTask
{
    private const int RingEntries = 256;

    /// <summary>Runs <paramref name="work"/> on the open pool in <paramref name="path"/> and closes the pool; returns the exit status.</summary>
    public static int WithPool(Terminal terminal, string path, Func<Pool, IoTask<int>> work) => WithBdev(terminal, new UringBdevOptions(path, path), bdev => WithPoolAsync(terminal, bdev, path, work));

    /// <summary>The same on a bdev that is open.</summary>
    public static async IoTask<int> WithPoolAsync(Terminal terminal, IBdev bdev, string path, Func<Pool, IoTask<int>> work)
    {
        OpenResult<Pool> opened = await Pool.OpenAsync(bdev, new PoolOptions { Report = terminal.Fail });
        if (opened.Value is not { } pool)
        {
            terminal.Fail(opened.Error!);
            return ExitCode.Failure;
        }
        int status = await work(pool);
        Errno closed = await pool.CloseAsync();
        if (closed == Errno.None) { return status; }
        terminal.Fail($"the pool in {path} cannot be closed: {closed}");
        return ExitCode.Failure;
    }

    /// <summary>Runs <paramref name="work"/> with the bdev; returns the exit status, <paramref name="failure"/> when it cannot be opened.</summary>
    public static int WithBdev(Terminal terminal, UringBdevOptions options, Func<IBdev, IoTask<int>> work, int failure = ExitCode.Failure)
    {
        Ring ring;
        try { ring = Ring.Create(RingEntries); }
        catch (Exception e) when (e is InvalidOperationException or IOException or PlatformNotSupportedException)
        {
            terminal.Fail($"io_uring cannot be used: {e.Message}");
            return failure;
        }
        using var reactor = new Reactor.Reactor(ring, "command");
        try
        {
            using UringBdev bdev = UringBdev.Open(ring, options);
            return reactor.RunUntilComplete(() => work(bdev));
        }
        catch (BdevException e)
        {
            terminal.Fail(e.Message + Advice(e.Errno, options));
            return failure;
        }
    }

    private static string Advice(Errno errno, UringBdevOptions options) => errno switch
    {
        Errno.EBUSY => "; stop that process first, or ask it",
        Errno.ENOENT when !options.ReadOnly => $"; make it with 'vhostfs pool create {options.Path} --size 10G'",
        Errno.EACCES or Errno.EPERM => "; run as a user who may open it",
        _ => "",
    };
}
