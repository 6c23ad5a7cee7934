using System.Runtime.InteropServices;

namespace VhostFs.Hosting;

/// <summary>SIGTERM, SIGINT and SIGHUP ask for an orderly end; the second one ends the process at once.</summary>
/// <remarks>Ending at once loses nothing that was replied to: a reply waits for the log, and the next start replays it.</remarks>
internal sealed class Signals : IDisposable
{
    private readonly TaskCompletionSource<string> _stop = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly List<PosixSignalRegistration> _registrations = [];
    private readonly Log _log;

    public Signals(Log log)
    {
        _log = log;
        foreach (PosixSignal signal in (ReadOnlySpan<PosixSignal>)[PosixSignal.SIGTERM, PosixSignal.SIGINT, PosixSignal.SIGHUP])
        {
            _registrations.Add(PosixSignalRegistration.Create(signal, Handle));
        }
    }

    /// <summary>Completes with the name of the first signal.</summary>
    public Task<string> Stop => _stop.Task;

    /// <summary>A client of the control socket asks for the same.</summary>
    public void Ask(string name) => _stop.TrySetResult(name);

    public void Dispose()
    {
        foreach (PosixSignalRegistration registration in _registrations) { registration.Dispose(); }
    }

    private void Handle(PosixSignalContext context)
    {
        context.Cancel = true;
        if (_stop.TrySetResult(context.Signal.ToString())) { return; }
        _log.Warn("", $"second signal ({context.Signal}): ending at once; the next start replays the log");
        Environment.Exit(ExitCode.Failure);
    }
}
