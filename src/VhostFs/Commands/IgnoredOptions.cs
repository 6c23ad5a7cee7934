using System.CommandLine;

namespace VhostFs.Commands;

/// <summary>virtiofsd's options that launchers pass and that mean nothing for a server without a host directory: accepted, and noted in the log.</summary>
internal static class IgnoredOptions
{
    private const string NoHostDirectory = "a volume has no host directory behind it, so there is nothing to confine";

    private static readonly (Option Option, string Reason)[] s_options =
    [
        (Value("--thread-pool-size"), "requests are asynchronous and need no threads"),
        (Value("--sandbox"), NoHostDirectory),
        (Value("--seccomp"), NoHostDirectory),
        (Value("--modcaps"), NoHostDirectory),
        (Value("--inode-file-handles"), "a guest's inode costs no host descriptor"),
        (Value("--rlimit-nofile"), "a guest's inode costs no host descriptor"),
        (Switch("--killpriv-v2"), "it is the default"),
        (Switch("--allow-direct-io"), "it is always allowed"),
        (Switch("--no-announce-submounts"), "it is the default"),
        (Switch("--syslog"), "the log goes to stderr, which the service manager collects"),
    ];

    public static IEnumerable<Option> All => s_options.Select(o => o.Option);

    public static void Note(ParseResult parsed, List<string> notes)
    {
        foreach ((Option option, string reason) in s_options)
        {
            if (parsed.GetResult(option) is { Implicit: false }) { notes.Add($"{option.Name} is ignored: {reason}"); }
        }
    }

    private static Option<string> Value(string name) => new(name) { Hidden = true };

    private static Option<bool> Switch(string name) => new(name) { Hidden = true, Arity = ArgumentArity.Zero };
}
