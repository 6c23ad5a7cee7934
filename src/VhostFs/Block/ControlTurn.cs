using VhostFs.Linux;
using VhostFs.Rpc;

namespace VhostFs.Block;

/// <summary>One call at a time changes or reads the tables of names: what it has looked up is still so when it acts.</summary>
internal sealed class ControlTurn
{
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

    /// <summary>Waits for whoever is at it; nobody has a turn after this.</summary>
    public async Task EndAsync()
    {
        await _turn.WaitAsync();
        _isOver = true;
        _turn.Release();
    }
}
