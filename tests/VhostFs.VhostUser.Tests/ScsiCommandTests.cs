using System.Buffers.Binary;
using System.Text;
using VhostFs.Bdev;
using VhostFs.Linux;

namespace VhostFs.VhostUser.Tests;

/// <summary>What a logical unit says of itself, and of what it does not do.</summary>
public sealed class ScsiCommandTests : IDisposable
{
    private readonly ScsiHost _host = new();
    private readonly ScsiGuest _guest;

    public ScsiCommandTests() => _guest = new ScsiGuest(_host.SocketPath);

    public void Dispose()
    {
        _guest.Dispose();
        _host.Dispose();
    }

    [Fact]
    public void Inquiry_says_what_it_is()
    {
        ScsiAnswer answer = _guest.In("120000006000", 96);
        Assert.True(answer.IsGood);
        Assert.Equal((0u, 108u + 96), (answer.Residual, answer.Used));
        Assert.Equal([0, 0, 6, 0x12, 91, 0, 0, 2], answer.Data[..8]);
        Assert.Equal("VHOSTFS Block Device    0001", Encoding.ASCII.GetString(answer.Data, 8, 28));
        Assert.Equal([0, 0xA0, 4, 0x60, 4, 0xC0], answer.Data[58..64]);
    }

    [Theory]
    [InlineData("120000000500", 255, 5)] // the allocation length bounds it
    [InlineData("12000000FF00", 255, 96)]
    [InlineData("120000000000", 0, 0)]
    [InlineData("12000000FF00", 96, 96)] // less room than allocated, and enough
    public void No_more_is_told_than_was_allocated(string cdb, int room, int expected)
    {
        ScsiAnswer answer = _guest.In(cdb, room);
        Assert.True(answer.IsGood);
        Assert.Equal(((uint)(room - expected), 108u + (uint)expected), (answer.Residual, answer.Used));
        Assert.All(answer.Data.Skip(expected), b => Assert.Equal(DeviceGuest.Untouched, b));
    }

    [Fact]
    public void Less_room_than_there_is_to_tell_is_an_overrun()
    {
        ScsiAnswer answer = _guest.In("12000000FF00", 95);
        Assert.Equal((ScsiResponse.Overrun, ScsiStatus.Good, 95u, 108u), (answer.Response, answer.Status, answer.Residual, answer.Used));
    }

    [Fact]
    public void Vital_product_data_has_six_pages()
    {
        Assert.Equal("00000006" + "008083B0B1B2", Page("00", 10));
        Assert.Equal("00800006" + Convert.ToHexString("memory"u8), Page("80", 10));
        // T10 vendor ID with the UUID, NAA 3h with 60 bits of it, and relative target port 1.
        string t10 = "0201002C" + Convert.ToHexString(Encoding.ASCII.GetBytes("VHOSTFS " + ScsiHost.Uuid));
        Assert.Equal("00830044" + t10 + "01030008" + "3F0123456789ABCD" + "01140004" + "00000001", Page("83", 72));
        Assert.Equal("00B0003C" + "0100" + "0008" + "00010000" + "00000800" + "00000000" + "00200000" + "00000020" + "00000001" + "00000000" + "0000000000200000" + new string('0', 40), Page("B0", 64));
        Assert.Equal("00B1003C" + "0001" + new string('0', 116), Page("B1", 64));
        Assert.Equal("00B20004" + "00E40200", Page("B2", 8));
        Assert.Equal(ScsiGuest.InvalidField, _guest.In("1201B500FF00", 255).Sense);
        Assert.Equal(ScsiGuest.InvalidField, _guest.In("12008000FF00", 255).Sense); // a page without EVPD
        Assert.Equal(ScsiGuest.InvalidField, _guest.In("12020000FF00", 255).Sense);
    }

    [Fact]
    public void Capacity_is_told_in_both_forms()
    {
        Assert.Equal("00001FFF00000200", Hex(_guest.In("25", 8)));
        Assert.Equal("0000000000001FFF" + "00000200" + "0003" + "C000" + new string('0', 32), Hex(_guest.In("9E100000000000000000000000200000", 32)));
        Assert.Equal("0000000000001FFF" + "00000200", Hex(_guest.In("9E1000000000000000000000000C0000", 12)));
        Assert.Equal(ScsiGuest.InvalidField, _guest.In("9E120000000000000000000000200000", 32).Sense);
        _host.OnReactorAsync(() => _host.Bdev.ResizeAsync(0));
        Assert.Equal(0x062A09, _guest.TestUnitReady().Sense);
        Assert.Equal(ScsiGuest.NoMedium, _guest.TestUnitReady().Sense);
        Assert.Equal(ScsiGuest.NoMedium, _guest.In("25", 8).Sense);
        Assert.Equal(ScsiGuest.NoMedium, _guest.In("9E100000000000000000000000200000", 32).Sense);
    }

    [Fact]
    public void More_blocks_than_32_bits_hold_are_for_the_long_form()
    {
        _host.Add(3, _ => new NullBdev("large", 3L << 40, 512));
        Assert.Equal(ScsiGuest.PowerOn, _guest.TestUnitReady(3).Sense);
        Assert.Equal("FFFFFFFF00000200", Hex(_guest.In("25", 8, target: 3)));
        Assert.Equal("000000017FFFFFFF", Hex(_guest.In("9E100000000000000000000000080000", 8, target: 3)));
    }

    [Theory]
    [InlineData("A00000000000000000100000", 16, "00000008000000000000000000000000")]
    [InlineData("A00001000000000000100000", 8, "0000000000000000")] // well known ones alone
    [InlineData("A00002000000000000100000", 16, "00000008000000000000000000000000")]
    public void There_is_LUN_0(string cdb, int bytes, string expected)
    {
        Assert.Equal(expected, Hex(_guest.In(cdb, bytes)));
        Assert.Equal(expected, Hex(_guest.Command(cdb, [], bytes, lun: 0x4005)));
    }

    [Fact]
    public void Other_LUNs_of_a_target_are_not_there()
    {
        Assert.Equal(0x7f, _guest.Command("120000006000", [], 96, lun: 0x4001).Data[0]);
        Assert.Equal(ScsiGuest.NoUnit, _guest.Command("12018000FF00", [], 96, lun: 0x4001).Sense);
        Assert.Equal(ScsiGuest.NoUnit, _guest.Command("000000000000", lun: 1).Sense);
        Assert.Equal("70000500000000" + "0A" + "00000000" + "2500" + "00000000", Hex(_guest.Command("030000001200", [], 18, lun: 1)));
        Assert.True(_guest.Command("000000000000", lun: 0).IsGood); // peripheral addressing
        Assert.Equal(ScsiResponse.BadTarget, _guest.TestUnitReady(1).Response);
        Assert.Equal(ScsiResponse.BadTarget, _guest.TestUnitReady(255).Response);
    }

    [Fact]
    public void Mode_pages_are_caching_and_control()
    {
        const string caching = "0812" + "00" + "0000000000000000000000000000000000", control = "0A0A0210" + "00000000" + "FFFF0000";
        Assert.Equal("1F001008" + "00002000" + "00000200" + caching, Hex(_guest.In("1A000800FF00", 32)));
        Assert.Equal("0F001000" + control, Hex(_guest.In("1A080A00FF00", 16)));
        Assert.Equal("2B001008" + "00002000" + "00000200" + caching + control, Hex(_guest.In("1A003F00FF00", 44)));
        Assert.Equal("2B00", Hex(_guest.In("1A003FFF0200", 2)));
        Assert.Equal("00360010" + "01000010" + "0000000000002000" + "00000000" + "00000200" + caching + control, Hex(_guest.In("5A103F00000000FFFF00", 56)));
        Assert.Equal("0026001000000000" + caching + control, Hex(_guest.In("5A183F00000000FFFF00", 40)));
        Assert.Equal("0F001000" + "0A0A" + new string('0', 20), Hex(_guest.In("1A084A00FF00", 16))); // nothing of it can be changed
        Assert.Equal(0x053900, _guest.In("1A08CA00FF00", 16).Sense); // saved values
        Assert.Equal(ScsiGuest.InvalidField, _guest.In("1A081C00FF00", 16).Sense);
        Assert.Equal(ScsiGuest.InvalidField, _guest.In("1A080801FF00", 16).Sense);
        Assert.Equal(ScsiGuest.InvalidField, _guest.In("1A0808FFFF00", 16).Sense);
    }

    [Theory]
    [InlineData("1510000000", 0, 0)] // nothing
    [InlineData("1510000018", 0, 0x051A00)]
    [InlineData("151000000C", ScsiGuest.ListLength, 0, "00000000" + "0A0A0210" + "00000000")]
    [InlineData("1510000010", 0, 0, "00000000" + "0A0A0210" + "00000000" + "FFFF0000")]
    [InlineData("1510000010", ScsiGuest.InvalidParameter, 0, "00000000" + "0A0A0610" + "00000000" + "FFFF0000")] // D_SENSE
    [InlineData("1510000018", ScsiGuest.InvalidParameter, 0, "00000000" + "0812" + "04" + "0000000000000000000000000000000000")] // there is no cache
    [InlineData("151000000C", 0, 0, "00000008" + "00002000" + "00000200")]
    [InlineData("151000000C", 0, 0, "00000008" + "00000000" + "00000200")]
    [InlineData("151000000C", ScsiGuest.InvalidParameter, 0, "00000008" + "00002000" + "00001000")]
    [InlineData("151000000C", ScsiGuest.InvalidParameter, 0, "00000008" + "00001000" + "00000200")]
    [InlineData("1510000004", ScsiGuest.ListLength, 0, "00000008")]
    [InlineData("1510000004", ScsiGuest.InvalidParameter, 0, "00000007")]
    [InlineData("1510000003", ScsiGuest.ListLength, 0, "000000")]
    [InlineData("1510000006", ScsiGuest.InvalidParameter, 0, "00000000" + "1C00")]
    [InlineData("1511000004", ScsiGuest.InvalidField, 0, "00000000")] // save
    [InlineData("1500000004", ScsiGuest.InvalidField, 0, "00000000")] // vendor's own pages
    [InlineData("55100000000000001800", 0, 0, "0000000000000010" + "0000000000002000" + "00000000" + "00000200", 8)]
    [InlineData("5510000000000004FF00", ScsiGuest.ListLength, 0, "00")]
    public void Mode_select_is_obeyed_or_refused(string cdb, int expected, int overrun, string list = "", int flag = 0)
    {
        byte[] data = Convert.FromHexString(list);
        if (flag != 0) { data[4] = 1; } // LONGLBA
        ScsiAnswer answer = _guest.Out(cdb, data);
        if (overrun != 0) { Assert.Equal(ScsiResponse.Overrun, answer.Response); }
        else { Assert.Equal((expected, expected == 0), (answer.Sense, answer.IsGood)); }
    }

    [Fact]
    public void Request_sense_tells_a_unit_attention_or_nothing()
    {
        Assert.Equal("700000000000000A" + new string('0', 20), Hex(_guest.In("030000001200", 18)));
        Assert.Equal(0UL, _guest.FrontEnd.Set(MessageId.ResetDevice, []));
        for (int i = 0; i < 3; i++) { _guest.FrontEnd.Start(_guest.FrontEnd.Queues[i], _guest.FrontEnd.Queues[i].AvailIndex); }
        Assert.Equal("700006000000000A0000000029000000" + "0000", Hex(_guest.In("03000000FF00", 18)));
        Assert.True(_guest.TestUnitReady().IsGood);
        Assert.Equal(ScsiGuest.InvalidField, _guest.In("030100001200", 18).Sense);
    }

    [Fact]
    public void A_new_connection_is_told_of_the_power_on_once_and_may_ask_before()
    {
        _guest.Dispose();
        using var next = new ScsiGuest(_host.SocketPath, isReady: false);
        Assert.True(next.In("120000006000", 96).IsGood);
        Assert.True(next.In("A00000000000000000100000", 16).IsGood);
        Assert.Equal(ScsiGuest.PowerOn, next.Read(0, 1).Sense);
        Assert.True(next.Read(0, 1).IsGood);
    }

    [Theory]
    [InlineData("1B0000000100", 0)]
    [InlineData("1B0000000000", 0)]
    [InlineData("1B0000000400", 0)]
    [InlineData("1B0000000300", ScsiGuest.InvalidField)] // load
    [InlineData("1B0000002000", ScsiGuest.InvalidField)] // idle
    public void A_unit_is_started_and_stopped_and_stays_ready(string cdb, int expected)
    {
        Assert.Equal(expected, _guest.Command(cdb).Sense);
        Assert.True(_guest.TestUnitReady().IsGood);
    }

    [Fact]
    public void Supported_operation_codes_are_those_that_are_not_refused()
    {
        ScsiAnswer all = _guest.In("A30C00000000000010000000", 4096);
        Assert.True(all.IsGood);
        int bytes = BinaryPrimitives.ReadInt32BigEndian(all.Data);
        Assert.Equal(all.Used, 108u + 4 + (uint)bytes);
        var told = new HashSet<byte>();
        for (int at = 4; at < 4 + bytes; at += 8)
        {
            byte opcode = all.Data[at];
            told.Add(opcode);
            int options = (all.Data[at + 5] & 1) != 0 ? 2 : 1;
            byte[] one = _guest.In($"A30C{options:x2}{opcode:x2}{all.Data[at + 3]:x4}000001000000", 256).Data;
            Assert.Equal((3, all.Data[at + 7], opcode), (one[1], one[3], one[4]));
            Assert.Equal(ScsiGuest.InvalidField, _guest.In($"A30C{3 - options:x2}{opcode:x2}{all.Data[at + 3]:x4}000001000000", 256).Sense);
        }
        for (int opcode = 0; opcode < 256; opcode++)
        {
            bool isRefused = _guest.Command($"{opcode:x2}").Sense == ScsiGuest.InvalidOpcode;
            Assert.Equal(told.Contains((byte)opcode), !isRefused);
            if (isRefused) { Assert.Equal("00010000", Hex(_guest.In($"A30C03{opcode:x2}0000000000040000", 4))); }
        }
        Assert.Equal("0003000A28" + "08FFFFFFFF00FFFF00", Hex(_guest.In("A30C01280000000000FF0000", 14)));
        Assert.Equal("0083000A28" + "08FFFFFFFF00FFFF00" + "000A" + new string('0', 20), Hex(_guest.In("A30C81280000000000FF0000", 26)));
        Assert.Equal((bytes / 8 * 20) + 4 + 108u, _guest.In("A30C80000000000010000000", 4096).Used);
        Assert.Equal("00010000", Hex(_guest.In("A30C025E0009000000FF0000", 4)));
        Assert.Equal(ScsiGuest.InvalidField, _guest.In("A30C04280000000000FF0000", 4).Sense);
        Assert.Equal(ScsiGuest.InvalidField, _guest.In("A30A00000000000010000000", 4).Sense);
    }

    [Fact]
    public void Auto_contingent_allegiance_is_not_there()
    {
        Assert.Equal(ScsiGuest.InvalidField, _guest.Command("000000000004").Sense);
        Assert.Equal(ScsiGuest.InvalidField, _guest.In(ScsiGuest.Cdb16(0x88, 0, 1)[..30] + "04", 512).Sense);
        Assert.Equal(ScsiResponse.FunctionRejected, _guest.Manage(ScsiTaskFunction.ClearAca));
    }

    [Fact]
    public void Sense_is_of_the_fixed_format_and_names_the_block()
    {
        ScsiAnswer answer = _guest.Read(0x12345678, 1);
        Assert.Equal("F00005" + "12345678" + "0A00000000" + "2100" + "00000000", Convert.ToHexString(answer.SenseData));
        Assert.Equal((ScsiStatus.CheckCondition, 512u, 108u), (answer.Status, answer.Residual, answer.Used));
        Assert.Equal("70", Convert.ToHexString(_guest.Read(1UL << 40, 1).SenseData)[..2]); // does not fit, and is not told
    }

    private string Page(string page, int bytes) => Hex(_guest.In($"1201{page}00FF00", bytes));

    private static string Hex(ScsiAnswer answer)
    {
        Assert.True(answer.IsGood, answer.ToString());
        Assert.Equal(0u, answer.Residual);
        return Convert.ToHexString(answer.Data);
    }
}
