using System.Runtime.CompilerServices;

namespace VhostFs.Reactor;

/// <summary>Compiler support for <c>async IoTask&lt;T&gt;</c>.</summary>
public struct IoTaskBuilder<T>
{
    private IoOperation<T>? _operation;
    private T? _result;

    public static IoTaskBuilder<T> Create() => default;

    public readonly IoTask<T> Task => _operation is null ? new IoTask<T>(_result!) : new IoTask<T>(_operation);

    public readonly void Start<TMachine>(ref TMachine machine)
        where TMachine : IAsyncStateMachine => machine.MoveNext();

#pragma warning disable CA1822 // the compiler's builder pattern asks for an instance method
    public readonly void SetStateMachine(IAsyncStateMachine machine) => _ = machine;
#pragma warning restore CA1822

    public void SetResult(T result)
    {
        if (_operation is null) { _result = result; }
        else { _operation.Complete(result); }
    }

    public void SetException(Exception exception)
    {
        // Before the first suspension there is no box yet; the exception still belongs to the awaiter, not to the caller.
        _operation ??= new IoCompletion<T>();
        _operation.Fail(exception);
    }

    public void AwaitOnCompleted<TAwaiter, TMachine>(ref TAwaiter awaiter, ref TMachine machine)
        where TAwaiter : IIoAwaiter
        where TMachine : IAsyncStateMachine
    {
        if (_operation is not IoBox<T, TMachine> box)
        {
            box = IoBox<T, TMachine>.Rent();
            _operation = box; // before the copy, so that the boxed machine knows its box
            box.Machine = machine;
        }
        awaiter.OnCompleted(box.Continuation);
    }

    public void AwaitUnsafeOnCompleted<TAwaiter, TMachine>(ref TAwaiter awaiter, ref TMachine machine)
        where TAwaiter : IIoAwaiter
        where TMachine : IAsyncStateMachine => AwaitOnCompleted(ref awaiter, ref machine);
}

/// <summary>A suspended async method; kept for reuse on the thread that ran it.</summary>
internal sealed class IoBox<T, TMachine> : IoOperation<T>
    where TMachine : IAsyncStateMachine
{
    /// <summary>Bound of the per-thread pool of one method's boxes; beyond it they are left to the collector.</summary>
    private const int MaxPooled = 4096;

    [ThreadStatic] private static IoBox<T, TMachine>? t_free;
    [ThreadStatic] private static int t_freeCount;
    private IoBox<T, TMachine>? _next;

    public TMachine Machine = default!;

    private IoBox() => Continuation = new Step(this);

    public IoContinuation Continuation { get; }

    public static IoBox<T, TMachine> Rent()
    {
        IoBox<T, TMachine>? box = t_free;
        if (box is null) { return new IoBox<T, TMachine>(); }
        t_free = box._next;
        t_freeCount--;
        box._next = null;
        return box;
    }

    protected override void Recycle()
    {
        Machine = default!; // lets go of what the method captured
        if (t_freeCount >= MaxPooled) { return; }
        _next = t_free;
        t_free = this;
        t_freeCount++;
    }

    private sealed class Step(IoBox<T, TMachine> box) : IoContinuation
    {
        protected internal override void Continue() => box.Machine.MoveNext();
    }
}
