namespace VhostFs.Fuse;

/// <summary>Takes the entries of one READDIR or READDIRPLUS reply, packed as the protocol wants them.</summary>
public abstract class DirectoryWriter
{
    /// <summary>READDIRPLUS: entries are added with their attributes and count one lookup each, except "." and "..".</summary>
    public abstract bool WantsAttributes { get; }

    /// <summary>Adds an entry; false when it does not fit: stop, and take back the lookup reference of an entry with attributes.</summary>
    /// <param name="cookie">Where the next READDIR goes on after this entry; not 0.</param>
    /// <param name="type">DT_*: the mode's type bits shifted right by 12.</param>
    public abstract bool TryAdd(ReadOnlySpan<byte> name, ulong inode, ulong cookie, uint type);

    /// <summary>The same with attributes, for <see cref="WantsAttributes"/>.</summary>
    public abstract bool TryAdd(ReadOnlySpan<byte> name, in InodeAttributes attributes, ulong cookie);
}
