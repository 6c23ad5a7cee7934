using VhostFs.FuseDev;
using VhostFs.Linux;

namespace VhostFs.Hosting;

/// <summary>Takes a mount away in order; from whoever uses it, too.</summary>
internal static class Unmounting
{
    /// <param name="endUseAsync">Called when it could not simply be unmounted, and what programs have written is written out.</param>
    public static async Task EndAsync(HostMountPoint mountPoint, string scope, Log log, Func<Task>? endUseAsync = null)
    {
        Errno unmounted = await Task.Run(() => mountPoint.Unmount(lazy: false));
        if (unmounted == Errno.None) { return; }
        if (unmounted != Errno.EBUSY) { log.Warn(scope, $"cannot be unmounted: {unmounted}"); }
        Errno written = unmounted == Errno.EBUSY ? await Task.Run(mountPoint.WriteOut) : Errno.None;
        if (written != Errno.None) { log.Warn(scope, $"what programs have written cannot all be written out: {written}"); }
        if (endUseAsync is not null) { await endUseAsync(); }
        if (unmounted != Errno.EBUSY) { return; }
        Errno detached = await Task.Run(() => mountPoint.Unmount(lazy: true));
        if (detached == Errno.None) { log.Warn(scope, "was in use and is taken away; programs that use it may get errors from now on"); }
        else { log.Warn(scope, $"is in use and cannot be unmounted: {detached}"); }
    }
}
