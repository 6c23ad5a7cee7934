using VhostFs.Bdev;
using VhostFs.Linux;
using Xunit;

namespace VhostFs.Reactor.Tests;

public sealed class CryptoBdevTests : IDisposable
{
    private readonly SimulatedDriver _driver = new();
    private readonly Reactor _reactor;
    private readonly MallocBdev _disk = new("disk", 4 << 20, blockSize: 512);
    private readonly CryptoBdev _bdev;
    private readonly NativeBuffer _buffer = new(1 << 20);
    private readonly IoVecList _list = new();

    public CryptoBdevTests()
    {
        _reactor = new Reactor(_driver, "test");
        _bdev = new CryptoBdev(_disk, "crypto", NewCipher(1)) { OwnsInner = false };
    }

    public void Dispose()
    {
        _bdev.Dispose();
        _reactor.Dispose();
        _disk.Dispose();
        _buffer.Dispose();
        _list.Dispose();
    }

    /// <summary>IEEE 1619-2007, annex B, vectors 2 and 3.</summary>
    [Theory]
    [InlineData("11111111111111111111111111111111", "22222222222222222222222222222222", 0x3333333333UL, "4444444444444444444444444444444444444444444444444444444444444444",
        "c454185e6a16936e39334038acef838bfb186fff7480adc4289382ecd6d394f0")]
    [InlineData("fffefdfcfbfaf9f8f7f6f5f4f3f2f1f0", "22222222222222222222222222222222", 0x3333333333UL, "4444444444444444444444444444444444444444444444444444444444444444",
        "af85336b597afc1a900b2eb21ec949d292df4c047e0b21532186a5971a227a89")]
    public void The_standards_vectors(string key, string key2, ulong number, string plain, string expected)
    {
        using var cipher = new XtsCipher(Convert.FromHexString(key), Convert.FromHexString(key2));
        byte[] data = Convert.FromHexString(plain);
        cipher.Encrypt(data, data.Length, (long)number, data.Length);
        Assert.Equal(expected, Convert.ToHexStringLower(data));
        cipher.Decrypt(data, data.Length, (long)number, data.Length);
        Assert.Equal(plain, Convert.ToHexStringLower(data));
    }

    /// <summary>The hash is of what OpenSSL (aes-256-xts) makes of the same three sectors, with the sector's number as tweak.</summary>
    [Fact]
    public void Sectors_are_as_OpenSSL_has_them()
    {
        byte[] keys = [.. Enumerable.Range(0, 64).Select(i => (byte)i)], data = [.. Enumerable.Range(0, 3 * 512).Select(i => (byte)i)];
        using var cipher = new XtsCipher(keys.AsSpan(0, 32), keys.AsSpan(32));
        cipher.Encrypt(data, data.Length, firstBlock: 5, blockSize: 512);
        Assert.Equal("37a6f2caa220a4eefc15437ece7683f820a56cdba4e58998dd219c64708d53c4", Convert.ToHexStringLower(System.Security.Cryptography.SHA256.HashData(data)));
    }

    [Fact]
    public void Keys_that_are_none_are_refused()
    {
        Assert.Throws<ArgumentException>(() => new XtsCipher(new byte[24], new byte[24]));
        Assert.Throws<ArgumentException>(() => new XtsCipher(new byte[16], new byte[32]));
        Assert.Throws<ArgumentException>(() => new XtsCipher(new byte[32], new byte[32]));
    }

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    public void It_holds_what_was_written_and_below_nothing_of_it_shows(int seed)
    {
        var random = new Random(seed);
        byte[] model = new byte[_bdev.SizeBytes];
        Assert.Equal(Errno.None, Run(() => _bdev.WriteZeroesAsync(0, model.Length)));
        for (int step = 0; step < 300; step++)
        {
            int offset = random.Next(model.Length / 512) * 512, length = Math.Min(random.Next(1, random.Next(8) == 0 ? 2000 : 64) * 512, model.Length - offset);
            if (random.Next(3) > 0)
            {
                byte[] data = new byte[length];
                random.NextBytes(data);
                data.CopyTo(_buffer.Span);
                Assert.Equal(length, Run(() => _bdev.WriteAsync(offset, Pieces(length))).Value);
                Assert.Equal(data, _buffer.Span[..length].ToArray()); // what the guest gave stays as it is
                data.CopyTo(model, offset);
            }
            else if (random.Next(8) == 0)
            {
                Assert.Equal(Errno.None, Run(() => _bdev.WriteZeroesAsync(offset, length)));
                model.AsSpan(offset, length).Clear();
            }
            else
            {
                Assert.Equal(length, Run(() => _bdev.ReadAsync(offset, Pieces(length))).Value);
                Assert.Equal(model.AsSpan(offset, length).ToArray(), _buffer.Span[..length].ToArray());
            }
        }
        for (int offset = 0; offset < model.Length; offset += 512)
        {
            Assert.True(_disk.TryGetMemory(offset, 512, out IoVec below));
            Assert.False(below.Span.SequenceEqual(model.AsSpan(offset, 512)));
        }
    }

    [Fact]
    public void The_same_block_is_another_one_elsewhere_and_with_another_key()
    {
        byte[] Below(IBdev bdev, int offset)
        {
            _buffer.Span[..512].Fill(7);
            Assert.Equal(512, Run(() => bdev.WriteAsync(offset, Pieces(512))).Value);
            Assert.True(_disk.TryGetMemory(offset, 512, out IoVec below));
            return below.Span.ToArray();
        }
        using var other = new CryptoBdev(_disk, "other", NewCipher(2)) { OwnsInner = false };
        byte[] first = Below(_bdev, 0);
        Assert.NotEqual(first, Below(_bdev, 512));
        Assert.NotEqual(first, Below(other, 0));
        Assert.Equal(first, Below(_bdev, 0));
    }

    private static XtsCipher NewCipher(byte seed)
    {
        byte[] keys = new byte[64];
        new Random(seed).NextBytes(keys);
        return new XtsCipher(keys.AsSpan(0, 32), keys.AsSpan(32));
    }

    private IoVecs Pieces(int length)
    {
        _list.Clear();
        for (int done = 0, piece; done < length; done += piece) { _list.Add(_buffer.Slice(done, piece = Math.Min(length - done, 3333))); }
        return _list.View();
    }

    private T Run<T>(Func<IoTask<T>> work) => _reactor.RunUntilComplete(work);
}
