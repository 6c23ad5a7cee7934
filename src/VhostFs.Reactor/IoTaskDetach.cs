namespace VhostFs.Reactor;

public static class IoTaskDetach
{
    /// <summary>Nobody waits for the result. An exception of the task comes out of the loop that completes it (or here, when it is done already).</summary>
    public static void Detach<T>(this IoTask<T> task)
    {
        IoTask<T>.Awaiter awaiter = task.GetAwaiter();
        if (awaiter.IsCompleted) { awaiter.GetResult(); }
        else { awaiter.OnCompleted(Detached<T>.Rent(awaiter)); }
    }

    private sealed class Detached<T> : IoContinuation
    {
        private const int MaxPooled = 1024;
        [ThreadStatic] private static Stack<Detached<T>>? t_free;
        private IoTask<T>.Awaiter _awaiter;

        public static Detached<T> Rent(IoTask<T>.Awaiter awaiter)
        {
            t_free ??= new Stack<Detached<T>>();
            Detached<T> detached = t_free.TryPop(out Detached<T>? free) ? free : new Detached<T>();
            detached._awaiter = awaiter;
            return detached;
        }

        protected internal override void Continue()
        {
            IoTask<T>.Awaiter awaiter = _awaiter;
            _awaiter = default;
            t_free ??= new Stack<Detached<T>>();
            if (t_free.Count < MaxPooled) { t_free.Push(this); }
            awaiter.GetResult();
        }
    }
}
