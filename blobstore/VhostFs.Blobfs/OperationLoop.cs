using VhostFs.Blobstore;
using VhostFs.Fuse;
using VhostFs.Linux;
using VhostFs.Reactor;

namespace VhostFs.Blobfs;

/// <summary>One attempt at reading from the tree, synchronous. NotResident: load and try again.</summary>
internal interface ITreeRead<T>
{
    Errno Try(out T result);
}

/// <summary>One attempt at a change: decides, stages and commits one transaction, or changes nothing.</summary>
internal interface ITreeChange<T>
{
    Admission Admission { get; }

    /// <param name="lsn">Of the committed record; 0 when there was nothing to change.</param>
    Errno Try(out T result, out ulong lsn);
}

/// <summary>The one place where operations wait: for room, for tree nodes, for the log.</summary>
/// <remarks>When everything is in memory an operation completes without suspending and allocates nothing. Operations are structs, so that each kind gets
/// its own pooled state.</remarks>
internal sealed class OperationLoop(Volume volume)
{
    /// <summary>An operation that finds nodes missing this often fails with EIO: the cache is too small to hold what it needs at once.</summary>
    public const int MaxAttempts = 65536;

    public IoTask<FsResult<T>> Read<TRead, T>(TRead operation)
        where TRead : struct, ITreeRead<T>
    {
        Errno done = operation.Try(out T result);
        return done == Residency.NotResident ? ReadSlowAsync<TRead, T>(operation) : new IoTask<FsResult<T>>(new FsResult<T>(done, result));
    }

    public IoTask<FsResult<T>> Change<TChange, T>(TChange operation)
        where TChange : struct, ITreeChange<T>
    {
        if (!volume.TryAdmit(operation.Admission)) { return ChangeSlowAsync<TChange, T>(operation, load: false); }
        Errno done = operation.Try(out T result, out ulong lsn);
        if (done == Residency.NotResident) { return ChangeSlowAsync<TChange, T>(operation, load: true); }
        return done != Errno.None || lsn == 0 || volume.IsLogged(lsn)
            ? new IoTask<FsResult<T>>(new FsResult<T>(done, result))
            : LoggedAsync(lsn, result);
    }

    private async IoTask<FsResult<T>> ReadSlowAsync<TRead, T>(TRead operation)
        where TRead : struct, ITreeRead<T>
    {
        for (int attempt = 0; attempt < MaxAttempts; attempt++)
        {
            Errno loaded = await volume.LoadMissingAsync();
            if (loaded != Errno.None) { return loaded; }
            Errno done = operation.Try(out T result);
            if (done != Residency.NotResident) { return new FsResult<T>(done, result); }
        }
        return Errno.EIO;
    }

    private async IoTask<FsResult<T>> ChangeSlowAsync<TChange, T>(TChange operation, bool load)
        where TChange : struct, ITreeChange<T>
    {
        for (int attempt = 0; attempt < MaxAttempts; attempt++)
        {
            Errno ready = load ? await volume.LoadMissingAsync() : Errno.None;
            if (ready == Errno.None) { ready = await volume.AdmitAsync(operation.Admission); }
            if (ready != Errno.None) { return ready; }
            Errno done = operation.Try(out T result, out ulong lsn);
            if (done == Residency.NotResident) { load = true; continue; }
            if (done == Errno.None && lsn != 0) { done = await volume.LoggedAsync(lsn); }
            return new FsResult<T>(done, result);
        }
        return Errno.EIO;
    }

    private async IoTask<FsResult<T>> LoggedAsync<T>(ulong lsn, T result)
    {
        Errno logged = await volume.LoggedAsync(lsn);
        return new FsResult<T>(logged, result);
    }
}

/// <summary>The result of an operation that has none.</summary>
internal readonly record struct Nothing;

internal static class NothingResult
{
    /// <summary>Turns the result of an operation without a value into its errno, without suspending when it is there already.</summary>
    public static IoTask<Errno> ToErrno(this IoTask<FsResult<Nothing>> task) =>
        task.IsCompleted ? new IoTask<Errno>(task.GetAwaiter().GetResult().Errno) : WaitAsync(task);

    private static async IoTask<Errno> WaitAsync(IoTask<FsResult<Nothing>> task) => (await task).Errno;

    /// <summary>Turns a result of bytes or an errno into the form a reply carries.</summary>
    public static IoTask<IoResult> ToIoResult(this IoTask<FsResult<int>> task) =>
        task.IsCompleted ? new IoTask<IoResult>(Convert(task.GetAwaiter().GetResult())) : WaitAsync(task);

    private static async IoTask<IoResult> WaitAsync(IoTask<FsResult<int>> task) => Convert(await task);

    private static IoResult Convert(FsResult<int> result) => result.IsError ? IoResult.FromErrno(result.Errno) : new IoResult(result.Value);
}
