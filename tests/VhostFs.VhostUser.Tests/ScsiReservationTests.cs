using System.Buffers.Binary;

namespace VhostFs.VhostUser.Tests;

/// <summary>Persistent reservations between two initiators of one logical unit.</summary>
public sealed class ScsiReservationTests : IDisposable
{
    private const ulong KeyA = 0xA1A2A3A4A5A6A7A8, KeyB = 0xB1B2B3B4B5B6B7B8;
    private const int Preempted = 0x062A03, Released = 0x062A04, RegistrationPreempted = 0x062A05;
    private readonly ScsiHost _host = new(sessions: 2);
    private readonly ScsiGuest _a;
    private readonly ScsiGuest _b;

    public ScsiReservationTests()
    {
        _a = new ScsiGuest(_host.SocketPath);
        _b = new ScsiGuest(_host.SocketPath);
    }

    public void Dispose()
    {
        _a.Dispose();
        _b.Dispose();
        _host.Dispose();
    }

    [Fact]
    public void Keys_are_registered_changed_and_taken_back()
    {
        Assert.Equal("0000000000000000", Keys(_a));
        Assert.Equal(ScsiStatus.ReservationConflict, Out(_a, 0, key: 5, serviceKey: KeyA).Status); // not registered with 5
        Assert.True(Out(_a, 0, 0, KeyA).IsGood);
        Assert.Equal("0000000100000008A1A2A3A4A5A6A7A8", Keys(_b));
        Assert.Equal(ScsiStatus.ReservationConflict, Out(_a, 0, 0, KeyB).Status);
        Assert.True(Out(_a, 6, 99, KeyB).IsGood); // whatever it was
        Assert.True(Out(_b, 6, 0, KeyB).IsGood);
        Assert.Equal("0000000300000010B1B2B3B4B5B6B7B8B1B2B3B4B5B6B7B8", Keys(_a));
        Assert.True(Out(_a, 0, KeyB, 0).IsGood);
        Assert.True(Out(_b, 6, 0, 0).IsGood);
        Assert.Equal("0000000500000000", Keys(_a));
        Assert.True(Out(_a, 0, 0, 0).IsGood); // nothing of nothing
    }

    [Theory]
    [InlineData(1, true, false, false)]
    [InlineData(3, false, false, false)]
    [InlineData(5, true, false, true)]
    [InlineData(6, false, false, true)]
    [InlineData(7, true, false, true)]
    [InlineData(8, false, false, true)]
    public void A_reservation_keeps_others_out_as_its_type_says(byte type, bool othersRead, bool othersWrite, bool registrantsMay)
    {
        Assert.True(Out(_a, 0, 0, KeyA).IsGood);
        Assert.True(Out(_a, 1, KeyA, type: type).IsGood);
        Check(_a, true, true);
        Check(_b, othersRead, othersWrite);
        Assert.True(_b.TestUnitReady().IsGood);
        Assert.True(_b.In("120000006000", 96).IsGood);
        Assert.True(_b.In("25", 8).IsGood);
        Assert.True(_b.Command("1B0000000100").IsGood);
        Assert.Equal(ScsiStatus.ReservationConflict, _b.Command("1B0000000000").Status);
        Assert.True(_b.In("5E000000000000FFFF00", 16).IsGood);
        Assert.Equal(ScsiStatus.ReservationConflict, Out(_b, 1, KeyB, type: type).Status);
        Assert.True(Out(_b, 0, 0, KeyB).IsGood);
        Check(_b, othersRead || registrantsMay, othersWrite || registrantsMay);
        string key = type >= 7 ? "0000000000000000" : $"{KeyA:X16}";
        Assert.Equal($"0000000200000010{key}0000000000{type:X2}0000", Reservation(_b));
        Assert.True(Out(_a, 2, KeyA, type: type).IsGood);
        if (registrantsMay) { Assert.Equal(Released, _b.TestUnitReady().Sense); } // what only they could do, all can
        Check(_b, true, true);
        Assert.Equal("0000000200000000", Reservation(_a));
    }

    [Fact]
    public void A_reservation_is_taken_once_and_released_by_its_holder()
    {
        Out(_a, 0, 0, KeyA);
        Out(_b, 0, 0, KeyB);
        Assert.True(Out(_a, 1, KeyA, type: 1).IsGood);
        Assert.True(Out(_a, 1, KeyA, type: 1).IsGood);
        Assert.Equal(ScsiStatus.ReservationConflict, Out(_a, 1, KeyA, type: 3).Status); // another type is another reservation
        Assert.Equal(ScsiStatus.ReservationConflict, Out(_b, 1, KeyB, type: 1).Status);
        Assert.True(Out(_b, 2, KeyB, type: 1).IsGood); // not his, and so nothing
        Check(_b, true, false);
        Assert.Equal(0x052604, Out(_a, 2, KeyA, type: 3).Sense);
        Assert.Equal(ScsiStatus.ReservationConflict, Out(_a, 2, KeyB, type: 1).Status);
        Assert.True(Out(_a, 0, KeyA, 0).IsGood); // whose registration goes, goes the reservation
        Check(_b, true, true);
    }

    [Fact]
    public void Full_status_tells_who_is_registered_and_who_holds()
    {
        Out(_a, 0, 0, KeyA);
        Out(_b, 0, 0, KeyB);
        Out(_b, 1, KeyB, type: 5);
        string told = Told(_a.In("5E030000000000FFFF00", 256));
        Assert.Equal("0000000200000060", told[..16]);
        Assert.Equal($"{KeyA:X16}" + "00000000" + "0000" + "00000000" + "0001" + "00000018" + "06000000" + "3", told[16..73]);
        Assert.Equal($"{KeyB:X16}" + "00000000" + "0105" + "00000000" + "0001" + "00000018" + "06000000" + "3", told[112..169]);
        Assert.NotEqual(told[72..88], told[168..184]); // two initiators, two addresses
        Assert.Equal(told, Told(_b.In("5E030000000000FFFF00", 256)));
    }

    [Fact]
    public void Clear_takes_all_and_tells_the_others()
    {
        Out(_a, 0, 0, KeyA);
        Out(_b, 0, 0, KeyB);
        Out(_a, 1, KeyA, type: 3);
        Assert.True(Out(_b, 3, KeyB).IsGood);
        Assert.Equal(Preempted, _a.TestUnitReady().Sense);
        Assert.Equal("0000000300000000", Keys(_a));
        Check(_b, true, true);
    }

    [Theory]
    [InlineData(4)]
    [InlineData(5)]
    public void Preempt_takes_the_reservation_of_who_has_the_key(int action)
    {
        Out(_a, 0, 0, KeyA);
        Out(_b, 0, 0, KeyB);
        Out(_a, 1, KeyA, type: 3);
        Assert.Equal(ScsiStatus.ReservationConflict, Out(_b, action, KeyB, 12345, type: 1).Status);
        Assert.Equal(ScsiGuest.InvalidParameter, Out(_b, action, KeyB, 0, type: 1).Sense);
        Assert.True(Out(_b, action, KeyB, KeyA, type: 1).IsGood);
        Assert.Equal(RegistrationPreempted, _a.TestUnitReady().Sense);
        Check(_a, true, false);
        Check(_b, true, true);
        Assert.Equal($"0000000300000008{KeyB:X16}", Keys(_a));
        Assert.True(Out(_a, 6, 0, KeyA).IsGood);
        Assert.True(Out(_b, action, KeyB, KeyA, type: 3).IsGood); // only the registration: the reservation was not a's
        Assert.Equal(RegistrationPreempted, _a.TestUnitReady().Sense);
        Check(_a, true, false);
    }

    [Fact]
    public void Preempt_of_all_registrants_leaves_its_caller()
    {
        Out(_a, 0, 0, KeyA);
        Out(_b, 0, 0, KeyB);
        Out(_a, 1, KeyA, type: 8);
        Assert.True(Out(_b, 4, KeyB, 0, type: 1).IsGood);
        Assert.Equal(RegistrationPreempted, _a.TestUnitReady().Sense);
        Assert.Equal($"0000000300000008{KeyB:X16}", Keys(_b));
        Check(_a, true, false);
    }

    [Fact]
    public void The_last_registrant_takes_a_reservation_of_all_with_him()
    {
        Out(_a, 0, 0, KeyA);
        Out(_b, 0, 0, KeyB);
        Out(_a, 1, KeyA, type: 8);
        Out(_a, 0, KeyA, 0);
        Check(_a, false, false);
        Out(_b, 0, KeyB, 0);
        Check(_a, true, true);
    }

    [Fact]
    public void Registrations_are_the_initiators_and_not_the_connections()
    {
        Out(_a, 0, 0, KeyA);
        Out(_a, 1, KeyA, type: 1);
        _a.Dispose();
        Check(_b, true, false);
        using var again = new ScsiGuest(_host.SocketPath);
        Check(again, true, true);
        Assert.Equal(ScsiResponse.Ok, _b.Manage(ScsiTaskFunction.LogicalUnitReset));
        Assert.Equal(0x062903, _b.TestUnitReady().Sense);
        Check(_b, true, false);
    }

    [Fact]
    public void What_there_is_not_is_refused()
    {
        Assert.Equal("00080080EA010000", Convert.ToHexString(_a.In("5E020000000000FFFF00", 8).Data)); // capabilities
        Assert.Equal(ScsiGuest.InvalidField, _a.In("5E040000000000FFFF00", 64).Sense);
        Assert.Equal(ScsiGuest.ListLength, _a.Out("5F000000000000001700", new byte[23]).Sense);
        Assert.Equal(ScsiResponse.Overrun, _a.Out("5F000000000000001800", new byte[23]).Response);
        foreach (byte flag in (byte[])[1, 4, 8]) { Assert.Equal(ScsiGuest.InvalidParameter, Out(_a, 0, 0, KeyA, flags: flag).Sense); } // APTPL, ALL_TG_PT, SPEC_I_PT
        Assert.True(Out(_a, 0, 0, KeyA).IsGood);
        Assert.Equal(ScsiGuest.InvalidField, Out(_a, 7, KeyA, KeyB).Sense); // register and move
        Assert.Equal(ScsiGuest.InvalidField, Out(_a, 1, KeyA, type: 2).Sense);
        Assert.Equal(ScsiGuest.InvalidField, Out(_a, 1, KeyA, type: 0x11).Sense); // a scope that is not the unit
        Assert.Equal(ScsiStatus.ReservationConflict, Out(_b, 3, KeyA).Status);
    }

    private static void Check(ScsiGuest guest, bool reads, bool writes)
    {
        Assert.Equal(reads ? ScsiStatus.Good : ScsiStatus.ReservationConflict, guest.Read(0, 1).Status);
        Assert.Equal(writes ? ScsiStatus.Good : ScsiStatus.ReservationConflict, guest.Write(0, new byte[512]).Status);
        Assert.Equal(writes ? ScsiStatus.Good : ScsiStatus.ReservationConflict, guest.Command(ScsiGuest.Cdb10(0x35, 0, 0)).Status);
    }

    private static ScsiAnswer Out(ScsiGuest guest, int action, ulong key, ulong serviceKey = 0, byte type = 0, byte flags = 0)
    {
        byte[] list = new byte[24];
        BinaryPrimitives.WriteUInt64BigEndian(list, key);
        BinaryPrimitives.WriteUInt64BigEndian(list.AsSpan(8), serviceKey);
        list[20] = flags;
        return guest.Out($"5F{action:x2}{type:x2}00000000001800", list);
    }

    private static string Keys(ScsiGuest guest) => Told(guest.In("5E000000000000FFFF00", 256));

    private static string Reservation(ScsiGuest guest) => Told(guest.In("5E010000000000FFFF00", 256));

    private static string Told(ScsiAnswer answer)
    {
        Assert.True(answer.IsGood, answer.ToString());
        return Convert.ToHexString(answer.Data[..(int)(answer.Used - 108)]);
    }
}
