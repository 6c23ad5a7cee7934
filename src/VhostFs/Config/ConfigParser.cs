using System.Text;
using System.Text.Json;

namespace VhostFs.Config;

/// <summary>JSON text to nodes that know their line and path. Comments and trailing commas are fine; a key written twice is not.</summary>
internal ref struct ConfigParser
{
    private const int MaxDepth = 32;

    private readonly string _file;
    private readonly ReadOnlySpan<byte> _text;
    private readonly List<ConfigError> _errors;
    private Utf8JsonReader _reader;
    private int _line;
    private int _counted; // bytes of _text whose line ends are in _line

    private ConfigParser(string file, ReadOnlySpan<byte> text, List<ConfigError> errors)
    {
        _file = file;
        _text = text;
        _errors = errors;
        _line = 1;
        _reader = new Utf8JsonReader(text, new JsonReaderOptions { CommentHandling = JsonCommentHandling.Skip, AllowTrailingCommas = true, MaxDepth = MaxDepth });
    }

    /// <summary>Null when the text is not JSON; then <paramref name="errors"/> has got the reason.</summary>
    public static ConfigNode? Parse(string file, ReadOnlySpan<byte> text, List<ConfigError> errors)
    {
        if (text.StartsWith(Encoding.UTF8.Preamble)) { text = text[3..]; }
        var parser = new ConfigParser(file, text, errors);
        try
        {
            parser._reader.Read();
            ConfigNode root = parser.ReadValue("");
            parser._reader.Read(); // throws on anything but white space and comments
            return root;
        }
        catch (JsonException e)
        {
            int line = (int)(e.LineNumber ?? 0) + 1;
            int cut = e.Message.IndexOf(" LineNumber:", StringComparison.Ordinal);
            string reason = cut >= 0 ? e.Message[..cut] : e.Message;
            errors.Add(new ConfigError(new ConfigLocation(file, line, ""), $"not valid JSON: {reason}"));
            return null;
        }
    }

    private ConfigNode ReadValue(string path)
    {
        ConfigLocation where = Here(path);
        switch (_reader.TokenType)
        {
            case JsonTokenType.StartObject: return ReadObject(where);
            case JsonTokenType.StartArray: return ReadArray(where);
            case JsonTokenType.String: return new ConfigNode { Kind = ConfigNodeKind.Text, Where = where, Text = ReadText() };
            case JsonTokenType.Number: return new ConfigNode { Kind = ConfigNodeKind.Number, Where = where, Text = Encoding.UTF8.GetString(_reader.ValueSpan) };
            case JsonTokenType.True: return new ConfigNode { Kind = ConfigNodeKind.Flag, Where = where, Flag = true };
            case JsonTokenType.False: return new ConfigNode { Kind = ConfigNodeKind.Flag, Where = where };
            default: return new ConfigNode { Kind = ConfigNodeKind.Null, Where = where };
        }
    }

    private ConfigNode ReadObject(ConfigLocation where)
    {
        var node = new ConfigNode { Kind = ConfigNodeKind.Object, Where = where };
        while (_reader.Read() && _reader.TokenType == JsonTokenType.PropertyName)
        {
            string key = ReadText();
            string path = where.Path.Length == 0 ? key : $"{where.Path}.{key}";
            ConfigLocation keyWhere = Here(path);
            _reader.Read();
            ConfigNode value = ReadValue(path);
            if (!node.Members.TryAdd(key, value))
            {
                _errors.Add(new ConfigError(keyWhere, $"written twice (first on line {node.Members[key].Where.Line}); keep one of them"));
            }
        }
        return node;
    }

    private ConfigNode ReadArray(ConfigLocation where)
    {
        var node = new ConfigNode { Kind = ConfigNodeKind.Array, Where = where };
        while (_reader.Read() && _reader.TokenType != JsonTokenType.EndArray)
        {
            node.Items.Add(ReadValue($"{where.Path}[{node.Items.Count}]"));
        }
        return node;
    }

    // The reader takes any bytes between quotes; only here does it show that they are no text.
    private readonly string ReadText()
    {
        try { return _reader.GetString()!; }
        catch (InvalidOperationException)
        {
            throw new JsonException("a text that is not UTF-8, or has half of a surrogate pair in it", path: null, _line - 1, bytePositionInLine: null);
        }
    }

    private ConfigLocation Here(string path)
    {
        int start = (int)_reader.TokenStartIndex;
        _line += _text[_counted..start].Count((byte)'\n');
        _counted = start;
        return new ConfigLocation(_file, _line, path);
    }
}
