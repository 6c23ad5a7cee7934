namespace VhostFs.Config;

/// <summary>Where a setting was written: <c>config.json:12: exports[0].volume</c>, or an option of the command line (no line).</summary>
internal readonly record struct ConfigLocation(string File, int Line, string Path)
{
    public static ConfigLocation CommandLine(string option) => new("", 0, option);

    public override string ToString()
    {
        if (File.Length == 0) { return Path; }
        return Path.Length == 0 ? $"{File}:{Line}" : $"{File}:{Line}: {Path}";
    }
}

/// <summary>One thing wrong with a configuration: where, what, and what to do about it.</summary>
internal readonly record struct ConfigError(ConfigLocation Where, string Message)
{
    public override string ToString() => $"{Where}: {Message}";
}
