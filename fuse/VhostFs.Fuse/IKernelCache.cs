namespace VhostFs.Fuse;

/// <summary>What a kernel keeps of a file system, and can be told to ask for again: FUSE_NOTIFY_INVAL_INODE and FUSE_NOTIFY_INVAL_ENTRY of linux/fuse.h.</summary>
/// <remarks>Only for a mount on /dev/fuse: virtio-fs has no way to tell a guest. Called on the file system's reactor; returns at once.</remarks>
public interface IKernelCache
{
    /// <summary>The attributes and ACLs of an inode are no longer what they were; with <paramref name="contentChanged"/>, its pages (a directory's: its listing) neither.</summary>
    void InvalidateInode(ulong node, bool contentChanged);

    /// <summary>A name means something else now, or nothing: it is to be looked up again.</summary>
    void InvalidateEntry(ulong parent, ReadOnlySpan<byte> name);
}
