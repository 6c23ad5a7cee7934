using System.Runtime.InteropServices;

namespace VhostFs.Linux;

/// <summary>The bytes of a file, mapped to be read or changed.</summary>
/// <remarks>When somebody shrinks the file under it, or a page that is not there yet cannot be had, all of it reads as zeroes from then on and what is stored is nowhere
/// (<see cref="SharedMemoryGuard"/>): who has copied looks at <see cref="IsLost"/> afterwards, and asks the file itself.</remarks>
public sealed unsafe class FileView : IDisposable
{
    private readonly long* _faults = (long*)NativeMemory.AllocZeroed(sizeof(long));
    private readonly nuint _address;
    private readonly int _guard;

    private FileView(nuint address, long lengthBytes)
    {
        _address = address;
        LengthBytes = lengthBytes;
        _guard = SharedMemoryGuard.Register(address, (nuint)lengthBytes, _faults);
    }

    public long LengthBytes { get; }

    /// <summary>The file was shrunk, or has no page for what was touched: there is nothing to see any more.</summary>
    public bool IsLost => Volatile.Read(ref *_faults) != 0;

    /// <summary>Null: it cannot be mapped, or not safely.</summary>
    public static FileView? TryMap(SafeFd fd, long lengthBytes, bool isWritable)
    {
        if (!SharedMemoryGuard.IsActive || lengthBytes <= 0) { return null; }
        Errno mapped = MemoryCalls.Map(fd, 0, lengthBytes, MemoryCalls.PROT_READ | (isWritable ? MemoryCalls.PROT_WRITE : 0), MemoryCalls.MAP_SHARED | MemoryCalls.MAP_NORESERVE, out nuint address);
        if (mapped != Errno.None) { return null; }
        var view = new FileView(address, lengthBytes);
        if (view._guard >= 0) { return view; }
        view.Dispose();
        return null;
    }

    /// <summary>A part of it; valid until it is disposed of.</summary>
    public IoVec Slice(long offsetBytes, int lengthBytes)
    {
        Invariant.That(offsetBytes >= 0 && lengthBytes >= 0 && offsetBytes <= LengthBytes - lengthBytes);
        return new IoVec(_address + (nuint)offsetBytes, lengthBytes);
    }

    /// <summary>Nobody may look at it any more.</summary>
    public void Dispose()
    {
        SharedMemoryGuard.Unregister(_guard); // before the range can belong to somebody else
        MemoryCalls.Unmap(_address, LengthBytes);
        NativeMemory.Free(_faults);
    }
}
