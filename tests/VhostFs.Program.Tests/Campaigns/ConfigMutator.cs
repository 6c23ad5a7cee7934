using System.Globalization;
using System.Text;

namespace VhostFs.ProgramTests.Campaigns;

/// <summary>Makes configuration files from a seed: written by the grammar, then spoiled token by token, then byte by byte.</summary>
internal sealed class ConfigMutator(int seed)
{
    public const int MaxBytes = 32 << 10;

    private static readonly string[] s_keys =
    [
        "log_level", "reactors", "bdevs", "pools", "exports", "name", "kind", "filename", "cache", "size", "base", "read_us", "write_us", "flush_us", "fail", "skip", "count",
        "bdev", "create", "volumes", "volume", "socket", "socket_group", "fd", "tag", "xattr", "entry_timeout", "attr_timeout", "negative_timeout", "writeback", "readonly",
        "posix_acl", "security_label", "killpriv_v2", "readdirplus", "announce_submounts", "allow_mmap", "nonsense", "", "nam",
    ];

    private static readonly string[] s_values =
    [
        "0", "-0", "1", "-1", "2147483647", "2147483648", "-2147483649", "9223372036854775807", "9223372036854775808", "1e400", "-1e-400", "1.5", "0.0000000000000000000000001", "1E2",
        "123456789012345678901234567890123456789012345678901234567890", "true", "false", "null", "[]", "{}", "[{}]", "[[]]", "[null]", "[1]", "{\"a\":{}}", "\"\"", "\" \"",
        "\"auto\"", "\"always\"", "\"never\"", "\"metadata\"", "\"uring\"", "\"malloc\"", "\"null\"", "\"delay\"", "\"error\"", "\"direct\"", "\"buffered\"", "\"all\"", "\"read\"", "\"debug\"",
        "\"disk0\"", "\"slow\"", "\"mem0\"", "\"pool0\"", "\"pool1\"", "\"pool0/web\"", "\"web\"", "\"/\"", "\"pool0/\"", "\"/web\"", "\"a/b/c\"", "\"..\"", "\"../../x\"", "\"/run/a.sock\"",
        "\"1G\"", "\"1.5K\"", "\"0.3K\"", "\"8E\"", "\"9999999P\"", "\"iB\"", "\"KiB\"", "\"1e5\"", "\"-1M\"", "\"79228162514264337593543950336\"",
        "\"\\u0000\"", "\"a\\u0000b\"", "\"\\ud800\"", "\"\\udc00\\ud800\"", "\"\\ud83d\\ude00\"", "\"\\n\\t\\u001b[31m\"", "\"\\u202e\"", "\"\\\\\\\"\"", "\"\\x\"", "\"\\u12\"", "\"\u00e9\u4e2d\"",
    ];

    private readonly Random _random = new(seed);
    private readonly StringBuilder _text = new();

    public byte[] Next()
    {
        List<string> tokens = Tokens();
        for (int i = _random.Next(4); i > 0; i--) { SpoilTokens(tokens); }
        _text.Clear();
        for (int i = 0; i < tokens.Count; i++)
        {
            _text.Append(tokens[i]);
            // The JSON reader takes no comment between a key and its colon.
            bool mayComment = i + 1 == tokens.Count || tokens[i + 1] != ":";
            if (mayComment && _random.Next(6) == 0) { _text.Append(Pick("\n", " ", "\r\n", "// c\n", "/* c */", "\t")); }
            if (_text.Length > MaxBytes / 2) { break; }
        }
        byte[] bytes = Encoding.UTF8.GetBytes(_text.ToString());
        if (bytes.Length > MaxBytes) { bytes = bytes[..MaxBytes]; }
        for (int i = _random.Next(3) == 0 ? _random.Next(1, 8) : 0; i > 0; i--) { bytes = SpoilBytes(bytes); }
        return bytes;
    }

    /// <summary>A configuration that is right more often than not.</summary>
    private List<string> Tokens()
    {
        var tokens = new List<string> { "{" };
        if (_random.Next(3) == 0) { Member(tokens, "log_level", Quoted(Pick("off", "error", "warn", "info", "debug", "trace"))); }
        if (_random.Next(3) == 0) { Member(tokens, "reactors", Number(1, 8)); }
        int bdevs = _random.Next(1, 4);
        List(tokens, "bdevs", bdevs, Bdev);
        List(tokens, "pools", _random.Next(1, bdevs + 1), Pool);
        List(tokens, "exports", _random.Next(1, 4), Export);
        tokens.Add("}");
        return tokens;
    }

    private void Bdev(List<string> tokens, int index)
    {
        string kind = Pick("uring", "malloc", "null", "delay", "error");
        bool wraps = kind is "delay" or "error";
        Member(tokens, "name", Quoted($"disk{index}"));
        if (kind != "uring" || _random.Next(2) == 0) { Member(tokens, "kind", Quoted(kind)); }
        if (wraps) { Member(tokens, "base", Quoted($"disk{index + (_random.Next(4) == 0 ? -1 : 1)}")); }
        if (kind == "uring") { Member(tokens, "filename", Quoted($"disk{index}.img")); }
        if (kind == "uring" && _random.Next(2) == 0) { Member(tokens, "cache", Quoted(Pick("auto", "direct", "buffered"))); }
        if (!wraps) { Member(tokens, "size", Pick("\"64M\"", "33554432", "\"1.5G\"")); }
        if (kind == "delay") { Member(tokens, Pick("read_us", "write_us", "flush_us"), Number(0, 1000)); }
        if (kind == "error") { Member(tokens, Pick("skip", "count"), Number(0, 1000)); }
    }

    private void Pool(List<string> tokens, int index)
    {
        Member(tokens, "name", Quoted($"pool{index}"));
        Member(tokens, "bdev", Quoted($"disk{index}"));
        if (_random.Next(2) == 0) { Member(tokens, "create", Pick("true", "false")); }
        List(tokens, "volumes", _random.Next(3), (inner, i) => Member(inner, "name", Quoted(i == 0 ? "web" : $"v{i}")));
    }

    private void Export(List<string> tokens, int index)
    {
        Member(tokens, "volume", Quoted(Pick("pool0/web", "pool0/v1", "web", "pool1/web")));
        if (_random.Next(5) == 0) { Member(tokens, "fd", Number(3, 20)); }
        else { Member(tokens, "socket", Quoted($"{Pick("/run/", "")}vm{index}.sock")); }
        if (_random.Next(2) == 0) { Member(tokens, "name", Quoted($"vm{index}")); }
        if (_random.Next(2) == 0) { Member(tokens, "cache", Quoted(Pick("auto", "always", "never", "metadata"))); }
        if (_random.Next(3) == 0) { Member(tokens, Pick("entry_timeout", "attr_timeout", "negative_timeout"), Pick("0", "1.5", "3600")); }
        if (_random.Next(2) == 0) { Member(tokens, Pick("writeback", "readonly", "xattr", "posix_acl", "allow_mmap"), Pick("true", "false")); }
        if (_random.Next(4) == 0) { Member(tokens, Pick("tag", "socket_group"), Quoted(Pick("www", "kvm", new string('t', 40)))); }
    }

    private static void Member(List<string> tokens, string key, string value) => tokens.AddRange([Quoted(key), ":", value, ","]);

    private static void List(List<string> tokens, string key, int count, Action<List<string>, int> item)
    {
        tokens.AddRange([Quoted(key), ":", "["]);
        for (int i = 0; i < count; i++)
        {
            tokens.Add("{");
            item(tokens, i);
            tokens.AddRange(["}", ","]);
        }
        tokens.AddRange(["]", ","]);
    }

    private void SpoilTokens(List<string> tokens)
    {
        if (tokens.Count == 0) { return; }
        int at = _random.Next(tokens.Count), other = _random.Next(tokens.Count);
        int first = Math.Min(at, other), count = Math.Min(Math.Abs(at - other), 60);
        switch (_random.Next(10))
        {
            case 0: tokens.RemoveAt(at); break;
            case 1: tokens.Insert(at, tokens[other]); break;
            case 2: (tokens[at], tokens[other]) = (tokens[other], tokens[at]); break;
            case 3: tokens.RemoveRange(first, count); break;
            case 4: tokens.InsertRange(_random.Next(tokens.Count), tokens.GetRange(first, count)); break;
            case 5: tokens[at] = Quoted(Pick(s_keys)); break;
            case 6: tokens.InsertRange(at, [Quoted(Pick(s_keys)), ":", Pick(s_values), ","]); break;
            case 7: tokens[at] = Quoted(new string(Pick("a", "\u00e9", "/", "9", "\ud83d\ude00")[0], _random.Next(1, 3000))); break;
            case 8: Nest(tokens, at); break;
            default: ReplaceValue(tokens, at); break;
        }
    }

    private void Nest(List<string> tokens, int at)
    {
        int depth = _random.Next(1, 200);
        bool objects = _random.Next(2) == 0;
        string opening = objects ? string.Concat(Enumerable.Repeat("{\"a\":", depth)) : new string('[', depth);
        tokens[at] = opening + tokens[at] + new string(objects ? '}' : ']', _random.Next(8) == 0 ? depth / 2 : depth);
    }

    /// <summary>What stands behind a colon, so that the text stays JSON.</summary>
    private void ReplaceValue(List<string> tokens, int from)
    {
        for (int i = 0; i < tokens.Count; i++)
        {
            int at = (from + i) % tokens.Count;
            if (at == 0 || tokens[at - 1] != ":" || tokens[at] is "[" or "{") { continue; }
            tokens[at] = Pick(s_values);
            return;
        }
    }

    private byte[] SpoilBytes(byte[] bytes)
    {
        if (bytes.Length == 0) { return [(byte)_random.Next(256)]; }
        int at = _random.Next(bytes.Length), count = Math.Min(_random.Next(1, 40), bytes.Length - at);
        switch (_random.Next(7))
        {
            case 0: bytes[at] ^= (byte)(1 << _random.Next(8)); return bytes;
            case 1: bytes[at] = (byte)_random.Next(256); return bytes;
            case 2: return [.. bytes[..at], .. bytes[(at + count)..]];
            case 3: return [.. bytes[..(at + count)], .. bytes[at..]];
            case 4: return bytes[..at];
            case 5: return [.. bytes[..at], (byte)Pick("{", "}", "[", "]", "\"", ":", ",", "\\", "/", "\0", "\n")[0], .. bytes[at..]];
            default: return _random.Next(2) == 0 ? [0xEF, 0xBB, 0xBF, .. bytes] : [.. bytes[..at], 0xFF, 0xFE, 0xED, 0xA0, 0x80, .. bytes[at..]];
        }
    }

    private string Number(int least, int limit) => _random.Next(least, limit).ToString(CultureInfo.InvariantCulture);

    private string Pick(params string[] from) => from[_random.Next(from.Length)];

    private static string Quoted(string text) => $"\"{text}\"";
}
