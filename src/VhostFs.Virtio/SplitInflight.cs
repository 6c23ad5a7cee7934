using System.Runtime.InteropServices;

namespace VhostFs.Virtio;

/// <summary>The in-flight record of one split queue (vhost-user.rst, "Queue region for split virtqueue").</summary>
/// <remarks>
/// Invariant: at any instruction at which this process may be killed, a head is recorded as in flight exactly when the driver waits for it and we have looked at it;
/// the one exception, a head whose used element is published and whose record is not yet cleared, is known by the two used indexes that then differ.
/// </remarks>
internal sealed unsafe class SplitInflight(byte* region, int size)
{
    public const int HeaderBytes = 16, EntryBytes = 16;

    private const ushort Version = 1;
    private ulong _counter;

    private Header* Head => (Header*)region;

    /// <summary>What a process before us has left undone, oldest first. A new area is made ready.</summary>
    /// <param name="ringUsed">The used index in the ring.</param>
    public ushort[] Recover(ushort ringUsed)
    {
        if (Volatile.Read(ref Head->Version) != Version || Head->DescriptorCount != size)
        {
            new Span<byte>(region, HeaderBytes + (size * EntryBytes)).Clear();
            Head->DescriptorCount = (ushort)size;
            Head->UsedIndex = ringUsed;
            Volatile.Write(ref Head->Version, Version);
            return [];
        }
        ClearPublished(ringUsed);
        Volatile.Write(ref Head->UsedIndex, ringUsed);
        var heads = new List<(ulong Counter, ushort Head)>();
        for (int head = 0; head < size; head++)
        {
            Entry entry = *At(head);
            if (entry.InFlight != 1) { continue; }
            heads.Add((entry.Counter, (ushort)head));
            _counter = Math.Max(_counter, entry.Counter);
        }
        return [.. heads.Order().Select(h => h.Head)];
    }

    /// <summary>The head has been taken from the ring.</summary>
    public void Take(ushort head)
    {
        At(head)->Counter = ++_counter;
        Volatile.Write(ref At(head)->InFlight, 1);
    }

    /// <summary>Before its used element is published.</summary>
    public void Returning(ushort head)
    {
        At(head)->Next = Head->LastBatchHead;
        Volatile.Write(ref Head->LastBatchHead, head);
    }

    /// <summary>After it; <paramref name="usedIndex"/> is the ring's now.</summary>
    public void Returned(ushort head, ushort usedIndex)
    {
        Volatile.Write(ref At(head)->InFlight, 0);
        Volatile.Write(ref Head->UsedIndex, usedIndex);
    }

    // Heads that the driver has back already: as many as the two indexes differ, along the chain of the last batch.
    private void ClearPublished(ushort ringUsed)
    {
        ushort head = Head->LastBatchHead;
        for (int left = Math.Min((ushort)(ringUsed - Head->UsedIndex), size); left > 0 && head < size; left--)
        {
            At(head)->InFlight = 0;
            head = At(head)->Next;
        }
    }

    private Entry* At(int head) => (Entry*)(region + HeaderBytes + (head * EntryBytes));

    [StructLayout(LayoutKind.Sequential)]
    private struct Header
    {
        public ulong Features;
        public ushort Version;
        public ushort DescriptorCount;
        public ushort LastBatchHead;
        public ushort UsedIndex;
    }

    [StructLayout(LayoutKind.Explicit, Size = EntryBytes)]
    private struct Entry
    {
        [FieldOffset(0)] public byte InFlight;
        [FieldOffset(6)] public ushort Next;
        [FieldOffset(8)] public ulong Counter;
    }
}
