using System.Numerics;
using VhostFs.Reactor;

namespace VhostFs.Bdev;

/// <summary>The memory of a raid1's requests, in powers of two. Bounded: who finds none waits for its turn.</summary>
internal sealed class Raid1MemoryPool : IDisposable
{
    /// <summary>Of one piece of a request: longer ones are done piece by piece.</summary>
    public const int MostBytes = 1 << 20;

    private const int LeastBytes = 4096;
    private const int SizeClasses = 9; // 4 KiB to 1 MiB
    private const long MaxTakenBytes = 64 << 20;
    private const long MaxFreeBytes = 16 << 20;

    private readonly Stack<Raid1Memory>[] _free = [.. Enumerable.Range(0, SizeClasses).Select(_ => new Stack<Raid1Memory>())];
    private readonly Queue<Waiter> _waiting = new();
    private long _takenBytes;
    private long _freeBytes;
    private bool _isDisposed;

    public static int BytesOf(int sizeClass) => LeastBytes << sizeClass;

    /// <summary>Of <see cref="MostBytes"/> at most.</summary>
    public async IoTask<Raid1Memory> RentAsync(int lengthBytes)
    {
        int sizeClass = ClassOf(lengthBytes);
        if (_waiting.Count > 0 || !Fits(sizeClass))
        {
            var waiter = new Waiter(sizeClass, new IoCompletion<bool>());
            _waiting.Enqueue(waiter);
            await waiter.Turn.Task; // counted already
        }
        else { _takenBytes += BytesOf(sizeClass); }
        return Take(sizeClass, lengthBytes, isCounted: true);
    }

    /// <summary>For who must not wait, because others wait for him: there is one of him.</summary>
    public Raid1Memory RentNow(int lengthBytes) => Take(ClassOf(lengthBytes), lengthBytes, isCounted: false);

    public void Return(Raid1Memory memory)
    {
        if (_isDisposed || _freeBytes + BytesOf(memory.SizeClass) > MaxFreeBytes)
        {
            memory.Dispose();
            return;
        }
        _freeBytes += BytesOf(memory.SizeClass);
        _free[memory.SizeClass].Push(memory);
    }

    public void Uncount(int sizeClass)
    {
        _takenBytes -= BytesOf(sizeClass);
        while (_waiting.TryPeek(out Waiter waiter) && Fits(waiter.SizeClass))
        {
            _waiting.Dequeue();
            _takenBytes += BytesOf(waiter.SizeClass);
            waiter.Turn.Complete(true);
        }
    }

    public void Dispose()
    {
        _isDisposed = true;
        foreach (Raid1Memory memory in _free.SelectMany(free => free)) { memory.Dispose(); }
        Array.ForEach(_free, free => free.Clear());
    }

    private bool Fits(int sizeClass) => _takenBytes + BytesOf(sizeClass) <= MaxTakenBytes;

    private Raid1Memory Take(int sizeClass, int lengthBytes, bool isCounted)
    {
        if (_free[sizeClass].TryPop(out Raid1Memory? memory)) { _freeBytes -= BytesOf(sizeClass); }
        else { memory = new Raid1Memory(this, sizeClass); }
        memory.Begin(lengthBytes, isCounted);
        return memory;
    }

    private static int ClassOf(int lengthBytes) => Math.Max(0, BitOperations.Log2((uint)lengthBytes - 1) + 1 - BitOperations.Log2(LeastBytes));

    private readonly record struct Waiter(int SizeClass, IoCompletion<bool> Turn);
}
