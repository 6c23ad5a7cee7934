using System.CommandLine;
using System.Globalization;

namespace VhostFs.Commands;

/// <summary>Short ways to declare what System.CommandLine wants to know.</summary>
internal static class Declare
{
    /// <summary>An option without a value: there or not there.</summary>
    public static Option<bool> Flag(string name, string description) => new(name) { Description = description, Arity = ArgumentArity.Zero };

    public static Option<string> Text(string name, string placeholder, string description, params string[] aliases) =>
        new(name, aliases) { Description = description, HelpName = placeholder };

    /// <summary>One of a few words; the default of <typeparamref name="T"/> when not given.</summary>
    public static Option<T> Choice<T>(string name, IReadOnlyDictionary<string, T> choices, string description) => new(name)
    {
        Description = description,
        HelpName = string.Join("|", choices.Keys),
        CustomParser = result =>
        {
            string word = result.Tokens.Count > 0 ? result.Tokens[0].Value : "";
            if (choices.TryGetValue(word, out T? value)) { return value; }
            result.AddError($"{name}: '{word}' is not one of {string.Join(", ", choices.Keys)}");
            return default;
        },
    };

    /// <summary>A size such as 10G; 0 when not given.</summary>
    public static Option<long> Size(string name, string description) => new(name)
    {
        Description = description,
        HelpName = "size",
        CustomParser = result =>
        {
            if (Sizes.TryParse(result.Tokens.Count > 0 ? result.Tokens[0].Value : "", out long bytes, out string error) && bytes > 0) { return bytes; }
            result.AddError($"{name}: {(error.Length > 0 ? error : "the size must be more than 0")}");
            return 0;
        },
    };

    /// <summary>A number more than 0; 0 when not given.</summary>
    public static Option<long> Count(string name, string description) => new(name)
    {
        Description = description,
        HelpName = "number",
        CustomParser = result =>
        {
            if (long.TryParse(result.Tokens.Count > 0 ? result.Tokens[0].Value : "", NumberStyles.None, CultureInfo.InvariantCulture, out long count) && count > 0) { return count; }
            result.AddError($"{name}: a number more than 0");
            return 0;
        },
    };

    public static Option<bool> Json() => Flag("--json", "Answer in JSON, for programs");
}
