using System.Numerics;
using VhostFs.Linux;

namespace VhostFs.Blobstore;

/// <summary>Which node-sized slots of a volume's node clusters are free. In memory only: at mount, everything the tree reaches is in use.</summary>
internal sealed class NodeSpace
{
    private readonly List<Area> _areas = [];
    private int _hint;

    /// <summary>Slots that may be written now.</summary>
    public int FreeCount { get; private set; }

    public int TotalCount { get; private set; }

    public void AddArea(ulong firstBlock, int blockCount)
    {
        int slots = blockCount / NodePage.Blocks;
        var area = new Area(firstBlock, slots);
        int position = _areas.FindIndex(other => other.First > firstBlock);
        _areas.Insert(position < 0 ? _areas.Count : position, area);
        FreeCount += slots;
        TotalCount += slots;
        _hint = 0;
    }

    public bool Owns(ulong address) => Find(address) is { } area && (address - area.First) % NodePage.Blocks == 0;

    /// <summary>Marks a slot of the tree found at mount; false when the address is not ours or was named twice.</summary>
    public bool TryMarkUsed(ulong address)
    {
        if (!Owns(address)) { return false; }
        Area area = Find(address)!;
        int slot = (int)((address - area.First) / NodePage.Blocks);
        if (!area.IsFree(slot)) { return false; }
        area.Take(slot);
        FreeCount--;
        return true;
    }

    /// <summary>The admission of changes made sure that there is one.</summary>
    public ulong Allocate()
    {
        for (int i = 0; i < _areas.Count; i++)
        {
            Area area = _areas[(_hint + i) % _areas.Count];
            if (area.TryTakeNext(out int slot))
            {
                _hint = (_hint + i) % _areas.Count;
                FreeCount--;
                return area.First + ((ulong)slot * NodePage.Blocks);
            }
        }
        throw new InvariantException("a node slot was admitted but is not there");
    }

    public void Free(ulong address)
    {
        Area area = Find(address) ?? throw new InvariantException("a freed node lies in our clusters");
        area.Give((int)((address - area.First) / NodePage.Blocks));
        FreeCount++;
    }

    private Area? Find(ulong address)
    {
        int low = 0, high = _areas.Count;
        while (low < high)
        {
            int middle = (low + high) >>> 1;
            if (_areas[middle].First <= address) { low = middle + 1; }
            else { high = middle; }
        }
        return low > 0 && address < _areas[low - 1].Limit ? _areas[low - 1] : null;
    }

    private sealed class Area(ulong first, int slots)
    {
        private readonly ulong[] _used = new ulong[(slots + 63) / 64];
        private int _next;

        public ulong First => first;

        public ulong Limit => first + ((ulong)slots * NodePage.Blocks);

        public bool IsFree(int slot) => (_used[slot / 64] & (1UL << (slot % 64))) == 0;

        public void Take(int slot) => _used[slot / 64] |= 1UL << (slot % 64);

        public void Give(int slot)
        {
            Invariant.That(!IsFree(slot));
            _used[slot / 64] &= ~(1UL << (slot % 64));
        }

        /// <summary>Goes round, so that nodes written together lie together and slots just freed are not the first to be taken.</summary>
        public bool TryTakeNext(out int slot)
        {
            for (int i = 0; i <= _used.Length; i++)
            {
                int word = ((_next / 64) + i) % _used.Length;
                ulong free = ~_used[word];
                if (i == 0) { free &= ulong.MaxValue << (_next % 64); }
                slot = (word * 64) + BitOperations.TrailingZeroCount(free);
                if (free == 0 || slot >= slots) { continue; }
                Take(slot);
                _next = (slot + 1) % slots;
                return true;
            }
            slot = -1;
            return false;
        }
    }
}
