using Xunit;

namespace VhostFs.Guest.Tests;

/// <summary>A machine whose firmware boots from our disks: SeaBIOS and OVMF have drivers of their own.</summary>
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

    /// <summary>From the partition table to a shell in Linux: a kernel with its EFI stub, and the guest's initramfs with it.</summary>
    [Fact]
    public void UEFI_boots_Linux_from_a_vhost_user_blk_disk()
    {
        string uefi = Path.Combine(Repository.Cache, "uefi"), guest = Path.Combine(Repository.Cache, "guest-6.12");
        Assert.True(File.Exists(Path.Combine(uefi, "stamp")) && File.Exists(Path.Combine(guest, "vmlinuz")), "there is no firmware; run: vm/prepare --applications");
        using var daemon = new BlockDaemon();
        Directory.CreateDirectory(daemon["added/run/guest"]);
        File.WriteAllText(daemon["added/run/guest/settings"], "TAGS='' MOUNT=0 MODULES=virtio_blk APPLICATIONS=0\n");
        File.WriteAllText(daemon["added/run/guest/command"], "[ -d /sys/firmware/efi ] && [ -e /sys/block/vda/vda1/size ] && cat /sys/block/vda/serial && echo ' booted'\n");
        Shell($"(cd {daemon["added"]} && find . | cpio -o -H newc -R 0:0 --quiet) | cat {guest}/initramfs - >{daemon["initramfs"]} && cp {uefi}/OVMF_VARS_4M.fd {daemon["vars"]}");
        Shell($"{Path.Combine(Repository.Root, "tests", "guest", "uefi-disk")} {daemon["disk.img"]} {uefi}/linuxx64.efi.stub {guest}/vmlinuz {daemon["initramfs"]} 'console=ttyS0 quiet panic=-1 mitigations=off nokaslr no_timer_check tsc=unstable clocksource=hpet'");
        daemon.Call("bdev_aio_create", $$"""{"name":"F0","filename":"{{daemon["disk.img"]}}","block_size":512}""");
        daemon.Call("vhost_create_blk_controller", """{"ctrlr":"disk","dev_name":"F0"}""");
        Finished run = Command.Run("timeout",
        [
            "120", "qemu-system-x86_64", "-accel", "tcg", "-cpu", "max,la57=off", "-nodefaults", "-no-user-config", "-display", "none", "-m", "512M", "-machine", "q35,memory-backend=memory", "-no-reboot",
            "-object", "memory-backend-memfd,id=memory,size=512M,share=on", "-chardev", $"socket,id=disk,path={daemon["disk"]}", "-device", "vhost-user-blk-pci,chardev=disk,bootindex=0",
            "-drive", $"if=pflash,format=raw,readonly=on,file={uefi}/OVMF_CODE_4M.fd", "-drive", $"if=pflash,format=raw,file={daemon["vars"]}", "-serial", $"file:{daemon["console"]}", "-device", "virtio-serial-pci",
            "-chardev", $"file,id=output,path={daemon["output"]}", "-device", "virtserialport,chardev=output,name=output", "-chardev", $"file,id=status,path={daemon["status"]}", "-device", "virtserialport,chardev=status,name=status",
        ]);
        string output = File.ReadAllText(daemon["output"]);
        Assert.True(run.ExitStatus == 0 && output == "F0 booted\n", $"{run.ExitStatus}: {output}{run.Error}{File.ReadAllText(daemon["console"])}");
        daemon.Stop();
    }

    private static void Shell(string command)
    {
        Finished run = Command.Run("bash", ["-c", command]);
        Assert.True(run.ExitStatus == 0, $"{command}\n{run.Output}{run.Error}");
    }

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
