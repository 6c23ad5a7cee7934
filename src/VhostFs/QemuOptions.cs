using System.Text;
using VhostFs.Config;

namespace VhostFs;

/// <summary>What to paste behind <c>qemu-system-x86_64</c> to give a guest an export.</summary>
/// <remarks>vhost-user needs guest memory that another process can map: a memfd shared with us. QEMU refuses to start when -m and the
/// size of the memory backend differ, so both are printed from one number.</remarks>
internal static class QemuOptions
{
    public const string MemorySize = "2G";

    /// <summary>virtio-fs queues: 1024 is QEMU's maximum, and the least that Windows guests are stable with.</summary>
    private const int QueueSize = 1024;

    public static string Format(string socketPath, string tag)
    {
        var text = new StringBuilder();
        text.Append($"  -m {MemorySize} -object memory-backend-memfd,id=mem,size={MemorySize},share=on -machine memory-backend=mem \\\n");
        text.Append($"  -chardev {Quote($"socket,id=fs0,path={EscapeCommas(socketPath)}")} \\\n");
        text.Append($"  -device {Quote($"vhost-user-fs-pci,chardev=fs0,tag={EscapeCommas(tag)},queue-size={QueueSize}")}\n");
        return text.ToString();
    }

    public static string MountCommand(string tag) => $"mount -t virtiofs {Quote(tag)} /mnt";

    /// <summary>The tag QEMU can carry, or what to do about it.</summary>
    public static bool TryCheckTag(string tag, out string error)
    {
        int bytes = Encoding.UTF8.GetByteCount(tag);
        error = bytes <= ConfigNames.MaxTagBytes ? "" : $"the tag '{tag}' has {bytes} bytes and virtio-fs allows {ConfigNames.MaxTagBytes}; give a shorter one";
        return error.Length == 0;
    }

    // QEMU ends an option's value at a comma, and reads two as one.
    private static string EscapeCommas(string value) => value.Replace(",", ",,", StringComparison.Ordinal);

    private static string Quote(string word) =>
        word.All(c => char.IsAsciiLetterOrDigit(c) || "-_=,./:+@%".Contains(c, StringComparison.Ordinal)) ? word : $"'{word.Replace("'", "'\\''", StringComparison.Ordinal)}'";
}
