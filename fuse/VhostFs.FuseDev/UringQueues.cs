using VhostFs.Fuse;
using VhostFs.Linux;
using VhostFs.Reactor;

namespace VhostFs.FuseDev;

/// <summary>FUSE over io_uring: requests of a mount arrive as completions of commands on /dev/fuse, and a reply and the wish for the next request are one command.</summary>
/// <remarks>
/// There is a queue for each core. FORGET, INTERRUPT and INIT still come by read. The commands are the kernel's until the file system is unmounted or
/// its connection aborted: nothing else ends them, closing the device included, and until then the memory stays.
/// </remarks>
internal sealed class UringQueues
{
    /// <summary>Payload that may stay in memory: beyond it an entry gives its own back, when it can.</summary>
    public const long MaxUsedBytes = 8 << 20;

    private const int MaxWriteBytes = 1 << 20; // what INIT settles, and as many pages
    private const int MaxPages = MaxWriteBytes / 4096;
    private const string PossibleCores = "/sys/devices/system/cpu/possible";

    private readonly FuseServer _server;
    private readonly Action<string> _warn;
    private readonly Action _arrived;
    private readonly UringQueue[] _queues;
    private IoCompletion<bool>? _drained;
    private IoCompletion<bool>? _ended;
    private int _unanswered;
    private bool _isStopping;
    private bool _hasWarned;

    /// <param name="arrived">Called for each request.</param>
    public UringQueues(Ring ring, SafeFd device, FuseServer server, Action arrived, Action<string> warn)
    {
        Ring = ring;
        Device = device;
        _server = server;
        _arrived = arrived;
        _warn = warn;
        _queues = new UringQueue[CoreCount()];
        for (int i = 0; i < _queues.Length; i++) { _queues[i] = new UringQueue(this, i); }
    }

    public Ring Ring { get; }

    public SafeFd Device { get; }

    public int PayloadBytes { get; } = Math.Max(MaxWriteBytes, MaxPages * Environment.SystemPageSize);

    /// <summary>Of all entries' payload.</summary>
    public long UsedBytes { get; set; }

    /// <summary>Entries that are the kernel's or hold a request.</summary>
    public int EntryCount { get; set; }

    /// <summary>Gives the kernel what it asks for before it uses the queues.</summary>
    public void Open()
    {
        foreach (UringQueue queue in _queues) { queue.Open(); }
    }

    /// <summary>Finishes what is under way; whatever comes later is refused with ENOTCONN.</summary>
    public async IoTask<bool> DrainAsync()
    {
        _isStopping = true;
        if (_unanswered == 0) { return true; }
        _drained = new IoCompletion<bool>();
        return await _drained.Task;
    }

    /// <summary>Waits until the kernel has given all entries back.</summary>
    public async IoTask<bool> EndedAsync()
    {
        if (EntryCount == 0) { return true; }
        _ended = new IoCompletion<bool>();
        return await _ended.Task;
    }

    internal void Handle(UringEntry entry, bool isSound)
    {
        _unanswered++;
        _arrived();
        if (isSound && !_isStopping)
        {
            _server.Handle(entry);
            return;
        }
        if (!isSound) { Warn("the kernel sent a request whose lengths do not fit together"); }
        entry.Refuse(isSound ? Errno.ENOTCONN : Errno.EIO);
        entry.Queue.Finish(entry);
    }

    internal void Answered()
    {
        if (--_unanswered > 0 || _drained is not { } drained) { return; }
        _drained = null;
        drained.Complete(true);
    }

    internal void EntryEnded(Errno reason)
    {
        // Unmounted or aborted. Whatever else: the kernel goes on with read and write if it has not begun here, else with the other entries.
        if (reason is not (Errno.ENOTCONN or Errno.ECONNABORTED or Errno.ECANCELED or Errno.ENODEV)) { Warn($"the kernel refused a command of FUSE over io_uring: {reason}"); }
        EntryCount--;
        if (EntryCount > 0 || _ended is not { } ended) { return; }
        _ended = null;
        ended.Complete(true);
    }

    private void Warn(string text)
    {
        if (_hasWarned) { return; }
        _hasWarned = true;
        _warn(text);
    }

    /// <summary>Cores that may ever come, as the kernel counts them ("0-7", "0-3,8-11").</summary>
    private static int CoreCount()
    {
        string last = "";
        try { last = File.ReadAllText(PossibleCores).Trim().Split(',', '-')[^1]; }
        catch (IOException) { }
        return int.TryParse(last, out int highest) ? highest + 1 : Environment.ProcessorCount;
    }
}
