using System.Buffers.Binary;
using System.Runtime.InteropServices;
using System.Security.Cryptography;

namespace VhostFs.Bdev;

/// <summary>AES-XTS (IEEE 1619) over whole blocks of a disk, by the platform's AES (OpenSSL): each block is a data unit, and its number the tweak.</summary>
/// <remarks>The same bytes on disk as SPDK's crypto bdev with AES_XTS, and as dm-crypt's aes-xts-plain64 where the sector sizes are equal. Used by one caller at a time.</remarks>
public sealed class XtsCipher : IDisposable
{
    public const int CellBytes = 16;

    private readonly Aes _dataKey = NewKey();
    private readonly Aes _tweakKey = NewKey();
    private readonly ICryptoTransform _encrypt;
    private readonly ICryptoTransform _decrypt;
    private readonly ICryptoTransform _tweak;
    private readonly byte[] _numbers = new byte[CellBytes];
    private readonly byte[] _firstTweak = new byte[CellBytes];
    private byte[] _tweaks = [];

    /// <param name="dataKey">16 or 32 bytes.</param>
    /// <param name="tweakKey">As long, and another one: with equal keys XTS is not what it promises.</param>
    public XtsCipher(ReadOnlySpan<byte> dataKey, ReadOnlySpan<byte> tweakKey)
    {
        if (dataKey.Length is not (16 or 32) || tweakKey.Length != dataKey.Length) { throw new ArgumentException("the keys have 16 or 32 bytes each"); }
        if (CryptographicOperations.FixedTimeEquals(dataKey, tweakKey)) { throw new ArgumentException("the two keys must differ"); }
        _dataKey.Key = dataKey.ToArray();
        _tweakKey.Key = tweakKey.ToArray();
        _encrypt = _dataKey.CreateEncryptor();
        _decrypt = _dataKey.CreateDecryptor();
        _tweak = _tweakKey.CreateEncryptor();
    }

    /// <summary>In place; whole blocks.</summary>
    /// <param name="firstBlock">Number of the first.</param>
    public void Encrypt(byte[] data, int length, long firstBlock, int blockSize) => Transform(_encrypt, data, length, firstBlock, blockSize);

    public void Decrypt(byte[] data, int length, long firstBlock, int blockSize) => Transform(_decrypt, data, length, firstBlock, blockSize);

    public void Dispose()
    {
        _encrypt.Dispose();
        _decrypt.Dispose();
        _tweak.Dispose();
        _dataKey.Dispose();
        _tweakKey.Dispose();
    }

    private static Aes NewKey()
    {
        var aes = Aes.Create();
#pragma warning disable CA5358 // ECB of single cells is what XTS is made of: each is masked before and after
        aes.Mode = CipherMode.ECB;
#pragma warning restore CA5358
        aes.Padding = PaddingMode.None;
        return aes;
    }

    private void Transform(ICryptoTransform transform, byte[] data, int length, long firstBlock, int blockSize)
    {
        if (_tweaks.Length < length) { _tweaks = new byte[length]; }
        for (int done = 0; done < length; done += blockSize) { MakeTweaks(_tweaks.AsSpan(done, blockSize), (ulong)firstBlock + (ulong)(done / blockSize)); }
        Mask(data.AsSpan(0, length), _tweaks);
        transform.TransformBlock(data, 0, length, data, 0);
        Mask(data.AsSpan(0, length), _tweaks);
    }

    // The first is the encrypted number; each of the others is the one before times alpha in GF(2^128).
    private void MakeTweaks(Span<byte> tweaks, ulong number)
    {
        BinaryPrimitives.WriteUInt64LittleEndian(_numbers, number);
        _tweak.TransformBlock(_numbers, 0, CellBytes, _firstTweak, 0);
        ulong low = BinaryPrimitives.ReadUInt64LittleEndian(_firstTweak), high = BinaryPrimitives.ReadUInt64LittleEndian(_firstTweak.AsSpan(8));
        for (int at = 0; at < tweaks.Length; at += CellBytes)
        {
            BinaryPrimitives.WriteUInt64LittleEndian(tweaks[at..], low);
            BinaryPrimitives.WriteUInt64LittleEndian(tweaks[(at + 8)..], high);
            ulong carry = (ulong)((long)high >> 63) & 0x87;
            (low, high) = ((low << 1) ^ carry, (high << 1) | (low >> 63));
        }
    }

    private static void Mask(Span<byte> data, ReadOnlySpan<byte> tweaks)
    {
        Span<ulong> words = MemoryMarshal.Cast<byte, ulong>(data);
        ReadOnlySpan<ulong> masks = MemoryMarshal.Cast<byte, ulong>(tweaks);
        for (int i = 0; i < words.Length; i++) { words[i] ^= masks[i]; }
    }
}
