using System.Runtime.CompilerServices;
using VhostFs.Linux;

namespace VhostFs.Virtio;

/// <summary>Turns the descriptors of one chain into segments of our memory; which they are the ring knows.</summary>
/// <remarks>Invariants: what comes in are copies; bytes are bounded; one level of indirection; device-readable before device-writable (virtio 1.2, 2.7.4-2.7.5
/// and 2.8.6-2.8.8). Neighbouring segments are joined, so that pages in a row are one segment. It lives on the stack while one chain is read.</remarks>
internal unsafe ref struct ChainReader(GuestMemory memory, IoVecList readable, IoVecList writable)
{
    private readonly GuestMemory _memory = memory;
    private readonly IoVecList _writable = writable;
    private IoVecList _target = readable;
    private int _leftBytes = Virtqueue.MaxChainBytes;
    private nuint _pendingAddress;
    private int _pendingBytes;

    /// <summary>False: the chain is malformed and the lists hold garbage.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public bool TryAdd(ulong address, uint lengthBytes, ushort flags)
    {
        if ((flags & DescriptorFlags.Indirect) != 0) { return false; }
        if ((flags & DescriptorFlags.Write) != 0)
        {
            if (_target != _writable)
            {
                Flush();
                _target = _writable;
            }
        }
        else if (_target == _writable) { return false; }
        if (lengthBytes > (uint)_leftBytes) { return false; }
        _leftBytes -= (int)lengthBytes;
        return Append(address, (int)lengthBytes);
    }

    /// <summary>The chain is complete.</summary>
    public void End() => Flush();

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private bool Append(ulong address, int lengthBytes)
    {
        if (lengthBytes == 0) { return true; } // legal, and its address means nothing
        byte* at = _memory.FindGuest(address, (ulong)lengthBytes);
        if (at is null) { return AppendPieces(address, lengthBytes); }
        Join((nuint)at, lengthBytes);
        return true;
    }

    /// <summary>A range over several regions: whole or not at all; every byte must be mapped.</summary>
    [MethodImpl(MethodImplOptions.NoInlining)]
    private bool AppendPieces(ulong address, int lengthBytes)
    {
        if (address + (ulong)lengthBytes < address) { return false; }
        while (lengthBytes > 0)
        {
            byte* at = _memory.FindGuestRun(address, out ulong run);
            if (run == 0) { return false; }
            int piece = (int)Math.Min(run, (ulong)lengthBytes);
            Join((nuint)at, piece);
            address += (ulong)piece;
            lengthBytes -= piece;
        }
        return true;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private void Join(nuint at, int lengthBytes)
    {
        if (_pendingBytes != 0 && _pendingAddress + (nuint)_pendingBytes == at)
        {
            _pendingBytes += lengthBytes; // the sum is bounded by MaxChainBytes
            return;
        }
        Flush();
        _pendingAddress = at;
        _pendingBytes = lengthBytes;
    }

    private void Flush()
    {
        if (_pendingBytes != 0) { _target.Add(new IoVec(_pendingAddress, _pendingBytes)); }
        _pendingBytes = 0;
    }
}
