namespace VhostFs.Bdev;

/// <summary>Kinds of operation, for the modules that treat them differently.</summary>
[Flags]
public enum BdevOperations
{
    None = 0,
    Read = 1,
    Write = 2,
    Flush = 4,
    Unmap = 8,
    WriteZeroes = 16,
    All = Read | Write | Flush | Unmap | WriteZeroes,
}
