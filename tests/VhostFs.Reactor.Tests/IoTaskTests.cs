using VhostFs.Linux;
using Xunit;

namespace VhostFs.Reactor.Tests;

public sealed class IoTaskTests : IDisposable
{
    private readonly SimulatedDriver _driver = new();
    private readonly Reactor _reactor;

    public IoTaskTests() => _reactor = new Reactor(_driver, "test");

    public void Dispose() => _reactor.Dispose();

    [Fact]
    public void A_method_that_does_not_suspend_has_completed_when_it_returns()
    {
        IoTask<int> task = AddAsync(new IoTask<int>(1), new IoTask<int>(2));
        Assert.True(task.IsCompleted);
        Assert.Equal(3, task.GetAwaiter().GetResult());
    }

    [Fact]
    public void A_suspended_method_goes_on_inside_the_completion()
    {
        var first = new IoCompletion<int>();
        var second = new IoCompletion<int>();
        IoTask<int> task = AddAsync(first.Task, second.Task);
        Assert.False(task.IsCompleted);
        first.Complete(1);
        Assert.False(task.IsCompleted);
        second.Complete(2);
        Assert.True(task.IsCompleted);
        Assert.Equal(3, task.GetAwaiter().GetResult());
    }

    [Fact]
    public void A_second_await_is_refused()
    {
        var operation = new IoCompletion<int>();
        IoTask<int> task = operation.Task;
        operation.Complete(1);
        Assert.Equal(1, task.GetAwaiter().GetResult());
        Assert.Throws<InvariantException>(() => task.GetAwaiter().GetResult());
    }

    [Fact]
    public void Two_awaiters_at_once_are_refused()
    {
        var operation = new IoCompletion<int>();
        IoTask<int> task = operation.Task;
        task.Detach();
        Assert.Throws<InvariantException>(() => task.Detach());
    }

    [Fact]
    public void A_box_of_another_use_is_not_taken_for_the_old_one()
    {
        var first = new IoCompletion<int>();
        IoTask<int> old = AddAsync(first.Task, new IoTask<int>(0));
        first.Complete(1);
        Assert.Equal(1, old.GetAwaiter().GetResult());
        var second = new IoCompletion<int>();
        IoTask<int> current = AddAsync(second.Task, new IoTask<int>(0)); // the same pooled box
        second.Complete(2);
        Assert.Throws<InvariantException>(() => old.GetAwaiter().GetResult());
        Assert.Equal(2, current.GetAwaiter().GetResult());
    }

    [Fact]
    public void An_exception_before_the_first_suspension_reaches_the_awaiter()
    {
        IoTask<int> task = ThrowAsync(new IoTask<int>(0));
        Assert.Throws<InvalidTimeZoneException>(() => task.GetAwaiter().GetResult());
    }

    [Fact]
    public void An_exception_after_a_suspension_reaches_the_awaiter_and_not_the_completer()
    {
        var operation = new IoCompletion<int>();
        IoTask<int> task = CatchAsync(ThrowAsync(operation.Task));
        operation.Complete(0);
        Assert.Equal(-1, task.GetAwaiter().GetResult());
    }

    [Fact]
    public void An_exception_of_a_detached_task_comes_out_of_the_loop()
    {
        var operation = new IoCompletion<int>();
        ThrowAsync(operation.Task).Detach();
        _driver.Schedule(1, () => operation.Complete(0));
        Assert.Throws<InvalidTimeZoneException>(() => _reactor.RunOnce(wait: true));
    }

    [Fact]
    public void Suspending_through_three_methods_allocates_nothing_in_steady_state()
    {
        var operation = new IoCompletion<int>();
        for (int i = 0; i < 1000; i++) { Round(operation); }
        long before = GC.GetAllocatedBytesForCurrentThread();
        for (int i = 0; i < 1000; i++) { Round(operation); }
        Assert.Equal(0, GC.GetAllocatedBytesForCurrentThread() - before);
    }

    private static void Round(IoCompletion<int> operation)
    {
        IoTask<int> task = OuterAsync(operation);
        operation.Complete(1);
        if (task.GetAwaiter().GetResult() != 3) { throw new InvalidOperationException("wrong result"); }
    }

    private static async IoTask<int> OuterAsync(IoCompletion<int> operation) => await MiddleAsync(operation) + 1;

    private static async IoTask<int> MiddleAsync(IoCompletion<int> operation) => await InnerAsync(operation) + 1;

    private static async IoTask<int> InnerAsync(IoCompletion<int> operation) => await operation.Task;

    private static async IoTask<int> AddAsync(IoTask<int> first, IoTask<int> second) => await first + await second;

    private static async IoTask<int> ThrowAsync(IoTask<int> first)
    {
        await first;
        throw new InvalidTimeZoneException();
    }

    private static async IoTask<int> CatchAsync(IoTask<int> inner)
    {
        try { return await inner; }
        catch (InvalidTimeZoneException) { return -1; }
    }
}
