using VhostFs.Linux;

namespace VhostFs.Hosting;

/// <summary>An image file that comes into being whole: it gets its name only when it holds a formatted pool.</summary>
/// <remarks>A crash while formatting leaves a file <c>.disk.img.PID.creating</c>, never a disk.img that nobody can open. The lock on the
/// file stays across the renaming: it belongs to the inode.</remarks>
internal sealed class NewFile(string path) : IDisposable
{
    private bool _isTemporary = true;

    public string TemporaryPath { get; } = Path.Combine(Path.GetDirectoryName(path) ?? "/", $".{Path.GetFileName(path)}.{Environment.ProcessId}.creating");

    /// <summary>Null, or why not. An existing file is never replaced.</summary>
    public string? Publish()
    {
        try { File.Move(TemporaryPath, path, overwrite: false); }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException) { return File.Exists(path) ? $"{path} has come into being meanwhile; start again to use it" : e.Message; }
        _isTemporary = false;
        // The name is durable before anything in the file is promised to a guest.
        Errno opened = FileCalls.Open(Path.GetDirectoryName(path) ?? "/", FileCalls.O_RDONLY | FileCalls.O_DIRECTORY, 0, out SafeFd directory);
        using (directory)
        {
            Errno synced = opened == Errno.None ? FileCalls.Sync(directory) : opened;
            return synced == Errno.None ? null : $"{path} was made, but its directory cannot be synced: {synced}";
        }
    }

    public void Dispose()
    {
        if (_isTemporary) { FileCalls.Unlink(TemporaryPath); }
    }
}
