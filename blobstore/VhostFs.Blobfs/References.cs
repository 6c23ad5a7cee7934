using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using VhostFs.Linux;

namespace VhostFs.Blobfs;

/// <summary>How many sessions refer to each inode: an inode without a name lives until this says none.</summary>
internal sealed class SharedReferences
{
    private readonly Dictionary<ulong, int> _sessions = [];

    /// <summary>Raised with the inode when the last session has let go of it.</summary>
    public event Action<ulong>? LastGone;

    public bool Contains(ulong inode) => _sessions.ContainsKey(inode);

    public void Add(ulong inode) => CollectionsMarshal.GetValueRefOrAddDefault(_sessions, inode, out _)++;

    public void Remove(ulong inode)
    {
        ref int count = ref CollectionsMarshal.GetValueRefOrNullRef(_sessions, inode);
        Invariant.That(count > 0);
        if (--count > 0) { return; }
        _sessions.Remove(inode);
        LastGone?.Invoke(inode);
    }
}

/// <summary>What one session refers to: lookups and opens per inode, flat and bounded.</summary>
/// <remarks>Counts come from a guest: they saturate at both ends. An inode is in the table exactly while one of its counts is not 0,
/// and the session is then counted once in <see cref="SharedReferences"/>.</remarks>
internal sealed class SessionReferences(SharedReferences shared, int maxInodes, int maxOpens)
{
    private Dictionary<ulong, Counts> _table = [];
    private int _opens;

    public int Count => _table.Count;

    public IEnumerable<ulong> Inodes => _table.Keys;

    /// <summary>The session began with another process: its kernel remembers more than is here.</summary>
    public bool IsResumed { get; set; }

    public bool Contains(ulong inode) => _table.ContainsKey(inode);

    /// <summary>Whether one more reference is within the session's bounds (else ENFILE).</summary>
    public bool CanAdd(ulong inode, bool open = false) =>
        (!open || _opens < maxOpens) && (_table.Count < maxInodes || _table.ContainsKey(inode));

    /// <summary>The same for an inode that does not exist yet.</summary>
    public bool CanAddNew(bool open) => (!open || _opens < maxOpens) && _table.Count < maxInodes;

    public void AddLookup(ulong inode)
    {
        ref Counts counts = ref Entry(inode);
        if (counts.Lookups != ulong.MaxValue) { counts.Lookups++; }
    }

    /// <summary>The kernel has named this inode: when the session is resumed, it may have looked it up before, and will say FORGET.</summary>
    public void Presume(ulong inode)
    {
        if (IsResumed && !Contains(inode) && CanAdd(inode)) { AddLookup(inode); }
    }

    public void AddOpen(ulong inode)
    {
        ref Counts counts = ref Entry(inode);
        counts.Opens++; // bounded by maxOpens
        _opens++;
    }

    public void Forget(ulong inode, ulong count)
    {
        ref Counts counts = ref CollectionsMarshal.GetValueRefOrNullRef(_table, inode);
        if (Unsafe.IsNullRef(ref counts)) { return; }
        counts.Lookups -= Math.Min(count, counts.Lookups);
        RemoveIfUnused(inode, counts);
    }

    public void Close(ulong inode)
    {
        ref Counts counts = ref CollectionsMarshal.GetValueRefOrNullRef(_table, inode);
        if (Unsafe.IsNullRef(ref counts) || counts.Opens == 0) { return; }
        counts.Opens--;
        _opens--;
        RemoveIfUnused(inode, counts);
    }

    public void Clear()
    {
        Dictionary<ulong, Counts> ended = _table;
        _table = [];
        _opens = 0;
        foreach (ulong inode in ended.Keys) { shared.Remove(inode); }
    }

    private ref Counts Entry(ulong inode)
    {
        ref Counts counts = ref CollectionsMarshal.GetValueRefOrAddDefault(_table, inode, out bool exists);
        if (!exists) { shared.Add(inode); }
        return ref counts;
    }

    private void RemoveIfUnused(ulong inode, in Counts counts)
    {
        if (counts.Lookups != 0 || counts.Opens != 0) { return; }
        _table.Remove(inode);
        shared.Remove(inode);
    }

    private struct Counts
    {
        public ulong Lookups;
        public int Opens;
    }
}
