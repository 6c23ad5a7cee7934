using VhostFs.Fuse;

namespace VhostFs.Blobfs;

/// <summary>What one session changes is told to the kernels of the other ones, as far as they can be told; each session has one of these.</summary>
/// <remarks>Told when the change is committed: before whoever asked for it gets a reply, but not before the other kernel has heard.</remarks>
internal sealed class ChangeNotices(BlobfsState state, SessionReferences references)
{
    private IKernelCache? _cache;

    /// <summary>From now on changes of other sessions are told to this one's kernel.</summary>
    public void Listen(IKernelCache cache)
    {
        _cache = cache;
        state.Listeners.Add(this);
    }

    public void StopListening()
    {
        state.Listeners.Remove(this);
        _cache = null;
    }

    public void Inode(ulong node, bool contentChanged)
    {
        foreach (ChangeNotices other in state.Listeners)
        {
            if (other != this && other.Knows(node)) { other._cache!.InvalidateInode(node, contentChanged); }
        }
    }

    /// <summary>A name came, went, or means another inode; the directory has changed with it.</summary>
    public void Entry(ulong parent, ReadOnlySpan<byte> name)
    {
        foreach (ChangeNotices other in state.Listeners)
        {
            if (other == this || !other.Knows(parent)) { continue; }
            other._cache!.InvalidateEntry(parent, name);
            other._cache.InvalidateInode(parent, contentChanged: true);
        }
    }

    private bool Knows(ulong node) => references.IsResumed || node == BlobfsKeys.RootInode || references.Contains(node);
}
