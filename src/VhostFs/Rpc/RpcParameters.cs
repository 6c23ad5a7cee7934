using System.Text.Json;
using VhostFs.Config;

namespace VhostFs.Rpc;

/// <summary>Reads the parameters of a call by name, as SPDK's decoders do: of exactly their types, the required ones there, and no others.</summary>
/// <remarks>What is wrong is said in the log; the client gets the one answer that the method has for it.</remarks>
internal sealed class RpcParameters
{
    private readonly RpcRefusal _refusal;
    private readonly Dictionary<string, JsonElement> _given = new(StringComparer.Ordinal);
    private readonly HashSet<string> _known = new(StringComparer.Ordinal);

    /// <param name="refusal">What SPDK says of wrong parameters of this method.</param>
    public RpcParameters(RpcCall call, RpcRefusal refusal)
    {
        _refusal = refusal;
        if (call.Parameters.ValueKind is JsonValueKind.Undefined or JsonValueKind.Null) { return; }
        if (call.Parameters.ValueKind != JsonValueKind.Object) { throw Wrong("'params' must be an object"); }
        foreach (JsonProperty member in call.Parameters.EnumerateObject()) { _given[member.Name] = member.Value; }
    }

    public bool Has(string name) => Find(name) is not null;

    public string Text(string name) => OptionalText(name) ?? throw Missing(name);

    public string? OptionalText(string name)
    {
        if (Find(name) is not { } value) { return null; }
        if (value.ValueKind != JsonValueKind.String) { throw Wrong($"'{name}' must be a text"); }
        return WithoutNul(name, value.GetString()!);
    }

    public ulong Number(string name, ulong most = ulong.MaxValue) => OptionalNumber(name, most) ?? throw Missing(name);

    public ulong? OptionalNumber(string name, ulong most = ulong.MaxValue)
    {
        if (Find(name) is not { } value) { return null; }
        return value.ValueKind == JsonValueKind.Number && value.TryGetUInt64(out ulong number) && number <= most ? number : throw Wrong($"'{name}' must be a whole number from 0 to {most}");
    }

    /// <summary>A number of 32 bits that may be negative.</summary>
    public int Integer(string name)
    {
        if (Find(name) is not { } value) { throw Missing(name); }
        return value.ValueKind == JsonValueKind.Number && value.TryGetInt32(out int number) ? number : throw Wrong($"'{name}' must be a whole number");
    }

    public bool Flag(string name) => Find(name) is { } value && (value.ValueKind is JsonValueKind.True or JsonValueKind.False ? value.GetBoolean() : throw Wrong($"'{name}' must be true or false"));

    public T Choice<T>(string name, IReadOnlyDictionary<string, T> choices) =>
        choices.TryGetValue(Text(name), out T? choice) ? choice : throw Wrong($"'{name}' must be one of {string.Join(", ", choices.Keys)}");

    /// <summary>A list of at most so many texts.</summary>
    public string[] Texts(string name, int most)
    {
        JsonElement list = Find(name) ?? throw Missing(name);
        bool isList = list.ValueKind == JsonValueKind.Array && list.GetArrayLength() <= most && list.EnumerateArray().All(item => item.ValueKind == JsonValueKind.String);
        if (!isList) { throw Wrong($"'{name}' must be a list of at most {most} texts"); }
        return [.. list.EnumerateArray().Select(item => WithoutNul(name, item.GetString()!))];
    }

    /// <summary>Null when not given.</summary>
    public JsonElement? Object(string name) => Find(name) is not { } value ? null : value.ValueKind == JsonValueKind.Object ? value : throw Wrong($"'{name}' must be an object");

    /// <summary>Empty when not given.</summary>
    public Guid Uuid(string name)
    {
        if (OptionalText(name) is not { } text) { return Guid.Empty; }
        return Guid.TryParseExact(text, "D", out Guid uuid) ? uuid : throw Wrong($"'{name}' must be a UUID");
    }

    /// <summary>Hints that mean nothing here, whatever they say.</summary>
    public void Ignore(params ReadOnlySpan<string> names)
    {
        foreach (string name in names) { _known.Add(name); }
    }

    /// <summary>All that there may be has been asked for: what is left over is a mistake.</summary>
    public void End()
    {
        foreach (string name in _given.Keys.Where(name => !_known.Contains(name)))
        {
            string hint = Suggestion.Nearest(name, _known) is { } near ? $"did you mean '{near}'?" : $"known are {ConfigCheck.Names(_known.Order(StringComparer.Ordinal))}";
            throw Wrong($"unknown parameter '{name}'; {hint}");
        }
    }

    private JsonElement? Find(string name)
    {
        _known.Add(name);
        return _given.TryGetValue(name, out JsonElement value) ? value : null;
    }

    private string WithoutNul(string name, string text) => text.Contains('\0', StringComparison.Ordinal) ? throw Wrong($"'{name}' must not contain a NUL character") : text;

    private RpcException Missing(string name) => Wrong($"'{name}' is missing");

    private RpcException Wrong(string reason) => new(_refusal.Code, _refusal.Message, reason);
}

/// <summary>The answer of a method to parameters that are wrong.</summary>
internal readonly record struct RpcRefusal(int Code, string Message);
