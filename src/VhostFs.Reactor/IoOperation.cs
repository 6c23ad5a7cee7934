using System.Runtime.ExceptionServices;
using VhostFs.Linux;

namespace VhostFs.Reactor;

/// <summary>One thing that completes later on this reactor, reusable: <see cref="Take"/> ends one use and begins the next version.</summary>
/// <remarks>Invariants: completed at most once per version; awaited at most once per version; the continuation runs inside
/// <see cref="Complete"/>, on the reactor's thread.</remarks>
public abstract class IoOperation<T>
{
    private IoContinuation? _continuation;
    private ExceptionDispatchInfo? _exception;
    private T? _result;
    private bool _completed;

    public uint Version { get; private set; }

    /// <summary>Someone waits for this operation.</summary>
    public bool IsAwaited => _continuation is not null;

    public bool IsCompleted => _completed;

    public IoTask<T> Task => new(this);

    internal bool IsCompletedAt(uint version)
    {
        Invariant.That(version == Version, "an IoTask is awaited once");
        return _completed;
    }

    internal void SetContinuation(IoContinuation continuation, uint version)
    {
        Invariant.That(version == Version && _continuation is null, "an IoTask is awaited once");
        _continuation = continuation;
    }

    /// <summary>Ends the operation and runs the code that waits for it, inline.</summary>
    public void Complete(T result)
    {
        Invariant.That(!_completed, "an operation completes once");
        _result = result;
        _completed = true;
        Resume();
    }

    internal void Fail(Exception exception)
    {
        Invariant.That(!_completed, "an operation completes once");
        _exception = ExceptionDispatchInfo.Capture(exception);
        _completed = true;
        Resume();
    }

    internal T Take(uint version)
    {
        Invariant.That(version == Version && _completed, "an IoTask is awaited once, and only after it completed");
        T result = _result!;
        ExceptionDispatchInfo? exception = _exception;
        _result = default;
        _exception = null;
        _completed = false;
        Version++;
        Recycle();
        exception?.Throw();
        return result;
    }

    /// <summary>The result has been taken: the object may go back to its pool.</summary>
    protected abstract void Recycle();

    private void Resume()
    {
        IoContinuation? continuation = _continuation;
        _continuation = null;
        continuation?.Continue();
    }
}

/// <summary>An operation completed by hand and owned by whoever made it (not pooled).</summary>
public sealed class IoCompletion<T> : IoOperation<T>
{
    protected override void Recycle()
    {
    }
}
