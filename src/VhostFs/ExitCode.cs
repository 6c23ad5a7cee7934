namespace VhostFs;

/// <summary>What the program's exit status means; the table users read is in docs/operations.md.</summary>
internal static class ExitCode
{
    public const int Ok = 0;
    public const int Failure = 1;
    public const int Usage = 2;

    // `check` answers a question, as fsck does: the same numbers mean other things there.
    public const int Clean = 0;
    public const int Damaged = 1;
    public const int Unreadable = 2;
}
