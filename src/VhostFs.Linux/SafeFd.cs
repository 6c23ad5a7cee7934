using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace VhostFs.Linux;

/// <summary>Owns a file descriptor. Everything opened here is close-on-exec.</summary>
public sealed partial class SafeFd : SafeHandleMinusOneIsInvalid
{
    public SafeFd()
        : base(ownsHandle: true)
    {
    }

    public SafeFd(int fd, bool ownsHandle = true)
        : base(ownsHandle) => SetHandle(fd);

    /// <summary>The number, for a ring entry or a message; the owner keeps the handle open while the kernel may look at it.</summary>
    public int Fd => (int)handle;

    public static SafeFd Invalid => new(-1, ownsHandle: false);

    protected override bool ReleaseHandle() => CloseCore((int)handle) == 0;

    [LibraryImport("libc", EntryPoint = "close")]
    private static partial int CloseCore(int fd);
}
