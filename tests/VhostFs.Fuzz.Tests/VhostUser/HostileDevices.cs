using System.Runtime.InteropServices;
using VhostFs.Bdev;
using VhostFs.Fuse;
using VhostFs.GuestDriver;
using VhostFs.Linux;
using VhostFs.Reactor;
using VhostFs.VhostUser;
using VhostFs.VhostUser.Tests;
using VhostFs.Virtio;

namespace VhostFs.Fuzz.Tests.VhostUser;

/// <summary>What may stand behind a connection.</summary>
internal enum DeviceKind
{
    Fs,
    Blk,
    Scsi,
}

/// <summary>The devices that hostile front-ends meet, on bdevs that change their sizes and targets that come and go, and requests that fit them.</summary>
internal sealed class HostileDevices : IDisposable
{
    private const int DiskBytes = 1 << 20;
    private readonly FuzzRandom _random;
    private readonly NullBdev _disk = new("null", DiskBytes, 512);
    private readonly NullBdev _target = new("target", DiskBytes, 512);
    private readonly ScsiTargets _targets = new();
    private readonly FakeFs _fileSystem = new();

    public HostileDevices(FuzzRandom random) => _random = random;

    public static VirtioFeatures FeaturesOf(DeviceKind kind) => kind switch
    {
        DeviceKind.Blk => BlkGuest.All | VirtioFeatures.LogAll,
        DeviceKind.Scsi => ScsiGuest.All,
        _ => FrontEnd.AllFeatures,
    };

    /// <summary>As it offers them: with CONFIG and INFLIGHT_SHMFD where it is a disk, and LOG_SHMFD where it may be migrated.</summary>
    public static ulong ProtocolFeaturesOf(DeviceKind kind) => kind switch
    {
        DeviceKind.Blk => BlkGuest.Protocol,
        DeviceKind.Scsi => ScsiGuest.Protocol,
        _ => 0xa029UL,
    };

    public VhostUserDevice New(DeviceKind kind) => kind switch
    {
        DeviceKind.Blk => new VhostUserBlkDevice(_disk, (_, _) => { }, isReadOnly: _random.OneIn(8), maxInFlight: 64),
        DeviceKind.Scsi => new VhostUserScsiDevice(_targets, "fuzz", (_, _) => { }, maxInFlight: 64),
        _ => new VhostUserFsDevice(new FuseServer(_fileSystem, new FuseServerOptions()), 64),
    };

    /// <summary>Something happens to the disk behind a session.</summary>
    public async IoTask<bool> ChangeAsync(DeviceKind kind)
    {
        int target = _random.Next(ScsiTargets.Count);
        if (kind == DeviceKind.Blk) { await _disk.ResizeAsync(_random.Next(4) * 512 * 1024); }
        else if (kind == DeviceKind.Scsi && _random.OneIn(3)) { await _target.ResizeAsync((1 + _random.Next(3)) * 512 * 1024); }
        else if (kind == DeviceKind.Scsi && !await _targets.RemoveAsync(target)) { _targets.Add(target, _target, Guid.Empty); }
        return true;
    }

    /// <summary>The readable part of a request that means something, mostly.</summary>
    public int WriteRequest(DeviceKind kind, Span<byte> bytes)
    {
        switch (kind)
        {
            case DeviceKind.Blk:
                MemoryMarshal.Write(bytes, new BlkRequestHeader(_random.OneIn(4) ? (BlkRequestType)_random.Edge() : _random.Pick<BlkRequestType>(Enum.GetValues<BlkRequestType>()), 0, _random.OneIn(4) ? _random.Edge() : (ulong)_random.Next(2048)));
                return BlkRequestHeader.Size + (_random.OneIn(2) ? 0 : 512);
            case DeviceKind.Scsi:
                bytes[0] = 1;
                bytes[1] = (byte)_random.Next(10);
                bytes[2] = 0x40;
                bytes[ScsiCommandHeader.Size] = (byte)(_random.OneIn(4) ? _random.Next(256) : (int)_random.Pick<ScsiOpcode>(Enum.GetValues<ScsiOpcode>()));
                _random.Damage(bytes.Slice(ScsiCommandHeader.Size + 1, 15));
                if (_random.OneIn(4)) { MemoryMarshal.Write(bytes, new ScsiTaskRequest(ScsiControlType.TaskManagement, (ScsiTaskFunction)_random.Next(9), 0x4001, 1)); }
                return _random.OneIn(4) ? ScsiTaskRequest.Size : ScsiCommandHeader.Size + 32;
            default:
                MemoryMarshal.Write(bytes, new FuseInHeader(56, (uint)(_random.OneIn(3) ? 26 : _random.Next(55)), 9, (ulong)_random.Next(3), 0, 0, 0));
                MemoryMarshal.Write(bytes[40..], 7u);
                MemoryMarshal.Write(bytes[44..], 41u);
                return 56;
        }
    }

    public void Dispose()
    {
        _disk.Dispose();
        _target.Dispose();
    }
}
