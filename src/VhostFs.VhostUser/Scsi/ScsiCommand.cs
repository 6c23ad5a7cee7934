using System.Buffers.Binary;
using VhostFs.Linux;
using VhostFs.Reactor;

namespace VhostFs.VhostUser;

/// <summary>One SCSI command on a logical unit: its CDB and its data to an outcome. Pooled with its request.</summary>
/// <remarks>
/// The CDB and parameter lists are copied once, and only the copies are looked at. A command is refused before anything is done, or done as a whole; what has
/// an allocation length gets as much as that says. Commands that move the medium's data are in <see cref="ScsiMedium"/>.
/// </remarks>
internal sealed class ScsiCommand : IDisposable
{
    /// <summary>The longest answer beside medium data is that of REPORT SUPPORTED OPERATION CODES, the longest list UNMAP's.</summary>
    private const int ReplyBytes = 1024;

    private readonly byte[] _cdb = new byte[ScsiCdb.MaxBytes];
    private readonly byte[] _reply = new byte[ReplyBytes];
    private readonly ScsiMedium _medium;
    private bool _isFirstLun;

    public ScsiCommand() => _medium = new ScsiMedium(this);

    public Span<byte> Cdb => _cdb;

    public ScsiNexus Nexus { get; private set; } = null!;

    public ScsiTarget Target => Nexus.Target;

    /// <summary>The driver's name for it.</summary>
    public ulong Id { get; private set; }

    public ScsiPayload DataOut { get; private set; }

    public ScsiPayload DataIn { get; private set; }

    /// <summary>Payload moved, in whichever direction.</summary>
    public long TransferredBytes { get; private set; }

    /// <summary>Of it: written to the guest.</summary>
    public long ReadBytes { get; private set; }

    /// <summary>Of <see cref="ScsiTaskSet"/>.</summary>
    public ScsiCommand? Older { get; set; }

    /// <inheritdoc cref="Older"/>
    public ScsiCommand? Newer { get; set; }

    /// <inheritdoc cref="Older"/>
    public ulong Sequence { get; set; }

    private ScsiOpcode Opcode => (ScsiOpcode)_cdb[0];

    /// <summary><see cref="Cdb"/> has been filled in: the command is one of its logical unit's tasks, until <see cref="End"/>.</summary>
    public void Begin(ScsiNexus nexus, bool isFirstLun, ulong id, ScsiPayload dataOut, ScsiPayload dataIn)
    {
        Nexus = nexus;
        _isFirstLun = isFirstLun;
        Id = id;
        DataOut = dataOut;
        DataIn = dataIn;
        TransferredBytes = ReadBytes = 0;
        Target.Tasks.Add(this);
    }

    public void End() => Target.Tasks.Remove(this);

    public void Dispose() => _medium.Dispose();

    public IoTask<ScsiOutcome> ExecuteAsync()
    {
        if (ScsiCdb.WantsAca(_cdb)) { return Refused(ScsiSense.InvalidFieldInCdb); }
        if (!_isFirstLun) { return new(OfMissingUnit()); }
        // These tell a unit attention themselves, or have nothing to do with the medium (SAM-5, 5.14).
        bool isExempt = Opcode is ScsiOpcode.Inquiry or ScsiOpcode.ReportLuns or ScsiOpcode.RequestSense;
        if (!isExempt && Nexus.HasAttention) { return Refused(Nexus.TakeAttention()); }
        return Target.Reservations.Allows(Nexus, ScsiOpcodes.AccessOf(_cdb)) ? DispatchAsync() : new(ScsiOutcome.Conflict);
    }

    public void WasRead(long bytes) => TransferredBytes = ReadBytes = bytes;

    public void WasWritten(long bytes) => TransferredBytes = bytes;

    private IoTask<ScsiOutcome> DispatchAsync() => Opcode switch
    {
        ScsiOpcode.TestUnitReady => new(TestUnitReady()),
        ScsiOpcode.RequestSense => new(RequestSense()),
        ScsiOpcode.Inquiry => new(Inquiry()),
        ScsiOpcode.ReportLuns => new(ReportLuns()),
        ScsiOpcode.ReadCapacity10 => new(ReadCapacity10()),
        ScsiOpcode.ServiceActionIn16 => new(ReadCapacity16()),
        ScsiOpcode.ModeSense6 or ScsiOpcode.ModeSense10 => new(ModeSense()),
        ScsiOpcode.ModeSelect6 or ScsiOpcode.ModeSelect10 => ModeSelectAsync(),
        ScsiOpcode.StartStopUnit => StartStopAsync(),
        ScsiOpcode.MaintenanceIn => new(ReportSupportedOpcodes()),
        ScsiOpcode.PersistentReserveIn => new(ReserveIn()),
        ScsiOpcode.PersistentReserveOut => ReserveOutAsync(),
        ScsiOpcode.Read6 or ScsiOpcode.Read10 or ScsiOpcode.Read12 or ScsiOpcode.Read16 => _medium.ReadAsync(),
        ScsiOpcode.Write6 or ScsiOpcode.Write10 or ScsiOpcode.Write12 or ScsiOpcode.Write16 => _medium.WriteAsync(),
        ScsiOpcode.Verify10 or ScsiOpcode.Verify16 => _medium.VerifyAsync(),
        ScsiOpcode.SynchronizeCache10 or ScsiOpcode.SynchronizeCache16 => _medium.SynchronizeAsync(),
        ScsiOpcode.WriteSame10 or ScsiOpcode.WriteSame16 => _medium.WriteSameAsync(),
        ScsiOpcode.Unmap => _medium.UnmapAsync(),
        _ => Refused(ScsiSense.InvalidOperationCode),
    };

    // A LUN that is not there, of a target that is (SPC-4, 6.4.1 and 6.33; SAM-5, 5.11).
    private ScsiOutcome OfMissingUnit()
    {
        switch (Opcode)
        {
            case ScsiOpcode.Inquiry when _cdb[1] == 0 && _cdb[2] == 0:
                return Reply(ScsiInquiry.Standard(_reply, isThere: false), BinaryPrimitives.ReadUInt16BigEndian(_cdb.AsSpan(3)));
            case ScsiOpcode.ReportLuns:
                return ReportLuns();
            case ScsiOpcode.RequestSense:
                return Reply(ScsiSense.LogicalUnitNotSupported.WriteTo(_reply, null), _cdb[4]);
            default:
                return ScsiOutcome.Check(ScsiSense.LogicalUnitNotSupported);
        }
    }

    private ScsiOutcome TestUnitReady() => Target.BlockCount == 0 ? ScsiOutcome.Check(ScsiSense.MediumNotPresent) : ScsiOutcome.Good;

    // Sense data is never kept: each answer carries its own. What can be told here is a unit attention.
    private ScsiOutcome RequestSense()
    {
        if ((_cdb[1] & 1) != 0) { return ScsiOutcome.Check(ScsiSense.InvalidFieldInCdb); } // descriptor format
        ScsiSense sense = Nexus.HasAttention ? Nexus.TakeAttention() : ScsiSense.None;
        return Reply(sense.WriteTo(_reply, null), _cdb[4]);
    }

    private ScsiOutcome Inquiry()
    {
        bool isVital = (_cdb[1] & 1) != 0;
        if ((_cdb[1] & 2) != 0 || (!isVital && _cdb[2] != 0)) { return ScsiOutcome.Check(ScsiSense.InvalidFieldInCdb); }
        int length = isVital ? ScsiInquiry.VitalProductData(_reply, _cdb[2], Target) : ScsiInquiry.Standard(_reply, isThere: true);
        return length == 0 ? ScsiOutcome.Check(ScsiSense.InvalidFieldInCdb) : Reply(length, BinaryPrimitives.ReadUInt16BigEndian(_cdb.AsSpan(3)));
    }

    private ScsiOutcome ReportLuns()
    {
        const byte all = 0, wellKnown = 1, both = 2;
        if (_cdb[2] is not (all or wellKnown or both)) { return ScsiOutcome.Check(ScsiSense.InvalidFieldInCdb); }
        int length = _cdb[2] != wellKnown ? 16 : 8;
        _reply.AsSpan(0, length).Clear(); // LUN 0 is all zeroes
        _reply[3] = (byte)(length - 8);
        return Reply(length, BinaryPrimitives.ReadUInt32BigEndian(_cdb.AsSpan(6)));
    }

    private ScsiOutcome ReadCapacity10()
    {
        if (Target.BlockCount == 0) { return ScsiOutcome.Check(ScsiSense.MediumNotPresent); }
        // All ones: too large for this command, ask READ CAPACITY (16).
        BinaryPrimitives.WriteUInt32BigEndian(_reply, (uint)Math.Min(Target.BlockCount - 1, uint.MaxValue));
        BinaryPrimitives.WriteUInt32BigEndian(_reply.AsSpan(4), (uint)Target.Bdev.BlockSize);
        return Reply(8, 8);
    }

    private ScsiOutcome ReadCapacity16()
    {
        if ((_cdb[1] & 0x1f) != ScsiOpcodes.ReadCapacity16) { return ScsiOutcome.Check(ScsiSense.InvalidFieldInCdb); }
        if (Target.BlockCount == 0) { return ScsiOutcome.Check(ScsiSense.MediumNotPresent); }
        return Reply(ScsiInquiry.Capacity16(_reply, Target), BinaryPrimitives.ReadUInt32BigEndian(_cdb.AsSpan(10)));
    }

    private ScsiOutcome ModeSense()
    {
        int length = ScsiModePages.Sense(_cdb, Target, _reply, out ScsiSense refused);
        uint allocated = Opcode == ScsiOpcode.ModeSense6 ? _cdb[4] : BinaryPrimitives.ReadUInt16BigEndian(_cdb.AsSpan(7));
        return length == 0 ? ScsiOutcome.Check(refused) : Reply(length, allocated);
    }

    private async IoTask<ScsiOutcome> ModeSelectAsync()
    {
        bool isTen = Opcode == ScsiOpcode.ModeSelect10;
        int length = isTen ? BinaryPrimitives.ReadUInt16BigEndian(_cdb.AsSpan(7)) : _cdb[4];
        // PF, pages as the standard has them, and not SP: nothing is saved.
        if ((_cdb[1] & 0x11) != 0x10) { return ScsiOutcome.Check(ScsiSense.InvalidFieldInCdb); }
        ScsiOutcome taken = TakeList(length);
        if (!taken.IsGood) { return taken; }
        ScsiSense refused = ScsiModePages.Select(isTen, _reply.AsSpan(0, length), Target, out bool? wantsWriteCache);
        if (refused != ScsiSense.None) { return ScsiOutcome.Check(refused); }
        if (wantsWriteCache is not { } wanted) { return ScsiOutcome.Good; }
        return await Target.SetWriteCacheAsync(wanted, Nexus) == Errno.None ? ScsiOutcome.Good : ScsiOutcome.Check(ScsiSense.WriteError);
    }

    // There is nothing to spin: a stop makes durable what is cached, unless it says not to (SBC-3, 5.25), and the unit stays ready.
    private async IoTask<ScsiOutcome> StartStopAsync()
    {
        bool hasPowerCondition = (_cdb[4] & 0xf0) != 0, loadsOrEjects = (_cdb[4] & 2) != 0;
        if (hasPowerCondition || loadsOrEjects) { return ScsiOutcome.Check(ScsiSense.InvalidFieldInCdb); }
        bool flushes = (_cdb[4] & 5) == 0;
        return !flushes || await Target.Bdev.FlushAsync() == Errno.None ? ScsiOutcome.Good : ScsiOutcome.Check(ScsiSense.WriteError);
    }

    private ScsiOutcome ReportSupportedOpcodes()
    {
        int options = _cdb[2] & 7;
        if ((_cdb[1] & 0x1f) != ScsiOpcodes.ReportSupportedOpcodes || options > 3) { return ScsiOutcome.Check(ScsiSense.InvalidFieldInCdb); }
        bool withTimeouts = (_cdb[2] & 0x80) != 0, canUnmap = ScsiInquiry.CanUnmap(Target);
        int length = options == 0
            ? ScsiOpcodes.ReportAll(_reply, withTimeouts, canUnmap)
            : ScsiOpcodes.ReportOne(_reply, options, _cdb[3], BinaryPrimitives.ReadUInt16BigEndian(_cdb.AsSpan(4)), withTimeouts, canUnmap);
        return length == 0 ? ScsiOutcome.Check(ScsiSense.InvalidFieldInCdb) : Reply(length, BinaryPrimitives.ReadUInt32BigEndian(_cdb.AsSpan(6)));
    }

    private ScsiOutcome ReserveIn()
    {
        int length = (_cdb[1] & 0x1f) switch
        {
            0 => Target.Reservations.ReadKeys(_reply),
            1 => Target.Reservations.ReadReservation(_reply),
            2 => ScsiReservations.ReportCapabilities(_reply),
            3 => Target.Reservations.ReadFullStatus(_reply),
            _ => 0,
        };
        return length == 0 ? ScsiOutcome.Check(ScsiSense.InvalidFieldInCdb) : Reply(length, BinaryPrimitives.ReadUInt16BigEndian(_cdb.AsSpan(7)));
    }

    private async IoTask<ScsiOutcome> ReserveOutAsync()
    {
        if (BinaryPrimitives.ReadUInt32BigEndian(_cdb.AsSpan(5)) != ScsiReserveOut.ParameterBytes) { return ScsiOutcome.Check(ScsiSense.ParameterListLengthError); }
        ScsiOutcome taken = TakeList(ScsiReserveOut.ParameterBytes);
        if (!taken.IsGood) { return taken; }
        var request = ScsiReserveOut.Read(_cdb, _reply);
        ScsiOutcome outcome = Target.Reservations.Out(Nexus, request);
        if (outcome.IsGood && request.Action == ScsiReserveAction.PreemptAndAbort) { await Target.Tasks.WaitAsync(new ScsiTaskFilter(Except: this)); }
        return outcome;
    }

    /// <summary>Hands over the first bytes of <see cref="_reply"/>: no more than the CDB has allocated.</summary>
    private ScsiOutcome Reply(int lengthBytes, uint allocatedBytes)
    {
        int length = (int)Math.Min((uint)lengthBytes, allocatedBytes);
        if (length > DataIn.LengthBytes) { return ScsiOutcome.Overrun; }
        if (length > 0) { DataIn.CopyFrom(_reply.AsSpan(0, length)); }
        WasRead(length);
        return ScsiOutcome.Good;
    }

    /// <summary>Copies a parameter list, once.</summary>
    public ScsiOutcome TakeList(int lengthBytes)
    {
        if (lengthBytes > _reply.Length) { return ScsiOutcome.Check(ScsiSense.ParameterListLengthError); }
        if (lengthBytes > DataOut.LengthBytes) { return ScsiOutcome.Overrun; }
        if (lengthBytes > 0) { DataOut.CopyTo(_reply.AsSpan(0, lengthBytes)); }
        WasWritten(lengthBytes);
        return ScsiOutcome.Good;
    }

    /// <summary>What <see cref="TakeList"/> has copied.</summary>
    public ReadOnlySpan<byte> List => _reply;

    private static IoTask<ScsiOutcome> Refused(ScsiSense sense) => new(ScsiOutcome.Check(sense));
}
