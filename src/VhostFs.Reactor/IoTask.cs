using System.Runtime.CompilerServices;

namespace VhostFs.Reactor;

/// <summary>The result of reactor code: a value that is there already, or an operation that completes on this reactor.</summary>
/// <remarks>Await it once, on the reactor that made it. Costs no allocation in steady state: suspended state machines live in boxes
/// pooled per thread. Awaiting a <see cref="System.Threading.Tasks.Task"/> inside an <c>async IoTask</c> method does not compile.</remarks>
[AsyncMethodBuilder(typeof(IoTaskBuilder<>))]
public readonly struct IoTask<T>
{
    private readonly IoOperation<T>? _operation;
    private readonly T? _result;
    private readonly uint _version;

    public IoTask(T result) => _result = result;

    /// <summary>Wraps an operation as it is now; the operation's version guards against a second await.</summary>
    public IoTask(IoOperation<T> operation)
    {
        _operation = operation;
        _version = operation.Version;
    }

    public bool IsCompleted => _operation is null || _operation.IsCompletedAt(_version);

    public Awaiter GetAwaiter() => new(this);

    public readonly struct Awaiter : IIoAwaiter
    {
        private readonly IoTask<T> _task;

        internal Awaiter(IoTask<T> task) => _task = task;

        public bool IsCompleted => _task.IsCompleted;

        public T GetResult() => _task._operation is null ? _task._result! : _task._operation.Take(_task._version);

        public void OnCompleted(IoContinuation continuation) => _task._operation!.SetContinuation(continuation, _task._version);

        /// <summary>Never used: reactor code suspends with an <see cref="IoContinuation"/>. Present because the compiler's await pattern asks for it.</summary>
        void INotifyCompletion.OnCompleted(Action continuation) => throw new NotSupportedException("IoTask is awaited only by reactor code");
    }
}

/// <summary>What reactor code can await. The builder accepts nothing else, so that a plain Task is a compile error.</summary>
public interface IIoAwaiter : INotifyCompletion
{
    void OnCompleted(IoContinuation continuation);
}

/// <summary>Code that goes on when an operation completes.</summary>
public abstract class IoContinuation
{
    protected internal abstract void Continue();
}
