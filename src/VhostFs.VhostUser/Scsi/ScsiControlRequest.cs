using System.Runtime.InteropServices;
using VhostFs.Linux;
using VhostFs.Reactor;

namespace VhostFs.VhostUser;

/// <summary>A chain of the control queue (virtio 1.2, 5.6.6.2): task management, and notifications that no disk has. One at a time is kept for reuse.</summary>
internal sealed class ScsiControlRequest(VhostUserScsiDevice device) : IDisposable
{
    public IoVecList Readable { get; } = new();

    public IoVecList Writable { get; } = new();

    public async IoTask<bool> RunAsync(QueueServer server, VhostUserRing ring, ushort head)
    {
        int usedBytes = 0; // a request of no known kind, or without room for the answer of its kind
        uint type = 0;
        if (Readable.View().CopyTo(0, MemoryMarshal.AsBytes(new Span<uint>(ref type))) == sizeof(uint))
        {
            switch ((ScsiControlType)type)
            {
                case ScsiControlType.TaskManagement when Writable.LengthBytes >= 1:
                    usedBytes = Answer(await ManageTasksAsync());
                    break;
                case ScsiControlType.AsyncNotifyQuery or ScsiControlType.AsyncNotifySubscribe when Writable.LengthBytes >= ScsiNotifyAnswer.Size:
                    usedBytes = Answer(Notifications());
                    break;
            }
        }
        device.Return(this);
        server.Finish(ring, head, usedBytes);
        return true;
    }

    public void Dispose()
    {
        Readable.Dispose();
        Writable.Dispose();
    }

    /// <summary>SAM-5, 7. An abort completes when the commands have ended: what a bdev has begun it ends.</summary>
    private async IoTask<ScsiResponse> ManageTasksAsync()
    {
        if (!TryRead(out ScsiTaskRequest request)) { return ScsiResponse.Failure; }
        if (device.FindNexus(request.Address) is not { } nexus) { return ScsiResponse.BadTarget; }
        if (!request.Address.IsFirstLun) { return ScsiResponse.IncorrectLun; }
        ScsiTaskSet tasks = nexus.Target.Tasks;
        var one = new ScsiTaskFilter(nexus, Id: request.Id);
        switch (request.Function)
        {
            case ScsiTaskFunction.AbortTask:
                await tasks.WaitAsync(one);
                return ScsiResponse.Ok;
            case ScsiTaskFunction.AbortTaskSet:
                await tasks.WaitAsync(new ScsiTaskFilter(nexus));
                return ScsiResponse.Ok;
            case ScsiTaskFunction.ClearTaskSet:
                await tasks.WaitAsync(default);
                return ScsiResponse.Ok;
            case ScsiTaskFunction.NexusReset:
                await tasks.WaitAsync(new ScsiTaskFilter(nexus));
                nexus.Raise(ScsiUnitAttention.NexusLoss);
                return ScsiResponse.Ok;
            case ScsiTaskFunction.LogicalUnitReset:
                await tasks.WaitAsync(default);
                nexus.Target.Reset();
                return ScsiResponse.Ok;
            case ScsiTaskFunction.QueryTask:
                return tasks.Any(one) ? ScsiResponse.FunctionSucceeded : ScsiResponse.Ok;
            case ScsiTaskFunction.QueryTaskSet:
                return tasks.Any(new ScsiTaskFilter(nexus)) ? ScsiResponse.FunctionSucceeded : ScsiResponse.Ok;
            default:
                return ScsiResponse.FunctionRejected; // CLEAR ACA: there is no auto contingent allegiance
        }
    }

    // Media changes and the like (5.6.6.3.2): a disk has none to tell of.
    private ScsiNotifyAnswer Notifications()
    {
        if (!TryRead(out ScsiNotifyRequest request)) { return new ScsiNotifyAnswer(0, ScsiResponse.Failure); }
        if (device.FindNexus(request.Address) is null) { return new ScsiNotifyAnswer(0, ScsiResponse.BadTarget); }
        return new ScsiNotifyAnswer(0, request.Address.IsFirstLun ? ScsiResponse.Ok : ScsiResponse.IncorrectLun);
    }

    private bool TryRead<T>(out T request)
        where T : unmanaged
    {
        request = default;
        Span<byte> bytes = MemoryMarshal.AsBytes(new Span<T>(ref request));
        return Readable.View().CopyTo(0, bytes) == bytes.Length;
    }

    private int Answer<T>(T answer)
        where T : unmanaged => Writable.View().CopyFrom(0, MemoryMarshal.AsBytes(new ReadOnlySpan<T>(in answer)));
}
