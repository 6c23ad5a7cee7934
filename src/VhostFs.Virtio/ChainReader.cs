using System.Runtime.CompilerServices;
using VhostFs.Linux;

namespace VhostFs.Virtio;

/// <summary>Turns one descriptor chain into segments of our memory.</summary>
/// <remarks>Invariants: every descriptor is copied once and only the copy is looked at; hops and bytes are bounded; one level of indirection, not
/// together with NEXT; device-readable before device-writable (virtio 1.2, 2.7.4-2.7.5). Neighbouring segments are joined, so that pages in a row are one segment.</remarks>
internal sealed unsafe class ChainReader(GuestMemory memory)
{
    private nuint _pendingAddress;
    private int _pendingBytes;

    /// <summary>False: the chain is malformed and the lists hold garbage.</summary>
    public bool Read(byte* table, int tableEntries, ushort head, int hopLimit, bool indirectAllowed, IoVecList readable, IoVecList writable)
    {
        Descriptor first = Unsafe.ReadUnaligned<Descriptor>(table + (head * Descriptor.Size));
        if ((first.Flags & Descriptor.FlagIndirect) == 0) { return Walk(table, 0, tableEntries, first, hopLimit, readable, writable); }

        if (!indirectAllowed || (first.Flags & Descriptor.FlagNext) != 0) { return false; }
        if (first.Length == 0 || first.Length % Descriptor.Size != 0) { return false; }
        uint entries = first.Length / Descriptor.Size;
        if (entries > 65536) { return false; } // Next is 16 bits wide; the hop limit bounds what is walked
        byte* indirect = memory.FindGuest(first.Address, first.Length);
        Descriptor start;
        if (indirect is not null) { start = Unsafe.ReadUnaligned<Descriptor>(indirect); }
        else if (!TryFetch(first.Address, 0, out start)) { return false; } // crosses regions: entry by entry
        return Walk(indirect, first.Address, (int)entries, start, hopLimit, readable, writable);
    }

    private bool Walk(byte* table, ulong tableAddress, int entries, Descriptor current, int hopLimit, IoVecList readable, IoVecList writable)
    {
        IoVecList target = readable;
        _pendingBytes = 0;
        int left = Virtqueue.MaxChainBytes;
        for (int hop = 1; ; hop++)
        {
            if ((current.Flags & Descriptor.FlagIndirect) != 0) { return false; }
            if ((current.Flags & Descriptor.FlagWrite) != 0)
            {
                if (target == readable)
                {
                    Flush(target);
                    target = writable;
                }
            }
            else if (target == writable) { return false; }
            if (current.Length > (uint)left) { return false; }
            left -= (int)current.Length;
            if (!Append(target, current.Address, (int)current.Length)) { return false; }

            if ((current.Flags & Descriptor.FlagNext) == 0)
            {
                Flush(target);
                return true;
            }
            if (current.Next >= entries || hop >= hopLimit) { return false; }
            if (table is not null) { current = Unsafe.ReadUnaligned<Descriptor>(table + (current.Next * Descriptor.Size)); }
            else if (!TryFetch(tableAddress, current.Next, out current)) { return false; }
        }
    }

    private bool TryFetch(ulong tableAddress, ushort index, out Descriptor descriptor)
    {
        byte* at = memory.FindGuest(tableAddress + ((ulong)index * Descriptor.Size), Descriptor.Size);
        descriptor = at is null ? default : Unsafe.ReadUnaligned<Descriptor>(at);
        return at is not null;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private bool Append(IoVecList target, ulong address, int lengthBytes)
    {
        if (lengthBytes == 0) { return true; } // legal, and its address means nothing
        byte* at = memory.FindGuest(address, (ulong)lengthBytes);
        if (at is null) { return AppendPieces(target, address, lengthBytes); }
        Join(target, (nuint)at, lengthBytes);
        return true;
    }

    /// <summary>A range over several regions: whole or not at all; every byte must be mapped.</summary>
    [MethodImpl(MethodImplOptions.NoInlining)]
    private bool AppendPieces(IoVecList target, ulong address, int lengthBytes)
    {
        if (address + (ulong)lengthBytes < address) { return false; }
        while (lengthBytes > 0)
        {
            byte* at = memory.FindGuestRun(address, out ulong run);
            if (run == 0) { return false; }
            int piece = (int)Math.Min(run, (ulong)lengthBytes);
            Join(target, (nuint)at, piece);
            address += (ulong)piece;
            lengthBytes -= piece;
        }
        return true;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private void Join(IoVecList target, nuint at, int lengthBytes)
    {
        if (_pendingBytes != 0 && _pendingAddress + (nuint)_pendingBytes == at)
        {
            _pendingBytes += lengthBytes; // the sum is bounded by MaxChainBytes
            return;
        }
        Flush(target);
        _pendingAddress = at;
        _pendingBytes = lengthBytes;
    }

    private void Flush(IoVecList target)
    {
        if (_pendingBytes != 0) { target.Add(new IoVec(_pendingAddress, _pendingBytes)); }
        _pendingBytes = 0;
    }
}
