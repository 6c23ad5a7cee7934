using System.CommandLine;
using System.CommandLine.Parsing;
using VhostFs.Commands;

namespace VhostFs;

/// <summary>The program: one command line, one exit status.</summary>
internal static class Program
{
    private static async Task<int> Main(string[] arguments) => await RunAsync(arguments, Console.Out, Console.Error);

    /// <summary>Everything but the process: for tests too.</summary>
    public static async Task<int> RunAsync(string[] arguments, TextWriter output, TextWriter error)
    {
        var terminal = new Terminal(output, error);
        // libvirt and qemu ask the binary itself, without a command (vhost-user.rst, back-end programs).
        if (arguments is ["--print-capabilities"]) { return Capabilities.Print(output); }
        ParseResult parsed = NewRootCommand(terminal).Parse(arguments);
        if (parsed.Errors.Count > 0)
        {
            foreach (string message in parsed.Errors.Select(e => e.Message).Distinct()) { terminal.Fail(message); }
            terminal.Error.WriteLine($"Try '{CommandPath(parsed)} --help'.");
            return ExitCode.Usage;
        }
        // Signals are handled by `serve` itself (no time limit); the other commands are short, and die of a signal as programs do.
        var invocation = new InvocationConfiguration { Output = output, Error = error, ProcessTerminationTimeout = null, EnableDefaultExceptionHandler = false };
        return await parsed.InvokeAsync(invocation);
    }

    private static RootCommand NewRootCommand(Terminal terminal) => new("File systems and disks for virtual machines (virtio-fs, virtio-blk), from a crash-safe store of their own in an image file or on a device.")
    {
        ServeCommand.New(terminal),
        MountCommand.New(terminal),
        PoolCommand.New(terminal),
        VolumeCommand.New(terminal),
        CheckCommand.New(terminal),
        BdevCommand.New(terminal),
        ControllerCommand.New(terminal),
        AttachCommand.NewAttach(terminal),
        AttachCommand.NewDetach(terminal),
        EventsCommand.New(terminal),
        RpcCommand.New(terminal),
    };

    // The root command is named for the host of the process (a test runner, say); users know it as vhostfs.
    private static string CommandPath(ParseResult parsed)
    {
        string path = "";
        for (SymbolResult? result = parsed.CommandResult; result is CommandResult { Command: not RootCommand } command; result = command.Parent) { path = $" {command.Command.Name}{path}"; }
        return "vhostfs" + path;
    }
}
