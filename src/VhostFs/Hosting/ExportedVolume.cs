using VhostFs.Config;
using VhostFs.Fuse;
using VhostFs.VhostUser;

namespace VhostFs.Hosting;

/// <summary>A volume behind a vhost-user socket, one session at a time. Lives on the volume's reactor.</summary>
/// <param name="scope">As messages name it: "export vm1".</param>
internal sealed class ExportedVolume(ServedVolume volume, SharingMode sharing, FuseServerOptions options, string scope, Log log)
{
    private FuseServer? _fuse;
    private VolumeClaim? _claim;

    /// <summary>Who may use the volume is settled when a front-end connects: an export that nobody uses is in nobody's way. Null: the front-end is refused.</summary>
    public VhostUserFsDevice? Begin()
    {
        var claim = new VolumeClaim(scope, sharing, options);
        if (volume.Claims.TryTake(claim) is { } refusal)
        {
            log.Error(scope, $"a front-end is refused: {refusal}");
            return null;
        }
        _claim = claim;
        _fuse = new FuseServer(volume.FileSystem.OpenSession(options.ReadOnly, options.AccessTimes), options);
        return new VhostUserFsDevice(_fuse);
    }

    public void End()
    {
        if (_claim is { } claim) { volume.Claims.Release(claim); }
        _claim = null;
    }

    /// <summary>A bug of ours ended the session; the guest got EIO from then on.</summary>
    public void ReportFault()
    {
        if (_fuse?.Fault is { } bug) { log.Error(scope, $"a bug ended this session, please report it: {bug}"); }
        _fuse = null;
    }
}
