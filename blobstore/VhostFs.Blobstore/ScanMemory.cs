using VhostFs.Linux;
using VhostFs.Reactor;

namespace VhostFs.Blobstore;

/// <summary>Memory into which the log rings of a pool's volumes are read while they are opened.</summary>
/// <remarks>A few rings at a time, however many volumes are opened together, and the same memory for one after the other: getting pages costs more than reading into them.
/// Invariant: when no volume is being opened there is none.</remarks>
internal sealed class ScanMemory
{
    private const int MaxRings = 4;

    private readonly Stack<NativeBuffer> _free = new();
    private readonly WaitQueue _waiting = new();
    private int _rings;
    private int _openings;

    /// <summary>Volumes are being opened, until <see cref="Leave"/>.</summary>
    public void Enter() => _openings++;

    public void Leave()
    {
        if (--_openings > 0) { return; }
        Invariant.That(_rings == 0, "who reads a ring is opening a volume");
        while (_free.TryPop(out NativeBuffer? buffer)) { buffer.Dispose(); }
    }

    /// <summary>At least so much, with anything in it; waits while too many have some.</summary>
    public async IoTask<NativeBuffer> RentAsync(int lengthBytes)
    {
        while (_rings == MaxRings) { await _waiting.WaitAsync(); }
        _rings++;
        if (_free.TryPop(out NativeBuffer? buffer) && buffer.Length >= lengthBytes) { return buffer; }
        buffer?.Dispose();
        return NativeBuffer.Huge(lengthBytes);
    }

    public void Return(NativeBuffer buffer)
    {
        _rings--;
        _free.Push(buffer);
        if (!_waiting.IsEmpty) { _waiting.CompleteFirst(Errno.None); }
    }
}
