using System.Buffers.Binary;

namespace VhostFs.VhostUser;

/// <summary>What a command does with the medium, as far as reservations care (SPC-4, table 66; SBC-3, table 13).</summary>
internal enum ScsiAccess
{
    /// <summary>Never in conflict.</summary>
    Free,
    Read,
    Write,
}

/// <summary>SPC-4, 6.15.3.4.</summary>
internal enum ScsiReservationType : byte
{
    None = 0,
    WriteExclusive = 1,
    ExclusiveAccess = 3,
    WriteExclusiveRegistrantsOnly = 5,
    ExclusiveAccessRegistrantsOnly = 6,
    WriteExclusiveAllRegistrants = 7,
    ExclusiveAccessAllRegistrants = 8,
}

/// <summary>PERSISTENT RESERVE OUT's parameters (SPC-4, 6.16.3).</summary>
/// <param name="ScopeAndType">Byte 2 of the CDB.</param>
/// <param name="Flags">Byte 20 of the parameter list.</param>
internal readonly record struct ScsiReserveOut(ScsiReserveAction Action, byte ScopeAndType, ulong Key, ulong ServiceKey, byte Flags)
{
    public const int ParameterBytes = 24;

    public static ScsiReserveOut Read(ReadOnlySpan<byte> cdb, ReadOnlySpan<byte> list) => new((ScsiReserveAction)(cdb[1] & 0x1f), cdb[2],
        BinaryPrimitives.ReadUInt64BigEndian(list), BinaryPrimitives.ReadUInt64BigEndian(list[8..]), list[20]);

    /// <summary>The scope is the logical unit, and the type is one.</summary>
    public bool TryGetType(out ScsiReservationType type)
    {
        type = (ScsiReservationType)(ScopeAndType & 0x0f);
        return ScopeAndType >> 4 == 0 && type != ScsiReservationType.None && Enum.IsDefined(type);
    }
}

/// <summary>Service actions of PERSISTENT RESERVE OUT.</summary>
internal enum ScsiReserveAction : byte
{
    Register = 0,
    Reserve = 1,
    Release = 2,
    Clear = 3,
    Preempt = 4,
    PreemptAndAbort = 5,
    RegisterAndIgnoreExistingKey = 6,
}

/// <summary>Registrations and the persistent reservation of one logical unit (SPC-4, 5.13). In memory: they end with the target, as one without APTPL loses them with its power.</summary>
/// <remarks>Invariants: an initiator is registered at most once; who holds the reservation is registered, and so is somebody while one of an all-registrants type is there.</remarks>
internal sealed class ScsiReservations(ScsiTarget target)
{
    /// <summary>All of them fit into one answer of READ FULL STATUS.</summary>
    private const int MaxRegistrations = 16;

    private const int StatusBytes = 24, TransportIdBytes = 24;

    private readonly List<Registration> _registrations = [];
    private uint _generation;
    private ScsiReservationType _type;
    private string? _holder; // null while the type is one of all registrants

    private bool IsOfAll => _type is ScsiReservationType.WriteExclusiveAllRegistrants or ScsiReservationType.ExclusiveAccessAllRegistrants;

    private bool IsOfRegistrants => IsOfAll || _type is ScsiReservationType.WriteExclusiveRegistrantsOnly or ScsiReservationType.ExclusiveAccessRegistrantsOnly;

    private bool IsExclusiveAccess =>
        _type is ScsiReservationType.ExclusiveAccess or ScsiReservationType.ExclusiveAccessRegistrantsOnly or ScsiReservationType.ExclusiveAccessAllRegistrants;

    public bool Allows(ScsiNexus nexus, ScsiAccess access)
    {
        if (_type == ScsiReservationType.None || access == ScsiAccess.Free || nexus.Initiator == _holder) { return true; }
        if (access == ScsiAccess.Read && !IsExclusiveAccess) { return true; }
        return IsOfRegistrants && Find(nexus.Initiator) >= 0;
    }

    /// <summary>READ KEYS; returns its length in bytes.</summary>
    public int ReadKeys(Span<byte> reply)
    {
        WriteHead(reply, _registrations.Count * 8);
        for (int i = 0; i < _registrations.Count; i++) { BinaryPrimitives.WriteUInt64BigEndian(reply[(8 + (i * 8))..], _registrations[i].Key); }
        return 8 + (_registrations.Count * 8);
    }

    /// <summary>READ RESERVATION; returns its length in bytes.</summary>
    public int ReadReservation(Span<byte> reply)
    {
        if (_type == ScsiReservationType.None)
        {
            WriteHead(reply, 0);
            return 8;
        }
        WriteHead(reply, 16);
        reply.Slice(8, 16).Clear();
        if (_holder is not null) { BinaryPrimitives.WriteUInt64BigEndian(reply[8..], _registrations[Find(_holder)].Key); }
        reply[21] = (byte)_type;
        return 24;
    }

    /// <summary>READ FULL STATUS (SPC-4, 6.15.5); returns its length in bytes.</summary>
    public int ReadFullStatus(Span<byte> reply)
    {
        int at = 8;
        foreach (Registration registration in _registrations)
        {
            Span<byte> status = reply.Slice(at, StatusBytes + TransportIdBytes);
            status.Clear();
            BinaryPrimitives.WriteUInt64BigEndian(status, registration.Key);
            if (_type != ScsiReservationType.None && (IsOfAll || registration.Initiator == _holder))
            {
                status[12] = 1; // R_HOLDER
                status[13] = (byte)_type;
            }
            status[19] = 1; // relative target port, as VPD page 83h has it
            status[23] = TransportIdBytes;
            WriteTransportId(status[StatusBytes..], registration.Initiator);
            at += status.Length;
        }
        WriteHead(reply, at - 8);
        return at;
    }

    /// <summary>REPORT CAPABILITIES; returns its length in bytes.</summary>
    public static int ReportCapabilities(Span<byte> reply)
    {
        // No registering for others or for all ports, and nothing outlives the power; every type there is.
        ReadOnlySpan<byte> capabilities = [0, 8, 0, 0x80, 0xEA, 0x01, 0, 0];
        capabilities.CopyTo(reply);
        return capabilities.Length;
    }

    /// <summary>PERSISTENT RESERVE OUT, but for the waiting of PREEMPT AND ABORT.</summary>
    public ScsiOutcome Out(ScsiNexus nexus, ScsiReserveOut request)
    {
        int own = Find(nexus.Initiator);
        if (request.Action is ScsiReserveAction.Register or ScsiReserveAction.RegisterAndIgnoreExistingKey) { return Register(nexus, own, request); }
        if (request.Action > ScsiReserveAction.RegisterAndIgnoreExistingKey) { return ScsiOutcome.Check(ScsiSense.InvalidFieldInCdb); }
        if (own < 0 || _registrations[own].Key != request.Key) { return ScsiOutcome.Conflict; }
        return request.Action switch
        {
            ScsiReserveAction.Reserve => Reserve(nexus, request),
            ScsiReserveAction.Release => Release(nexus, request),
            ScsiReserveAction.Clear => Clear(nexus),
            _ => Preempt(nexus, request),
        };
    }

    private ScsiOutcome Register(ScsiNexus nexus, int own, ScsiReserveOut request)
    {
        // SPEC_I_PT, ALL_TG_PT and APTPL: the capabilities say that they are not there.
        if ((request.Flags & 0x0d) != 0) { return ScsiOutcome.Check(ScsiSense.InvalidFieldInParameterList); }
        ulong expected = own < 0 ? 0 : _registrations[own].Key;
        if (request.Action == ScsiReserveAction.Register && request.Key != expected) { return ScsiOutcome.Conflict; }
        if (request.ServiceKey == 0)
        {
            if (own >= 0) { Unregister(nexus, own); }
        }
        else if (own >= 0) { _registrations[own] = new Registration(nexus.Initiator, request.ServiceKey); }
        else if (_registrations.Count == MaxRegistrations) { return ScsiOutcome.Check(ScsiSense.InsufficientRegistrations); }
        else { _registrations.Add(new Registration(nexus.Initiator, request.ServiceKey)); }
        _generation++;
        return ScsiOutcome.Good;
    }

    private void Unregister(ScsiNexus nexus, int own)
    {
        _registrations.RemoveAt(own);
        bool isLast = IsOfAll && _registrations.Count == 0;
        if (nexus.Initiator == _holder || isLast) { End(nexus); }
    }

    private ScsiOutcome Reserve(ScsiNexus nexus, ScsiReserveOut request)
    {
        if (!request.TryGetType(out ScsiReservationType type)) { return ScsiOutcome.Check(ScsiSense.InvalidFieldInCdb); }
        if (_type == ScsiReservationType.None)
        {
            Take(nexus, type);
            return ScsiOutcome.Good;
        }
        return (IsOfAll || nexus.Initiator == _holder) && type == _type ? ScsiOutcome.Good : ScsiOutcome.Conflict;
    }

    private ScsiOutcome Release(ScsiNexus nexus, ScsiReserveOut request)
    {
        if (_type == ScsiReservationType.None || !(IsOfAll || nexus.Initiator == _holder)) { return ScsiOutcome.Good; }
        if (!request.TryGetType(out ScsiReservationType type) || type != _type) { return ScsiOutcome.Check(ScsiSense.InvalidRelease); }
        End(nexus);
        return ScsiOutcome.Good;
    }

    private ScsiOutcome Clear(ScsiNexus nexus)
    {
        foreach (Registration registration in _registrations) { RaiseUnlessSelf(registration.Initiator, nexus, ScsiUnitAttention.ReservationsPreempted); }
        _registrations.Clear();
        _type = ScsiReservationType.None;
        _holder = null;
        _generation++;
        return ScsiOutcome.Good;
    }

    // SPC-4, 5.13.11.5: whose key it is loses the registration; if the reservation was theirs, it is the caller's from here on.
    private ScsiOutcome Preempt(ScsiNexus nexus, ScsiReserveOut request)
    {
        if (!request.TryGetType(out ScsiReservationType type)) { return ScsiOutcome.Check(ScsiSense.InvalidFieldInCdb); }
        bool takesAll = IsOfAll && request.ServiceKey == 0;
        bool takesReservation = takesAll || (_holder is not null && _registrations[Find(_holder)].Key == request.ServiceKey);
        if (request.ServiceKey == 0 && !takesAll) { return ScsiOutcome.Check(ScsiSense.InvalidFieldInParameterList); }
        bool Loses(Registration other) => takesAll || other.Key == request.ServiceKey;
        if (!_registrations.Exists(Loses)) { return ScsiOutcome.Conflict; }
        ScsiReservationType before = _type;
        foreach (Registration lost in _registrations.FindAll(Loses))
        {
            if (lost.Initiator == nexus.Initiator && takesReservation) { continue; } // who takes over stays registered
            _registrations.Remove(lost);
            RaiseUnlessSelf(lost.Initiator, nexus, ScsiUnitAttention.RegistrationsPreempted);
        }
        if (takesReservation)
        {
            Take(nexus, type);
            if (before != type)
            {
                foreach (Registration left in _registrations) { RaiseUnlessSelf(left.Initiator, nexus, ScsiUnitAttention.ReservationsReleased); }
            }
        }
        else if (IsOfAll && _registrations.Count == 0) { End(nexus); }
        _generation++;
        return ScsiOutcome.Good;
    }

    private void Take(ScsiNexus nexus, ScsiReservationType type)
    {
        _type = type;
        _holder = IsOfAll ? null : nexus.Initiator;
    }

    // Registrants who could do what others could not are told that now everybody can (5.13.11.2.2).
    private void End(ScsiNexus nexus)
    {
        if (IsOfRegistrants)
        {
            foreach (Registration registration in _registrations) { RaiseUnlessSelf(registration.Initiator, nexus, ScsiUnitAttention.ReservationsReleased); }
        }
        _type = ScsiReservationType.None;
        _holder = null;
    }

    private void RaiseUnlessSelf(string initiator, ScsiNexus nexus, ScsiUnitAttention attention)
    {
        if (initiator != nexus.Initiator) { target.Raise(attention, initiator); }
    }

    private int Find(string initiator) => _registrations.FindIndex(r => r.Initiator == initiator);

    // virtio-scsi has no form of its own (SPC-4, 7.6.4): that of SAS, with an address that is locally assigned, and the same for the same name.
    private static void WriteTransportId(Span<byte> id, string initiator)
    {
        const byte sas = 6;
        ulong hash = 0xcbf29ce484222325; // FNV-1a
        foreach (char c in initiator) { hash = (hash ^ c) * 0x100000001b3; }
        id[0] = sas;
        BinaryPrimitives.WriteUInt64BigEndian(id[4..], (hash & 0x0fff_ffff_ffff_ffff) | 0x3000_0000_0000_0000);
    }

    private void WriteHead(Span<byte> reply, int bytes)
    {
        BinaryPrimitives.WriteUInt32BigEndian(reply, _generation);
        BinaryPrimitives.WriteUInt32BigEndian(reply[4..], (uint)bytes);
    }

    private readonly record struct Registration(string Initiator, ulong Key);
}
