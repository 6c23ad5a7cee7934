using System.Text.Json.Nodes;
using VhostFs.Config;
using VhostFs.Hosting;
using VhostFs.VhostUser;

namespace VhostFs.Block;

/// <summary>A volume as a controller: vhost-user-fs. Lives on the reactor of its pool.</summary>
internal sealed class FsController : VhostController
{
    private readonly ExportedVolume _exported;
    private readonly string _tag;
    private readonly FuseWishes _wishes;

    public FsController(string name, RegisteredPool pool, ServedVolume volume, string tag, FuseWishes wishes, string socketPath, Log log)
        : base(name, pool.Reactor, socketPath, log)
    {
        Volume = $"{pool.Name}/{volume.FileSystem.Volume.Name}";
        _tag = tag;
        _wishes = wishes;
        _exported = new ExportedVolume(volume, wishes.Sharing, wishes.Settle(), $"controller {name}", log);
    }

    /// <summary>POOL/VOLUME.</summary>
    public string Volume { get; }

    public override (string Kind, object Details) Backend =>
        ("fs", new Dictionary<string, object> { ["volume"] = Volume, ["tag"] = _tag, ["options"] = FuseSection.Write(_wishes) });

    protected override IEnumerable<JsonObject> SavedCreation(string mask) =>
        [SavedCall.Of("vhost_create_fs_controller", new JsonObject { ["ctrlr"] = Name, ["volume"] = Volume, ["tag"] = _tag, ["options"] = FuseSection.Write(_wishes) })];

    public override async Task StopAsync()
    {
        await base.StopAsync();
        _exported.ReportFault();
    }

    protected override VhostUserDevice? NewDevice(int slot) => _exported.Begin();

    protected override void OnSessionEnded(VhostUserDevice device) => _exported.End();
}
