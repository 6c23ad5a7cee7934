namespace VhostFs.Block;

/// <summary>What has come and gone, for clients that ask from time to time: notify_get_notifications. The last ones only.</summary>
/// <remarks>From any thread.</remarks>
internal sealed class Notifications
{
    public const int Kept = 1024;

    private readonly Queue<Notification> _last = [];
    private ulong _next;
    private TaskCompletionSource _added = new(TaskCreationOptions.RunContinuationsAsynchronously);

    /// <summary>The kinds that there are.</summary>
    public static IReadOnlyList<string> Types { get; } = ["bdev_register", "bdev_unregister", "vhost_controller_register", "vhost_controller_unregister"];

    public void Add(string type, string name)
    {
        lock (_last)
        {
            if (_last.Count == Kept) { _last.Dequeue(); }
            _last.Enqueue(new Notification(type, name, _next++));
            _added.SetResult();
            _added = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        }
    }

    /// <summary>The same; when there are none, the first that comes within that time.</summary>
    public async Task<Notification[]> FromAsync(ulong first, int most, TimeSpan patience)
    {
        using var time = new CancellationTokenSource(patience);
        while (true)
        {
            Task added;
            lock (_last) { added = _added.Task; }
            Notification[] found = From(first, most);
            if (found.Length > 0 || time.IsCancellationRequested) { return found; }
            await added.WaitAsync(time.Token).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        }
    }

    /// <summary>Those from number <paramref name="first"/> on, at most so many, the oldest first.</summary>
    public Notification[] From(ulong first, int most)
    {
        lock (_last) { return [.. _last.SkipWhile(n => n.Id < first).Take(most)]; }
    }
}

/// <param name="Context">The name of what it is about.</param>
/// <param name="Id">Counts from 0; the next one has the next number.</param>
internal readonly record struct Notification(string Type, string Context, ulong Id);
