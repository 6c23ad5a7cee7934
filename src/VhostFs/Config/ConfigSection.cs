using System.Globalization;

namespace VhostFs.Config;

/// <summary>Reads one object of a configuration by key. Every problem becomes an error and a default, so that one run names them all.</summary>
internal sealed class ConfigSection
{
    private readonly ConfigNode _node;
    private readonly List<ConfigError> _errors;
    private readonly HashSet<string> _known = new(StringComparer.Ordinal);

    public ConfigSection(ConfigNode node, List<ConfigError> errors)
    {
        _node = node;
        _errors = errors;
        if (node.Kind != ConfigNodeKind.Object) { Fail(node.Where, $"must be an object {{ ... }}, not {node.KindName}"); }
    }

    public ConfigLocation Where => _node.Where;

    public bool Has(string key) => _node.Members.ContainsKey(key);

    /// <summary>The place of a key, or of the object when the key is not there.</summary>
    public ConfigLocation At(string key) => _node.Members.TryGetValue(key, out ConfigNode? value) ? value.Where : _node.Where;

    public void Fail(ConfigLocation where, string message) => _errors.Add(new ConfigError(where, message));

    public string RequiredText(string key, string example)
    {
        string? text = OptionalText(key);
        if (text is null && !Has(key) && _node.Kind == ConfigNodeKind.Object) { Fail(_node.Where, $"'{key}' is missing; write for example \"{key}\": \"{example}\""); }
        return text ?? "";
    }

    public string? OptionalText(string key)
    {
        if (Find(key, ConfigNodeKind.Text, "a text in quotes") is not { } value) { return null; }
        if (value.Text.Length == 0) { Fail(value.Where, "must not be empty"); }
        // To the kernel a path ends there: it would open another file than the one named here.
        if (value.Text.Contains('\0', StringComparison.Ordinal)) { Fail(value.Where, "must not contain a NUL character"); }
        return value.Text;
    }

    public bool Flag(string key, bool otherwise) => OptionalFlag(key) ?? otherwise;

    public bool? OptionalFlag(string key) => Find(key, ConfigNodeKind.Flag, "true or false")?.Flag;

    public int Count(string key, int otherwise, int least, int most)
    {
        if (Find(key, ConfigNodeKind.Number, "a whole number") is not { } value) { return otherwise; }
        if (int.TryParse(value.Text, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out int count) && count >= least && count <= most) { return count; }
        Fail(value.Where, $"must be a whole number from {least} to {most}, not {value.Text}");
        return otherwise;
    }

    /// <summary>Seconds, with a fraction if need be; null when absent.</summary>
    public TimeSpan? Seconds(string key)
    {
        if (Find(key, ConfigNodeKind.Number, "a number of seconds") is not { } value) { return null; }
        const double mostSeconds = 365.0 * 86400;
        if (double.TryParse(value.Text, NumberStyles.Float, CultureInfo.InvariantCulture, out double seconds) && seconds is >= 0 and <= mostSeconds)
        {
            return TimeSpan.FromSeconds(seconds);
        }
        Fail(value.Where, $"must be a number of seconds from 0 to a year, not {value.Text}");
        return null;
    }

    /// <summary>A size as text ("10G") or as a number of bytes; 0 when absent.</summary>
    public long Size(string key)
    {
        _known.Add(key);
        if (!_node.Members.TryGetValue(key, out ConfigNode? value)) { return 0; }
        if (value.Kind is not (ConfigNodeKind.Text or ConfigNodeKind.Number))
        {
            Fail(value.Where, $"must be a size such as \"10G\", not {value.KindName}");
            return 0;
        }
        if (!Sizes.TryParse(value.Text, out long bytes, out string error)) { Fail(value.Where, error); }
        return bytes;
    }

    public T Choice<T>(string key, T otherwise, IReadOnlyDictionary<string, T> choices)
    {
        if (Find(key, ConfigNodeKind.Text, $"one of {string.Join(", ", choices.Keys)}") is not { } value) { return otherwise; }
        if (choices.TryGetValue(value.Text, out T? choice)) { return choice; }
        Fail(value.Where, $"'{value.Text}' is not one of {string.Join(", ", choices.Keys)}");
        return otherwise;
    }

    /// <summary>An object; null when absent.</summary>
    public ConfigSection? Section(string key) => Find(key, ConfigNodeKind.Object, "an object { ... }") is { } value ? new ConfigSection(value, _errors) : null;

    /// <summary>The objects of a list, or none.</summary>
    public IEnumerable<ConfigSection> List(string key)
    {
        ConfigNode? list = Find(key, ConfigNodeKind.Array, "a list [ ... ]");
        return list is null ? [] : list.Items.Select(item => new ConfigSection(item, _errors));
    }

    /// <summary>Every key has been asked for by now: what is left over is a mistake.</summary>
    public void End()
    {
        foreach ((string key, ConfigNode value) in _node.Members)
        {
            if (_known.Contains(key)) { continue; }
            string hint = Suggestion.Nearest(key, _known) is { } near ? $"did you mean '{near}'?" : $"known here: {string.Join(", ", _known.Order(StringComparer.Ordinal))}";
            Fail(value.Where, $"unknown key; {hint}");
        }
    }

    private ConfigNode? Find(string key, ConfigNodeKind kind, string expected)
    {
        _known.Add(key);
        if (!_node.Members.TryGetValue(key, out ConfigNode? value)) { return null; }
        if (value.Kind == kind) { return value; }
        Fail(value.Where, $"must be {expected}, not {value.KindName}");
        return null;
    }
}
