using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace VhostFs.Linux;

/// <summary>Copies past the processor's caches: for content that nobody here looks at again. Spares reading the target's lines before they are overwritten, and the cache for what is needed.</summary>
public static class StreamingCopy
{
    /// <summary>As <see cref="Span{T}.CopyTo"/>, to native memory. Visible to others in no particular order: after the last of several comes <see cref="Order"/>.</summary>
    public static void Copy(ReadOnlySpan<byte> source, Span<byte> target)
    {
        ref byte from = ref MemoryMarshal.GetReference(source);
        ref byte to = ref MemoryMarshal.GetReference(target);
        if (!Sse.IsSupported || source.Length % 64 != 0 || !IsAligned(target))
        {
            source.CopyTo(target);
            return;
        }
        target = target[..source.Length]; // throws when it is too short
        for (nuint at = 0; at < (nuint)source.Length; at += 64) { Store64(ref Unsafe.Add(ref from, at), ref Unsafe.Add(ref to, at)); }
    }

    /// <summary>What has been copied is seen before anything that is stored from here on. It waits for all that is on its way to memory: after each 4 KiB it cost a sixth of the rate of large writes.</summary>
    public static void Order()
    {
        if (Sse.IsSupported) { Sse.StoreFence(); }
    }

    /// <summary>The target, native memory, may be stored to without the caches.</summary>
    public static unsafe bool IsAligned(Span<byte> target) => (nuint)Unsafe.AsPointer(ref MemoryMarshal.GetReference(target)) % 64 == 0;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static unsafe void Store64(ref byte from, ref byte to)
    {
        byte* target = (byte*)Unsafe.AsPointer(ref to);
        if (Vector512.IsHardwareAccelerated)
        {
            Vector512.StoreAlignedNonTemporal(Vector512.LoadUnsafe(ref from), target);
            return;
        }
        Vector256.StoreAlignedNonTemporal(Vector256.LoadUnsafe(ref from), target);
        Vector256.StoreAlignedNonTemporal(Vector256.LoadUnsafe(ref Unsafe.Add(ref from, 32)), target + 32);
    }
}
