using System.Runtime.InteropServices;
using VhostFs.Linux;
using VhostFs.Reactor;

namespace VhostFs.Bdev;

/// <summary>Encrypts what is written and decrypts what is read: the bdev below holds nothing that can be read without the keys.</summary>
/// <remarks>A block that was never written, unmapped or zeroed would decrypt to noise. Zeroes are written as encrypted blocks, so that they read as zeroes; an unmapped range reads as anything.
/// What is kept from others is content: which blocks are written, and when, shows below. Nothing is authenticated: somebody who changes blocks below makes noise of them, unnoticed.</remarks>
public sealed class CryptoBdev : BdevDecorator
{
    private const int PieceBytes = 256 * 1024;

    private readonly XtsCipher _cipher;
    private readonly Stack<Piece> _free = new();

    /// <param name="cipher">Owned from now on.</param>
    public CryptoBdev(IBdev inner, string name, XtsCipher cipher)
        : base(inner, name)
    {
        Invariant.That(inner.BufferAlignment == 1);
        _cipher = cipher;
    }

    /// <summary>Zeroes below are noise here.</summary>
    public override bool UnmapReadsZero => false;

    protected override async IoTask<IoResult> ReadCoreAsync(long offsetBytes, IoVecs target)
    {
        Errno refused = BdevChecks.Read(this, offsetBytes, target);
        if (refused != Errno.None) { return refused; }
        int total = (int)target.LengthBytes;
        Piece piece = Rent();
        IoResult result = new(total);
        for (int done = 0; done < total; done += PieceBytes)
        {
            int length = Math.Min(total - done, PieceBytes);
            IoResult read = await Inner.ReadAsync(offsetBytes + done, piece.View(length));
            if (read.IsError) { result = read; break; }
            // Not in the guest's memory: a block may lie across segments, and the guest would see what is below.
            _cipher.Decrypt(piece.Bytes, length, (offsetBytes + done) / BlockSize, BlockSize);
            target.CopyFrom(done, piece.Bytes.AsSpan(0, length));
        }
        Return(piece);
        return result;
    }

    protected override async IoTask<IoResult> WriteCoreAsync(long offsetBytes, IoVecs source)
    {
        Errno refused = BdevChecks.Write(this, offsetBytes, source);
        if (refused != Errno.None) { return refused; }
        int total = (int)source.LengthBytes;
        Piece piece = Rent();
        IoResult result = new(total);
        for (int done = 0; done < total; done += PieceBytes)
        {
            int length = Math.Min(total - done, PieceBytes);
            source.CopyTo(done, piece.Bytes.AsSpan(0, length));
            IoResult written = await WritePieceAsync(piece, offsetBytes + done, length);
            if (written.IsError) { result = written; break; }
        }
        Return(piece);
        return result;
    }

    protected override IoTask<Errno> FlushCoreAsync() => Inner.FlushAsync();

    protected override IoTask<Errno> UnmapCoreAsync(long offsetBytes, long lengthBytes) => Inner.UnmapAsync(offsetBytes, lengthBytes);

    protected override async IoTask<Errno> WriteZeroesCoreAsync(long offsetBytes, long lengthBytes)
    {
        Errno refused = BdevChecks.Range(this, offsetBytes, lengthBytes);
        if (refused != Errno.None) { return refused; }
        Piece piece = Rent();
        Errno errno = Errno.None;
        for (long done = 0; done < lengthBytes && errno == Errno.None; done += PieceBytes)
        {
            int length = (int)Math.Min(lengthBytes - done, PieceBytes);
            piece.Bytes.AsSpan(0, length).Clear();
            errno = (await WritePieceAsync(piece, offsetBytes + done, length)).Errno;
        }
        Return(piece);
        return errno;
    }

    protected override void DisposeCore()
    {
        _cipher.Dispose();
        while (_free.TryPop(out Piece? piece)) { piece.List.Dispose(); }
    }

    private IoTask<IoResult> WritePieceAsync(Piece piece, long offset, int length)
    {
        _cipher.Encrypt(piece.Bytes, length, offset / BlockSize, BlockSize);
        return Inner.WriteAsync(offset, piece.View(length));
    }

    private Piece Rent() => _free.TryPop(out Piece? piece) ? piece : new Piece();

    private void Return(Piece piece) => _free.Push(piece);

    /// <summary>A buffer that stays where it is, for the cipher and for the bdev below.</summary>
    private sealed class Piece
    {
        public byte[] Bytes { get; } = GC.AllocateUninitializedArray<byte>(PieceBytes, pinned: true);

        public IoVecList List { get; } = new(1);

        public IoVecs View(int length)
        {
            List.Clear();
            List.Add(new IoVec((nuint)Marshal.UnsafeAddrOfPinnedArrayElement(Bytes, 0), length));
            return List.View();
        }
    }
}
