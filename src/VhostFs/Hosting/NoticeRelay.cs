using System.Buffers.Binary;
using VhostFs.FuseDev;
using VhostFs.Linux;

namespace VhostFs.Hosting;

/// <summary>The holder's part of <see cref="KernelCache"/>: a thread that writes to /dev/fuse what the daemon has for the kernel, and may hang there.</summary>
internal sealed class NoticeRelay
{
    private const int BufferBytes = 64 * 1024;
    private const short POLLIN = 1;

    private readonly SafeFd _stream;
    private readonly SafeFd _device;
    private readonly Log _log;
    private readonly string _scope;

    private NoticeRelay(SafeFd stream, SafeFd device, string scope, Log log)
    {
        _stream = stream;
        _device = device;
        _scope = scope;
        _log = log;
    }

    /// <summary>Runs until the daemon's end of the stream is closed, or the device.</summary>
    /// <param name="daemonEnd">To hand over, and to close afterwards.</param>
    public static Errno Start(SafeFd device, string scope, Log log, out SafeFd daemonEnd)
    {
        Errno made = UnixSocket.CreatePair(out daemonEnd, out SafeFd ourEnd);
        if (made == Errno.None) { new Thread(new NoticeRelay(ourEnd, device, scope, log).Run) { IsBackground = true, Name = "notices" }.Start(); }
        return made;
    }

    private void Run()
    {
        using (_stream)
        {
            byte[] buffer = new byte[BufferBytes];
            int length = 0;
            while (true)
            {
                FileCalls.Poll(_stream, POLLIN, -1);
                IoResult read = FileCalls.Read(_stream, buffer.AsSpan(length));
                if (read.Errno is Errno.EAGAIN or Errno.EINTR) { continue; }
                if (read.Value <= 0) { return; }
                length += read.Bytes;
                int done = Relay(buffer.AsSpan(0, length));
                if (done < 0) { return; }
                buffer.AsSpan(done, length - done).CopyTo(buffer);
                length -= done;
            }
        }
    }

    /// <summary>Writes the whole messages; returns their bytes, or less than 0 when there is nobody to tell any more.</summary>
    private int Relay(ReadOnlySpan<byte> messages)
    {
        int done = 0;
        // Each begins with its length: fuse_out_header.
        while (messages.Length - done >= sizeof(uint) && BinaryPrimitives.ReadUInt32LittleEndian(messages[done..]) is uint next && next <= messages.Length - done)
        {
            Errno written;
            try { written = FileCalls.Write(_device, messages.Slice(done, (int)next)).Errno; }
            catch (ObjectDisposedException) { return -1; } // this process ends
            // ENOENT: the kernel does not remember that inode or name. ENODEV: unmounted.
            if (written is not (Errno.None or Errno.ENOENT))
            {
                if (written != Errno.ENODEV) { _log.Warn(_scope, $"the kernel does not hear what others change ({written}): it shows when the mount's time-outs are over"); }
                return -1;
            }
            done += (int)next;
        }
        return done;
    }
}
