using VhostFs.Reactor;

namespace VhostFs.CompileFail;

public static class AwaitTask
{
#if ALLOWED
    public static async IoTask<int> RunAsync(IoTask<int> work) => await work;
#else
    public static async IoTask<int> RunAsync(Task<int> work) => await work;
#endif
}
