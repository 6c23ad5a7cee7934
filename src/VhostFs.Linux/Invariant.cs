using System.Diagnostics.CodeAnalysis;
using System.Runtime.CompilerServices;

namespace VhostFs.Linux;

/// <summary>States what must hold if our own code is right. On in Release. Never used on input from a guest, a peer or a disk.</summary>
public static class Invariant
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static void That([DoesNotReturnIf(false)] bool condition, [CallerArgumentExpression(nameof(condition))] string? text = null)
    {
        if (!condition) { Fail(text); }
    }

    [DoesNotReturn, MethodImpl(MethodImplOptions.NoInlining)]
    private static void Fail(string? text) => throw new InvariantException($"invariant broken: {text}");
}

/// <summary>A bug of ours. The owner of the broken state (a volume, a device) catches it, ends that one thing, and reports it; nothing else may catch it.</summary>
public sealed class InvariantException(string message) : Exception(message);
