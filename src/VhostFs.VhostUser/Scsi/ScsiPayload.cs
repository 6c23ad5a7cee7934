using VhostFs.Linux;

namespace VhostFs.VhostUser;

/// <summary>What is behind the fixed part of one direction of a chain: data-out behind header and CDB, data-in behind answer and sense.</summary>
internal readonly record struct ScsiPayload(IoVecList List, int SkipBytes)
{
    public long LengthBytes => List.LengthBytes - SkipBytes;

    /// <summary>The first <paramref name="lengthBytes"/> of it, which there are; <paramref name="pieces"/> keeps the list where segments do not end there by themselves.</summary>
    public IoVecs View(long lengthBytes, IoVecList pieces)
    {
        // The usual framing, with the fixed part in a segment of its own, needs no list of its own.
        if (lengthBytes == LengthBytes && List.View()[0].Length == SkipBytes) { return List.View(1, List.Count - 1); }
        pieces.Clear();
        pieces.AddSlice(List.View(), SkipBytes, lengthBytes);
        return pieces.View();
    }

    public void CopyTo(Span<byte> target) => List.View().CopyTo(SkipBytes, target);

    public void CopyFrom(ReadOnlySpan<byte> source) => List.View().CopyFrom(SkipBytes, source);
}
