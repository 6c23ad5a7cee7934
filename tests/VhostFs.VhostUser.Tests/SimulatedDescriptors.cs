using VhostFs.Linux;
using VhostFs.Reactor;

namespace VhostFs.VhostUser.Tests;

/// <summary>A virtual clock for one ring without a connection: kicks are events of the clock, and calls are written down with their times.</summary>
internal sealed class SimulatedDescriptors : IReactorDriver, IDescriptorEvents
{
    private Action<IoResult>? _onKick;

    public SimulatedDriver Time { get; } = new(startNs: 1_000_000_000);

    public List<long> CallsNs { get; } = [];

    public long NowNs => Time.NowNs;

    public bool IsReady => Time.IsReady;

    public void Kick() => Time.Schedule(0, () => _onKick?.Invoke(new IoResult(1)));

    public int Poll(long deadlineNs) => Time.Poll(deadlineNs);

    public void Wake() => Time.Wake();

    public IDisposable Watch(SafeFd fd, short events, Action<IoResult> onReady)
    {
        _onKick = onReady;
        return new Unwatch(this);
    }

    public IoTask<IoResult> PollAsync(SafeFd fd, short events, out IoHandle handle) => throw new NotSupportedException();

    public IoTask<IoResult> AcceptAsync(SafeFd listener, out IoHandle handle) => throw new NotSupportedException();

    public IoTask<IoResult> WriteStreamAsync(SafeFd fd, IoVec source, out IoHandle handle)
    {
        CallsNs.Add(NowNs);
        var write = new IoCompletion<IoResult>();
        handle = new IoHandle(write);
        Time.Schedule(0, () => write.Complete(new IoResult(8)));
        return write.Task;
    }

    public IoTask<IoResult> CancelAsync(IoHandle handle) => new(new IoResult(0));

    public void Dispose() => Time.Dispose();

    private sealed class Unwatch(SimulatedDescriptors driver) : IDisposable
    {
        public void Dispose() => driver._onKick = null;
    }
}
