using System.Runtime.InteropServices;
using VhostFs.Linux;
using VhostFs.Reactor;
using VhostFs.Virtio;

namespace VhostFs.VhostUser;

/// <summary>A chain of a request queue from its header to its answer (virtio 1.2, 5.6.6.1). Pooled per device.</summary>
/// <remarks>Where descriptors begin and end means nothing: header and CDB are the first readable bytes, answer and sense the first writable ones, the rest is payload of one direction.</remarks>
internal sealed class ScsiRequest(VhostUserScsiDevice device) : IDisposable
{
    /// <summary>A driver may set it so far (config space, sense_size).</summary>
    public const int MaxSenseBytes = 252;

    private readonly ScsiCommand _command = new();
    private int _senseBytes;

    public IoVecList Readable { get; } = new();

    public IoVecList Writable { get; } = new();

    public ScsiRequest? Next { get; set; }

    private int AnswerBytes => ScsiCommandAnswer.Size + _senseBytes;

    public async IoTask<bool> RunAsync(QueueServer server, VhostUserRing ring, ushort head)
    {
        _senseBytes = device.SenseBytes; // as it is now: the driver may change it at any time
        int usedBytes = 0; // without room for an answer there is none
        ScsiTaskSet? tasks = null;
        if (Writable.LengthBytes >= AnswerBytes)
        {
            long payloadBytes = Math.Max(Readable.LengthBytes - ScsiCommandHeader.Size - device.CdbBytes, 0) + Writable.LengthBytes - AnswerBytes, readBytes = 0;
            ScsiOutcome outcome = TryBegin();
            if (outcome.IsGood)
            {
                tasks = _command.Target.Tasks;
                try { outcome = await _command.ExecuteAsync(); }
#pragma warning disable CA1031 // whatever it is, it must not keep the chain: the ring could never be stopped
                catch (Exception bug)
                {
                    device.ReportBug(bug);
                    outcome = ScsiOutcome.Check(ScsiSense.InternalTargetFailure);
                }
#pragma warning restore CA1031
                if (outcome.IsGood)
                {
                    payloadBytes -= _command.TransferredBytes;
                    readBytes = _command.ReadBytes;
                }
                _command.End();
            }
            usedBytes = Answer(outcome, payloadBytes) + (int)readBytes;
        }
        device.Return(this);
        server.Finish(ring, head, usedBytes);
        tasks?.Wake();
        return true;
    }

    public void Dispose()
    {
        Readable.Dispose();
        Writable.Dispose();
        _command.Dispose();
    }

    // Good: it has begun. Else it is answered with what comes back.
    private ScsiOutcome TryBegin()
    {
        int fixedBytes = ScsiCommandHeader.Size + device.CdbBytes;
        if (Readable.LengthBytes < fixedBytes) { return ScsiOutcome.Failure; }
        var dataOut = new ScsiPayload(Readable, fixedBytes);
        var dataIn = new ScsiPayload(Writable, AnswerBytes);
        if (dataOut.LengthBytes > 0 && dataIn.LengthBytes > 0) { return ScsiOutcome.Failure; } // INOUT is not offered
        ScsiCommandHeader header = default;
        Readable.View().CopyTo(0, MemoryMarshal.AsBytes(new Span<ScsiCommandHeader>(ref header)));
        _command.Cdb.Clear();
        Readable.View().CopyTo(ScsiCommandHeader.Size, _command.Cdb[..Math.Min(device.CdbBytes, ScsiCdb.MaxBytes)]);
        if (device.FindNexus(header.Address) is not { } nexus) { return ScsiOutcome.BadTarget; }
        _command.Begin(nexus, header.Address.IsFirstLun, header.Id, dataOut, dataIn);
        return ScsiOutcome.Good;
    }

    private int Answer(ScsiOutcome outcome, long residualBytes)
    {
        Span<byte> answer = stackalloc byte[ScsiCommandAnswer.Size + MaxSenseBytes];
        answer = answer[..AnswerBytes];
        answer.Clear();
        int sense = outcome.Status == ScsiStatus.CheckCondition ? outcome.Sense.WriteTo(answer[ScsiCommandAnswer.Size..], outcome.Information) : 0;
        MemoryMarshal.Write(answer, new ScsiCommandAnswer((uint)sense, (uint)residualBytes, 0, outcome.Status, outcome.Response));
        return Writable.View().CopyFrom(0, answer);
    }
}
