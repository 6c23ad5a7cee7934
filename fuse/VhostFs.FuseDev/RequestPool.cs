namespace VhostFs.FuseDev;

/// <summary>Requests and large buffers of one channel: made when needed, up to bounds; a few stay when idle.</summary>
/// <remarks>Invariant: nothing is read without a request and a large buffer at hand, so whatever the kernel sends has room.</remarks>
internal sealed class RequestPool(DeviceChannel channel) : IDisposable
{
    public const int MaxRequests = 512;
    private const int MaxLarge = 32;      // 1 MiB each
    private const int MaxIdleRequests = 128;
    private const int MaxIdleLarge = 8;

    private DeviceRequest? _freeRequest;
    private LargeBuffer? _freeLarge;
    private int _idleRequests;
    private int _idleLarge;
    private int _usedRequests;
    private int _usedLarge;

    public bool TryRent(out DeviceRequest request)
    {
        if (_usedRequests >= MaxRequests || _usedLarge >= MaxLarge)
        {
            request = null!;
            return false;
        }
        if (_freeRequest is { } free)
        {
            _freeRequest = free.Next;
            free.Next = null;
            _idleRequests--;
            request = free;
        }
        else { request = new DeviceRequest(channel); }
        _usedRequests++;
        request.PrepareRead(RentLarge());
        return true;
    }

    /// <summary>The request turned out to be small.</summary>
    public void ReturnLarge(DeviceRequest request)
    {
        if (request.Large is not { } large) { return; }
        request.Large = null;
        _usedLarge--;
        if (_idleLarge == MaxIdleLarge)
        {
            large.Dispose();
            return;
        }
        large.Next = _freeLarge;
        _freeLarge = large;
        _idleLarge++;
    }

    public void Return(DeviceRequest request)
    {
        ReturnLarge(request);
        request.Clear();
        _usedRequests--;
        if (_idleRequests == MaxIdleRequests)
        {
            request.Dispose();
            return;
        }
        request.Next = _freeRequest;
        _freeRequest = request;
        _idleRequests++;
    }

    public void Dispose()
    {
        for (DeviceRequest? request = _freeRequest; request is not null; request = request.Next) { request.Dispose(); }
        for (LargeBuffer? large = _freeLarge; large is not null; large = large.Next) { large.Dispose(); }
        _freeRequest = null;
        _freeLarge = null;
    }

    private LargeBuffer RentLarge()
    {
        _usedLarge++;
        if (_freeLarge is not { } large) { return new LargeBuffer(); }
        _freeLarge = large.Next;
        large.Next = null;
        _idleLarge--;
        return large;
    }
}
