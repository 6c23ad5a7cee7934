using System.Globalization;
using System.Text;
using System.Text.Json;
using VhostFs.Blobstore;
using VhostFs.Config;
using VhostFs.Fuse;
using VhostFs.FuseDev;
using VhostFs.Linux;
using VhostFs.Reactor;
using VhostFs.Rpc;

namespace VhostFs.Hosting;

/// <summary>Mounts that other processes (<c>vhostfs mount</c>) have made and handed over by the control socket: fs_mount_attach.</summary>
/// <remarks>The holder of such a mount may die: it is served until the kernel ends it. When this process ends, the holder still has the device, and looks
/// for another process to serve it.</remarks>
internal sealed class AttachedMounts(IReadOnlyList<(PoolHost Host, Reactor.Reactor Reactor)> pools, Log log)
{
    public const string Method = "fs_mount_attach";
    private const uint FuseMajor = 10, FuseMinor = 229; // /dev/fuse: misc device 229

    private readonly Dictionary<MountSession, string> _sessions = [];
    private bool _isStopping;

    /// <summary>Parameters: <c>pool_file</c>, <c>volume</c>, <c>mount_point</c>, <c>options</c> as in an export, <c>resume</c>; as descriptors the mounted /dev/fuse, and a
    /// stream for what its kernel is to be told of changes by others (<see cref="KernelCache"/>; without one, it is not told).
    /// The answer comes when the kernel has agreed with us on a protocol; the connection ends when the mount does.</summary>
    public async Task<object?> AttachAsync(RpcCall call)
    {
        MountAttachment attachment = MountAttachment.Read(call.Parameters);
        SafeFd device = call.TakeDescriptor() ?? throw new RpcException(RpcErrorCode.InvalidParams, "the mounted /dev/fuse is missing: send it as a descriptor with the request");
        SafeFd notices = call.TakeDescriptor() ?? SafeFd.Invalid;
        try
        {
            if (FileCalls.Status(device, out FileStatus status) != Errno.None || !status.IsCharacterDevice || status.RdevMajor != FuseMajor || status.RdevMinor != FuseMinor)
            {
                throw new RpcException(RpcErrorCode.InvalidParams, "the descriptor is not /dev/fuse");
            }
            (PoolHost host, Reactor.Reactor reactor) = FindPool(attachment.PoolFile);
            OpenResult<ServedVolume> mounted = await reactor.InvokeAsync(() => host.MountAsync(attachment.Volume));
            if (mounted.Value is not { } volume) { throw Failure(Errno.ENOENT, mounted.Error!); }
            string scope = $"mount {attachment.MountPoint}";
            var session = new MountSession(scope, attachment.Wishes, log);
            Add(session, host.Name);
            (SafeFd ownDevice, SafeFd ownNotices) = (device, notices);
            device = notices = SafeFd.Invalid;
            string? refusal = await reactor.InvokeAsync(() => new IoTask<string?>(session.Start(volume, reactor, ownDevice, overUring: false, ownNotices, attachment.Resumed)));
            if (refusal is not null)
            {
                Remove(session);
                throw Failure(Errno.EBUSY, refusal);
            }
            _ = ForgetAtEndAsync(session, call);
            FuseNegotiated negotiated = await session.Negotiated;
            log.Info(scope, $"attached, volume '{volume.FileSystem.Volume.Name}'");
            return new Dictionary<string, object> { ["volume"] = volume.FileSystem.Volume.Name, ["minor"] = negotiated.Minor, ["flags"] = ((ulong)negotiated.Flags).ToString("x", CultureInfo.InvariantCulture) };
        }
        catch (TaskCanceledException) { throw Failure(Errno.ENODEV, "it was unmounted before it could be served"); }
        finally
        {
            device.Dispose();
            notices.Dispose();
        }
    }

    /// <summary>Of one pool, before it is closed; nothing is attached any more from now on. What is asked of the mounts waits in the kernel.</summary>
    public Task StopAsync(string pool, Reactor.Reactor reactor)
    {
        MountSession[] sessions;
        lock (_sessions)
        {
            _isStopping = true;
            sessions = [.. _sessions.Where(s => s.Value == pool).Select(s => s.Key)];
        }
        return Task.WhenAll(sessions.Select(s => reactor.InvokeAsync(s.LeaveAsync)));
    }

    private async Task ForgetAtEndAsync(MountSession session, RpcCall call)
    {
        await session.Ended;
        Remove(session);
        call.CloseConnection();
    }

    private void Add(MountSession session, string pool)
    {
        lock (_sessions)
        {
            if (_isStopping) { throw Failure(Errno.ESHUTDOWN, "this process is ending"); }
            _sessions.Add(session, pool);
        }
    }

    private void Remove(MountSession session)
    {
        lock (_sessions) { _sessions.Remove(session); }
    }

    // By identity, not by name: links and other mounts of the host lead to the same file.
    private (PoolHost Host, Reactor.Reactor Reactor) FindPool(string file)
    {
        foreach ((PoolHost host, Reactor.Reactor reactor) in pools)
        {
            if (host.IsOn(file)) { return (host, reactor); }
        }
        throw Failure(Errno.ENOENT, $"no pool on {file} is open here; open are {ConfigCheck.Names(pools.Select(p => p.Host.Name))}");
    }

    private static RpcException Failure(Errno errno, string message) => new(-(int)errno, message);
}

/// <summary>The parameters of <c>fs_mount_attach</c>.</summary>
internal sealed record MountAttachment(string PoolFile, string Volume, string MountPoint, FuseWishes Wishes, FuseNegotiated? Resumed)
{
    /// <exception cref="RpcException">They are wrong; everything that is gets named.</exception>
    public static MountAttachment Read(JsonElement parameters)
    {
        var errors = new List<ConfigError>();
        string text = parameters.ValueKind == JsonValueKind.Object ? parameters.GetRawText() : "{}";
        var section = new ConfigSection(ConfigParser.Parse("params", Encoding.UTF8.GetBytes(text), errors) ?? throw Wrong(errors), errors);
        string file = section.RequiredText("pool_file", "/var/lib/vhostfs/disk0.img");
        string volume = section.OptionalText("volume") ?? "";
        string mountPoint = section.RequiredText("mount_point", "/mnt/web");
        FuseWishes wishes = section.Section("options") is { } options ? ReadWishes(options, errors) : new FuseWishes();
        FuseNegotiated? resumed = section.Section("resume") is { } resume ? ReadResumed(resume) : null;
        section.End();
        return errors.Count == 0 ? new MountAttachment(file, volume, mountPoint, wishes with { IsHostMount = true }, resumed) : throw Wrong(errors);
    }

    private static FuseWishes ReadWishes(ConfigSection section, List<ConfigError> errors)
    {
        FuseWishes wishes = FuseSection.Read(section);
        section.End();
        if (ConfigCheck.OptionsError(wishes.Sharing, wishes.Settle()) is { } contradiction) { errors.Add(new ConfigError(section.At(contradiction.Key), contradiction.Message)); }
        return wishes;
    }

    private static FuseNegotiated ReadResumed(ConfigSection section)
    {
        int minor = section.Count("minor", 0, 0, 1000);
        string flags = section.RequiredText("flags", "73fffffb");
        if (!ulong.TryParse(flags, NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out ulong value)) { section.Fail(section.At("flags"), $"'{flags}' is not a hexadecimal number"); }
        section.End();
        return new FuseNegotiated((uint)minor, (FuseInitFlags)value);
    }

    private static RpcException Wrong(List<ConfigError> errors) => new(RpcErrorCode.InvalidParams, string.Join("; ", errors));
}
