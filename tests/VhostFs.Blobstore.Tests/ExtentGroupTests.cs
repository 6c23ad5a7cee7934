using Xunit;

namespace VhostFs.Blobstore.Tests;

public sealed class ExtentGroupTests
{
    private readonly record struct Mapped(ulong Physical, bool IsUnwritten, uint Crc, ulong Birth);

    [Theory]
    [InlineData(1, true)]
    [InlineData(2, false)]
    [InlineData(3, true)]
    public void Random_maps_survive_encoding_and_decoding(int seed, bool hasCrcs)
    {
        var random = new Random(seed);
        var editor = new ExtentGroupEditor();
        var model = new Mapped[ExtentGroup.Blocks];
        Assert.True(editor.TryLoad([], hasCrcs));
        for (int i = 0; i < 3000; i++)
        {
            int block = random.Next(ExtentGroup.Blocks), count = Math.Min(random.Next(1, 20), ExtentGroup.Blocks - block);
            ulong physical = (ulong)random.Next(1, 1000);
            bool unwritten = random.Next(3) == 0, clear = random.Next(3) == 0;
            for (int k = block; k < block + count; k++)
            {
                model[k] = clear ? default : new Mapped(physical + (ulong)(k - block), unwritten, hasCrcs && !unwritten ? (uint)random.Next() : 0, (ulong)random.Next(1, 3));
                if (clear) { editor.Clear(k); }
                else { editor.Set(k, model[k].Physical, unwritten, model[k].Crc, model[k].Birth); }
            }
            byte[] encoded = editor.Encode(hasCrcs).ToArray();
            Assert.True(encoded.Length <= Tree.MaxValueBytes);
            Check(encoded, model, hasCrcs, random);
            editor = new ExtentGroupEditor();
            Assert.True(editor.TryLoad(encoded, hasCrcs));
            Assert.Equal(encoded, editor.Encode(hasCrcs).ToArray());
            Assert.Equal(Array.TrueForAll(model, static m => m.Physical == 0), editor.IsEmpty);
        }
    }

    [Fact]
    public void The_worst_map_fits_into_a_value()
    {
        var editor = new ExtentGroupEditor();
        editor.TryLoad([], hasCrcs: true);
        for (int i = 0; i < ExtentGroup.Blocks; i++) { editor.Set(i, (ulong)(1 + (2 * i)), false, 1, 1); }
        Assert.Equal(8 + (128 * 28), editor.Encode(hasCrcs: true).Length);
    }

    [Theory]
    [InlineData(0, 4, 3, 4, false)] // they overlap
    [InlineData(8, 4, 0, 4, false)] // the second lies before the first
    [InlineData(0, 4, 4, 4, true)]
    public void Runs_are_in_order_and_do_not_overlap(int first, int count, int second, int secondCount, bool isGood)
    {
        var editor = new ExtentGroupEditor();
        editor.TryLoad([], hasCrcs: false);
        editor.Set(0, 100, false, 0, 1);
        editor.Set(2, 200, false, 0, 1);
        byte[] value = editor.Encode(hasCrcs: false).ToArray();
        (value[8], value[9], value[32], value[33]) = ((byte)first, (byte)(count - 1), (byte)second, (byte)(secondCount - 1));
        Assert.Equal(isGood, editor.TryLoad(value, hasCrcs: false));
    }

    [Fact]
    public void Random_bytes_are_refused_or_stay_inside()
    {
        var random = new Random(5);
        var editor = new ExtentGroupEditor();
        for (int i = 0; i < 50000; i++)
        {
            int runs = random.Next(4), crcs = random.Next(6);
            var value = new byte[8 + (24 * runs) + (4 * crcs) + (random.Next(10) == 0 ? 1 : 0)];
            random.NextBytes(value);
            BitConverter.TryWriteBytes(value, (ushort)runs);
            BitConverter.TryWriteBytes(value.AsSpan(2), (ushort)crcs);
            for (int run = 0; run < runs; run++)
            {
                if (random.Next(4) > 0)
                {
                    value[8 + (24 * run)] &= 127;
                    value[9 + (24 * run)] = (byte)random.Next(4);
                    BitConverter.TryWriteBytes(value.AsSpan(10 + (24 * run)), (ushort)random.Next(3));
                }
            }
            for (int block = 0; block < ExtentGroup.Blocks; block++)
            {
                if (!ExtentGroup.TryFind(value, block, ExtentGroup.Blocks, hasCrcs: true, out ExtentPart part)) { continue; }
                Assert.InRange(part.Count, 1, ExtentGroup.Blocks - block);
                for (int k = 0; part.IsWritten && k < part.Count; k++) { _ = ExtentGroup.Crc(value, part.CrcIndex + k); }
            }
            editor.TryLoad(value, hasCrcs: true);
        }
    }

    private static void Check(byte[] encoded, Mapped[] model, bool hasCrcs, Random random)
    {
        int limit = random.Next(1, ExtentGroup.Blocks + 1);
        for (int block = random.Next(limit); block < limit;)
        {
            Assert.True(ExtentGroup.TryFind(encoded, block, limit, hasCrcs, out ExtentPart part));
            Assert.InRange(part.Count, 1, limit - block);
            for (int k = 0; k < part.Count; k++)
            {
                Mapped expected = model[block + k];
                Assert.Equal(expected.Physical, part.IsHole ? 0 : part.Physical + (ulong)k);
                Assert.Equal(expected.Physical != 0 && expected.IsUnwritten, part.IsUnwritten);
                if (hasCrcs && part.IsWritten) { Assert.Equal(expected.Crc, ExtentGroup.Crc(encoded, part.CrcIndex + k)); }
            }
            block += part.Count;
        }
    }
}
