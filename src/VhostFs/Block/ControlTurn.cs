using VhostFs.Linux;
using VhostFs.Rpc;

namespace VhostFs.Block;

/// <summary>One call at a time changes or reads the tables of names: what it has looked up is still so when it acts.</summary>
internal sealed class ControlTurn
{
    /// <summary>What a wait between two turns of a call may take: a disk that is only slow is done by then.</summary>
    private static readonly TimeSpan s_patience = TimeSpan.FromSeconds(5);

    private readonly SemaphoreSlim _turn = new(1);
    private bool _isOver;

    /// <summary>A method that runs in its turn from beginning to end.</summary>
    public RpcMethod Whole(RpcMethod method) => call => RunAsync(() => method(call));

    public async Task<T> RunAsync<T>(Func<Task<T>> work)
    {
        await _turn.WaitAsync();
        try { return _isOver ? throw RpcException.Of(Errno.ESHUTDOWN, "this process is ending") : await work(); }
        finally { _turn.Release(); }
    }

    /// <summary>Two turns of one call, and between them a wait that holds up nobody else. What it has looked up in the first may not be so in the second.</summary>
    /// <param name="begin">Returns what is waited for.</param>
    /// <param name="failure">How the method answers; null: with the errno as code.</param>
    /// <exception cref="RpcException">ETIMEDOUT: the wait takes too long. What has begun goes on, and the call may be repeated.</exception>
    public async Task<T> RunAroundAsync<T>(Func<Task<Task>> begin, Func<Task<T>> end, Func<Errno, string, RpcException>? failure = null)
    {
        Task wait = await RunAsync(begin);
        try { await wait.WaitAsync(s_patience); }
        catch (TimeoutException) { throw (failure ?? RpcException.Of)(Errno.ETIMEDOUT, $"requests under way have not ended after {s_patience.TotalSeconds:0} s; nothing new is begun, and the call may be repeated"); }
        return await RunAsync(end);
    }

    /// <summary>Waits for whoever is at it; nobody has a turn after this.</summary>
    public async Task EndAsync()
    {
        await _turn.WaitAsync();
        _isOver = true;
        _turn.Release();
    }
}
