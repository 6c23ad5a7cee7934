using System.Runtime.ExceptionServices;
using VhostFs.Linux;
using VhostFs.Reactor;

namespace VhostFs.Bdev;

/// <summary>A bdev of another reactor, used from this one: requests go there as messages, and their results come back.</summary>
/// <remarks>Invariant: the bdev is touched on its own reactor only, but for what describes it. A request costs two messages, and nothing is allocated in steady state.
/// Changes of size are not passed on, and operations are counted by the bdev itself.</remarks>
/// <param name="inner">Not owned. Requests are over when it goes.</param>
/// <param name="home">Where this one is used.</param>
/// <param name="away">Where <paramref name="inner"/> lives.</param>
public sealed class RemoteBdev(IBdev inner, VhostFs.Reactor.Reactor home, VhostFs.Reactor.Reactor away) : IBdev
{
    private readonly BdevClaim _claim = new();
    private Operation? _free;

    public event Action<long>? Resized
    {
        add { }
        remove { }
    }

    public string Name => inner.Name;

    public int BlockSize => inner.BlockSize;

    public long SizeBytes => inner.SizeBytes;

    public int BufferAlignment => inner.BufferAlignment;

    public int OptimalBufferAlignment => inner.OptimalBufferAlignment;

    public bool HasWriteCache => inner.HasWriteCache;

    public bool SupportsUnmap => inner.SupportsUnmap;

    public bool IsReadOnly => inner.IsReadOnly;

    public bool UnmapReadsZero => inner.UnmapReadsZero;

    /// <summary>Stays as it is.</summary>
    public BdevStatistics Statistics { get; } = new();

    public IoTask<IoResult> ReadAsync(long offsetBytes, IoVecs target) => RunAsync(BdevOperations.Read, offsetBytes, 0, target);

    public IoTask<IoResult> WriteAsync(long offsetBytes, IoVecs source) => RunAsync(BdevOperations.Write, offsetBytes, 0, source);

    public async IoTask<Errno> FlushAsync() => (await RunAsync(BdevOperations.Flush, 0, 0, default)).Errno;

    public async IoTask<Errno> UnmapAsync(long offsetBytes, long lengthBytes) => (await RunAsync(BdevOperations.Unmap, offsetBytes, lengthBytes, default)).Errno;

    public async IoTask<Errno> WriteZeroesAsync(long offsetBytes, long lengthBytes) => (await RunAsync(BdevOperations.WriteZeroes, offsetBytes, lengthBytes, default)).Errno;

    public bool TryGetMemory(long offsetBytes, int lengthBytes, out IoVec memory)
    {
        memory = default;
        return false;
    }

    public bool TryClaim(string claimant, out string owner) => _claim.TryTake(claimant, out owner);

    public void ReleaseClaim() => _claim.Release();

    public void Dispose()
    {
    }

    private async IoTask<IoResult> RunAsync(BdevOperations kind, long offsetBytes, long lengthBytes, IoVecs vectors)
    {
        Operation operation = _free ?? new Operation(this);
        _free = operation.NextFree;
        IoResult result = await operation.Start(kind, offsetBytes, lengthBytes, vectors);
        ExceptionDispatchInfo? bug = operation.Bug;
        operation.Bug = null;
        operation.NextFree = _free;
        _free = operation;
        bug?.Throw(); // it belongs to whoever waits here, not to the other reactor
        return result;
    }

    private IoTask<IoResult> ExecuteAsync(BdevOperations kind, long offsetBytes, long lengthBytes, IoVecs vectors) => kind switch
    {
        BdevOperations.Read => inner.ReadAsync(offsetBytes, vectors),
        BdevOperations.Write => inner.WriteAsync(offsetBytes, vectors),
        BdevOperations.Unmap => AsResultAsync(inner.UnmapAsync(offsetBytes, lengthBytes)),
        BdevOperations.WriteZeroes => AsResultAsync(inner.WriteZeroesAsync(offsetBytes, lengthBytes)),
        _ => AsResultAsync(inner.FlushAsync()),
    };

    private static async IoTask<IoResult> AsResultAsync(IoTask<Errno> task) => await task;

    /// <summary>A request on its way there and back. Pooled at home.</summary>
    private sealed class Operation : IoOperation<IoResult>
    {
        private readonly RemoteBdev _bdev;
        private readonly Outward _outward;
        private readonly Homeward _homeward;
        private BdevOperations _kind;
        private long _offsetBytes;
        private long _lengthBytes;
        private IoVecs _vectors;
        private IoResult _result;

        public Operation(RemoteBdev bdev)
        {
            _bdev = bdev;
            _outward = new Outward(this);
            _homeward = new Homeward(this);
        }

        public Operation? NextFree { get; set; }

        public ExceptionDispatchInfo? Bug { get; set; }

        private VhostFs.Reactor.Reactor Home => _bdev.HomeReactor;

        public IoTask<IoResult> Start(BdevOperations kind, long offsetBytes, long lengthBytes, IoVecs vectors)
        {
            (_kind, _offsetBytes, _lengthBytes, _vectors) = (kind, offsetBytes, lengthBytes, vectors);
            IoTask<IoResult> task = Task;
            _bdev.AwayReactor.Send(_outward);
            return task;
        }

        protected override void Recycle()
        {
        }

        private async IoTask<bool> RunAwayAsync()
        {
            try { _result = await _bdev.ExecuteAsync(_kind, _offsetBytes, _lengthBytes, _vectors); }
#pragma warning disable CA1031 // whatever it is, home must hear of it: the request would never end
            catch (Exception bug) { Bug = ExceptionDispatchInfo.Capture(bug); }
#pragma warning restore CA1031
            Home.Send(_homeward);
            return true;
        }

        private sealed class Outward(Operation operation) : ReactorMessage
        {
            protected override void Receive() => operation.RunAwayAsync().Detach();
        }

        private sealed class Homeward(Operation operation) : ReactorMessage
        {
            protected override void Receive() => operation.Complete(operation._result);
        }
    }

    private VhostFs.Reactor.Reactor HomeReactor => home;

    private VhostFs.Reactor.Reactor AwayReactor => away;
}
