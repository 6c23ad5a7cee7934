using VhostFs.Linux;
using Xunit;

namespace VhostFs.Blobstore.Tests;

public sealed unsafe class NodePageTests : IDisposable
{
    private readonly NativeBuffer _left = new(NodePage.Bytes, zeroed: true);
    private readonly NativeBuffer _right = new(NodePage.Bytes, zeroed: true);

    public void Dispose()
    {
        _left.Dispose();
        _right.Dispose();
    }

    [Theory]
    [InlineData(1, 40)]
    [InlineData(2, 400)]
    [InlineData(3, Tree.MaxValueBytes)]
    public void Random_changes_equal_a_sorted_list(int seed, int maxBytes)
    {
        var random = new Random(seed);
        NodePage page = Make(_left);
        var model = new SortedList<TreeKey, byte[]>();
        for (int i = 0; i < 20000; i++)
        {
            var key = new TreeKey((ulong)random.Next(50), (ulong)random.Next(20));
            byte[] value = new byte[random.Next(4) == 0 ? maxBytes : random.Next(maxBytes + 1)];
            random.NextBytes(value);
            bool exists = page.Find(key, out int index);
            Assert.Equal(model.IndexOfKey(key), exists ? index : -1);
            if (exists && random.Next(3) == 0)
            {
                page.Remove(index);
                model.Remove(key);
            }
            else if (exists)
            {
                bool fits = page.TryResize(index, value.Length, out Span<byte> room);
                Assert.True(fits || value.Length > model[key].Length);
                if (!fits) { continue; }
                value.CopyTo(room);
                model[key] = value;
            }
            else
            {
                int used = page.UsedBytes;
                bool fits = page.TryInsert(index, key, value.Length, out Span<byte> room);
                Assert.Equal(used + NodePage.SlotBytes + value.Length <= NodePage.CapacityBytes, fits);
                if (!fits) { continue; }
                value.CopyTo(room);
                model.Add(key, value);
            }
            if (i % 100 == 0) { Compare(page, model, seed, i); }
        }
        Compare(page, model, seed, 20000);
    }

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    public void A_split_moves_the_tail_and_leaves_room_for_the_largest_value_on_both_sides(int seed)
    {
        var random = new Random(seed);
        for (int round = 0; round < 200; round++)
        {
            NodePage left = Make(_left), right = Make(_right);
            var model = new SortedList<TreeKey, byte[]>();
            int max = random.Next(2) == 0 ? Tree.MaxValueBytes : random.Next(1, Tree.MaxValueBytes);
            for (ulong k = 0; ; k++)
            {
                byte[] value = new byte[random.Next(max + 1)];
                random.NextBytes(value);
                if (!left.TryInsert(left.Count, new TreeKey(1, k), value.Length, out Span<byte> room)) { break; }
                value.CopyTo(room);
                model.Add(new TreeKey(1, k), value);
            }
            int middle = left.MiddleByBytes();
            Assert.InRange(middle, 1, left.Count - 1);
            left.MoveTail(middle, right);
            Assert.Equal(model.Count, left.Count + right.Count);
            for (int i = 0; i < model.Count; i++)
            {
                NodePage page = i < middle ? left : right;
                int at = i < middle ? i : i - middle;
                Assert.Equal(model.Keys[i], page.KeyAt(at));
                Assert.True(page.ValueAt(at).SequenceEqual(model.Values[i]));
            }
            Assert.True(left.TryInsert(left.Count, new TreeKey(2, 0), Tree.MaxValueBytes, out _), $"seed {seed}, round {round}");
            Assert.True(right.TryInsert(right.Count, new TreeKey(2, 0), Tree.MaxValueBytes, out _), $"seed {seed}, round {round}");
        }
    }

    [Fact]
    public void The_layout_is_the_documented_one()
    {
        NodePage page = Make(_left);
        page.Address = 0x1122334455667788;
        page.BirthEpoch = 0x0102030405060708;
        Assert.True(page.TryInsert(0, new TreeKey(0xAABB, 0xCCDD), 3, out Span<byte> value));
        "abc"u8.CopyTo(value);
        uint crc = page.Seal();
        Span<byte> bytes = _left.Span;
        Assert.Equal("VFSN"u8, bytes[..4]);
        Assert.Equal([0, 0, 1, 0], bytes[4..8].ToArray());
        Assert.Equal(77ul, BitConverter.ToUInt64(bytes[8..]));
        Assert.Equal(0x0102030405060708ul, BitConverter.ToUInt64(bytes[16..]));
        Assert.Equal(0x1122334455667788ul, BitConverter.ToUInt64(bytes[24..]));
        Assert.Equal(16377u, BitConverter.ToUInt32(bytes[32..]));
        Assert.Equal(0u, BitConverter.ToUInt32(bytes[36..]));
        Assert.Equal(0xAABBul, BitConverter.ToUInt64(bytes[64..]));
        Assert.Equal(0xCCDDul, BitConverter.ToUInt64(bytes[72..]));
        Assert.Equal(16377, BitConverter.ToUInt16(bytes[80..]));
        Assert.Equal(3, BitConverter.ToUInt16(bytes[82..]));
        Assert.Equal("abc"u8, bytes[16377..16380]);
        Assert.Equal(crc, BitConverter.ToUInt32(bytes[16380..]));
        Assert.Equal(Crc32C.Compute(bytes[..16380]), crc);
    }

    [Fact]
    public void Sealing_leaves_no_old_bytes_between_slots_and_heap()
    {
        NodePage page = Make(_left);
        for (ulong k = 0; k < 10; k++)
        {
            page.TryInsert(page.Count, new TreeKey(1, k), 100, out Span<byte> value);
            value.Fill(0xEE);
        }
        for (int i = 0; i < 9; i++) { page.Remove(0); }
        page.TryInsert(1, new TreeKey(2, 0), NodePage.CapacityBytes - 120 - 20 - 100, out Span<byte> big); // compacts
        big.Clear();
        page.Remove(1);
        page.Seal();
        Assert.Equal(-1, _left.Span[(NodePage.HeaderBytes + NodePage.SlotBytes)..(NodePage.HeapEnd - 100 - big.Length)].IndexOf((byte)0xEE));
    }

    [Theory]
    [InlineData("magic")]
    [InlineData("volume")]
    [InlineData("level")]
    [InlineData("address")]
    [InlineData("count")]
    [InlineData("heap start")]
    [InlineData("dead bytes")]
    [InlineData("negative dead bytes")]
    [InlineData("entry outside")]
    [InlineData("order")]
    [InlineData("empty")]
    public void A_forged_page_is_refused(string what)
    {
        NodePage page = Make(_left);
        for (ulong k = 0; k < 3; k++) { page.TryInsert(page.Count, new TreeKey(1, k), 100, out _); }
        page.Address = 16;
        Assert.True(page.IsWellFormed(77, 0, 16, false, out _));
        byte* bytes = (byte*)_left.Address;
        switch (what)
        {
            case "magic": bytes[0]++; break;
            case "volume": bytes[8]++; break;
            case "level": bytes[4]++; break;
            case "address": bytes[24]++; break;
            case "count": *(ushort*)(bytes + 6) = 900; break;
            case "heap start": *(int*)(bytes + 32) = NodePage.HeapEnd + 1; break;
            case "dead bytes": *(int*)(bytes + 36) = 1; break;
            case "negative dead bytes":
                // Three entries over the same 300 bytes: 900 live bytes in a heap of 300.
                for (int i = 0; i < 3; i++)
                {
                    *(ushort*)(bytes + 64 + (20 * i) + 16) = (ushort)(NodePage.HeapEnd - 300);
                    *(ushort*)(bytes + 64 + (20 * i) + 18) = 300;
                }
                *(int*)(bytes + 36) = -600;
                break;
            case "entry outside": *(ushort*)(bytes + 64 + 18) = 400; break;
            case "order": *(ulong*)(bytes + 64 + 8) = 9; break;
            case "empty":
                *(ushort*)(bytes + 6) = 0;
                *(int*)(bytes + 32) = NodePage.HeapEnd;
                Assert.True(page.IsWellFormed(77, 0, 16, true, out _), "a root may be empty");
                break;
        }
        Assert.False(page.IsWellFormed(77, 0, 16, false, out string problem));
        Assert.NotEmpty(problem);
    }

    private static NodePage Make(NativeBuffer buffer)
    {
        var page = new NodePage((byte*)buffer.Address);
        page.Initialize(0, 77);
        return page;
    }

    private static void Compare(NodePage page, SortedList<TreeKey, byte[]> model, int seed, int step)
    {
        Assert.Equal(model.Count, page.Count);
        for (int i = 0; i < model.Count; i++)
        {
            Assert.True(page.KeyAt(i) == model.Keys[i] && page.ValueAt(i).SequenceEqual(model.Values[i]), $"seed {seed}, step {step}, entry {i}");
        }
        Assert.True(page.IsWellFormed(77, 0, 0, true, out string problem), problem);
    }
}
