using Xunit;

namespace VhostFs.Guest.Tests;

/// <summary>A machine whose BIOS boots from our disks: SeaBIOS has drivers of its own.</summary>
[Trait("Kind", "Guest")]
public class BootTests
{
    private const int Booted = 2 * 16 + 1; // what boot.S has QEMU end with

    [Fact]
    public void SeaBIOS_boots_from_a_vhost_user_blk_disk() => Boot("vhost-user-blk-pci", (daemon, bdev) => daemon.Call("vhost_create_blk_controller", $$"""{"ctrlr":"disk","dev_name":"{{bdev}}"}"""));

    [Fact]
    public void SeaBIOS_boots_from_a_vhost_user_scsi_disk() => Boot("vhost-user-scsi-pci", (daemon, bdev) =>
    {
        daemon.Call("vhost_create_scsi_controller", """{"ctrlr":"disk"}""");
        daemon.Call("vhost_scsi_controller_add_target", $$"""{"ctrlr":"disk","scsi_target_num":0,"bdev_name":"{{bdev}}"}""");
    });

    private static void Boot(string device, Action<BlockDaemon, string> show)
    {
        using var daemon = new BlockDaemon();
        string file = daemon["disk.img"];
        File.Copy(Path.Combine(Repository.GuestPrograms, "boot"), file);
        Assert.Equal(0, Command.Run("truncate", ["-s", "4M", file]).ExitStatus);
        daemon.Call("bdev_aio_create", $$"""{"name":"F0","filename":"{{file}}","block_size":512}""");
        show(daemon, "F0");
        Finished run = Command.Run("timeout",
        [
            "60", "qemu-system-x86_64", "-accel", "tcg", "-nodefaults", "-no-user-config", "-display", "none", "-m", "64M", "-machine", "q35,memory-backend=memory",
            "-object", "memory-backend-memfd,id=memory,size=64M,share=on", "-chardev", $"socket,id=disk,path={daemon["disk"]}", "-device", $"{device},chardev=disk,bootindex=0",
            "-serial", "stdio", "-device", "isa-debug-exit,iobase=0xf4,iosize=4",
        ]);
        Assert.True(run.ExitStatus == Booted, $"{run.ExitStatus}: {run.Output}{run.Error}");
        Assert.Contains("booted from the disk", run.Output, StringComparison.Ordinal);
        daemon.Stop();
    }
}
