namespace VhostFs.Linux;

/// <summary>A byte count, or a negative errno: just as a CQE, a system call and a FUSE reply carry it.</summary>
public readonly record struct IoResult(int Value)
{
    public bool IsError => Value < 0;

    /// <summary>The error, or <see cref="Errno.None"/>.</summary>
    public Errno Errno => Value < 0 ? (Errno)(-Value) : Errno.None;

    /// <summary>Bytes transferred; meaningful only when not <see cref="IsError"/>.</summary>
    public int Bytes => Value;

    public static implicit operator IoResult(Errno errno) => new(-(int)errno);

    public static IoResult FromErrno(Errno errno) => new(-(int)errno);

    public override string ToString() => IsError ? Errno.ToString() : $"{Value} bytes";
}
