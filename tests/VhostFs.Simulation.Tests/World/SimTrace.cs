using System.Runtime.CompilerServices;
using System.Text;

namespace VhostFs.Simulation.Tests.World;

/// <summary>Everything that happens, as one hash; as text, too, when somebody wants to read it.</summary>
/// <remarks>The hash must not depend on anything but the seed: no addresses, no wall clock, no uuids.</remarks>
internal sealed class SimTrace(bool keepsText)
{
    private const int MaxLines = 4000;
    private readonly Queue<string> _lines = new();

    public ulong Hash { get; private set; } = 0xCBF29CE484222325;

    public long EventCount { get; private set; }

    public IReadOnlyCollection<string> Lines => _lines;

    /// <summary>One event. The text is made only when it is kept.</summary>
    public void Add(long nowNs, string kind, ulong first, ulong second, [InterpolatedStringHandlerArgument("")] ref TraceText text)
    {
        EventCount++;
        Mix((ulong)nowNs);
        foreach (char c in kind) { Mix(c); }
        Mix(first);
        Mix(second);
        if (!keepsText) { return; }
        if (_lines.Count == MaxLines) { _lines.Dequeue(); }
        _lines.Enqueue($"{nowNs / 1000,10} us {kind} {text.Text}");
    }

    private void Mix(ulong value)
    {
        ulong mixed = (Hash ^ value) * 0x9FB21C651E98DF25;
        Hash = mixed ^ (mixed >> 32);
    }

    [InterpolatedStringHandler]
    internal readonly ref struct TraceText
    {
        private readonly StringBuilder? _builder;

        public TraceText(int literalLength, int formattedCount, SimTrace trace, out bool isWanted)
        {
            isWanted = trace.KeepsText;
            _builder = isWanted ? new StringBuilder(literalLength + (formattedCount * 8)) : null;
        }

        public string Text => _builder?.ToString() ?? "";

        public void AppendLiteral(string text) => _builder!.Append(text);

        public void AppendFormatted<T>(T value) => _builder!.Append(value);
    }

    private bool KeepsText => keepsText;
}
