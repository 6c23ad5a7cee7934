namespace VhostFs.Config;

internal enum ConfigNodeKind
{
    Object,
    Array,
    Text,
    Number,
    Flag,
    Null,
}

/// <summary>One element of a configuration file, which remembers where it stands.</summary>
internal sealed class ConfigNode
{
    public required ConfigNodeKind Kind { get; init; }

    public required ConfigLocation Where { get; init; }

    /// <summary>Of an object, by key.</summary>
    public Dictionary<string, ConfigNode> Members { get; } = new(StringComparer.Ordinal);

    /// <summary>Of an array, in order.</summary>
    public List<ConfigNode> Items { get; } = [];

    /// <summary>Text as written (a number too: the reader decides what it must fit).</summary>
    public string Text { get; init; } = "";

    public bool Flag { get; init; }

    public string KindName => Kind switch
    {
        ConfigNodeKind.Object => "an object",
        ConfigNodeKind.Array => "a list",
        ConfigNodeKind.Text => "a text",
        ConfigNodeKind.Number => "a number",
        ConfigNodeKind.Flag => "true or false",
        _ => "null",
    };
}
