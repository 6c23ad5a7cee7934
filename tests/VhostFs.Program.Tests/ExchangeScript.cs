namespace VhostFs.ProgramTests;

/// <summary>What a line of a script asks for.</summary>
internal enum ExchangeKind
{
    /// <summary><c>&gt;</c> Bytes to send, in one piece. Indented lines continue them, without the indent of two, and with their line ends.</summary>
    Send,

    /// <summary><c>&lt;</c> The next answer. Indented lines continue it; their line ends are not part of it.</summary>
    Receive,

    /// <summary><c>connect</c>: the connection is closed, and the rest is said on a new one.</summary>
    Connect,

    /// <summary><c>closed</c>: the daemon ends the connection.</summary>
    Closed,
}

/// <summary>One step of a conversation with the control socket.</summary>
/// <param name="Line">Where it is.</param>
/// <param name="Other">Of an answer that is not SPDK's: SPDK's (<c>~</c>) and why ours differs (<c>!</c>), in words of docs/rpc.md.</param>
internal sealed record Exchange(int Line, ExchangeKind Kind, string Text, (string Theirs, string Why)? Other);

/// <summary>A file of exchanges, in the order in which they are made. <c>#</c> begins a comment.</summary>
internal static class ExchangeScript
{
    public static List<Exchange> Read(string path)
    {
        var steps = new List<Exchange>();
        string? theirs = null, why = null;
        string[] lines = File.ReadAllLines(path);
        for (int i = 0; i < lines.Length; i++)
        {
            int line = i + 1;
            if (lines[i].Length == 0 || lines[i][0] == '#') { continue; }
            char mark = lines[i][0];
            string text = mark is '>' or '<' or '~' or '!' ? lines[i][2..] : lines[i];
            while (i + 1 < lines.Length && lines[i + 1].StartsWith("  ", StringComparison.Ordinal)) { text += (mark == '>' ? "\n" : "") + lines[++i][2..]; }
            switch (mark)
            {
                case '~':
                    theirs = text;
                    break;
                case '!':
                    why = text;
                    break;
                default:
                    ExchangeKind kind = text switch { _ when mark == '>' => ExchangeKind.Send, _ when mark == '<' => ExchangeKind.Receive, "connect" => ExchangeKind.Connect, "closed" => ExchangeKind.Closed, _ => throw Wrong("is no step") };
                    if (theirs is null != why is null || (theirs is not null && kind != ExchangeKind.Receive)) { throw Wrong("follows an answer of SPDK's without a reason, a reason without an answer, or is no answer itself"); }
                    steps.Add(new Exchange(line, kind, text, theirs is null ? null : (theirs, why!)));
                    theirs = why = null;
                    break;
            }

            InvalidDataException Wrong(string what) => new($"{path}, line {line}: '{text}' {what}");
        }
        return steps;
    }
}
