using VhostFs.Campaigns;
using Xunit;

namespace VhostFs.Mount.Tests;

/// <summary>A Debian in a directory of a volume: dpkg installs it with all its scripts and syncs, and a container changes it through overlayfs.</summary>
public sealed class DebianTests
{
    private static readonly string s_packages = Path.Combine(
        Environment.GetEnvironmentVariable("VHOSTFS_CACHE") is { Length: > 0 } cache ? cache : Path.Combine(Environment.GetEnvironmentVariable("XDG_CACHE_HOME") is { Length: > 0 } above
            ? above
            : Path.Combine(Environment.GetFolderPath(Environment.SpecialFolder.UserProfile), ".cache"), "vhostfs"),
        "debian-packages");

    // As debootstrap does it: everything is unpacked so that there is a shell, and then installed as packages.
    private const string Install = """
        set -e
        export DEBIAN_FRONTEND=noninteractive LC_ALL=C PATH=/usr/sbin:/usr/bin:/sbin:/bin
        root=$1 packages=$2
        mkdir -p "$root/var/lib/dpkg/info" "$root/var/lib/dpkg/updates"
        for name in bin sbin lib lib64; do mkdir -p "$root/usr/$name"; ln -s "usr/$name" "$root/$name"; done
        for package in "$packages"/*.deb; do dpkg-deb --fsys-tarfile "$package" | tar -x -C "$root" --keep-directory-symlink; done
        cp "$root/usr/share/base-passwd/passwd.master" "$root/etc/passwd"
        cp "$root/usr/share/base-passwd/group.master" "$root/etc/group"
        : >"$root/var/lib/dpkg/status"
        : >"$root/var/lib/dpkg/available"
        dpkg --root="$root" --force-depends --force-confnew --install "$packages"/*.deb
        """;

    // Copies up, hides, makes opaque and moves what lies below.
    private const string InContainer = """
        set -e
        test "$(id -u)" = 0
        rm -r /etc/alternatives
        mkdir /etc/alternatives
        echo changed >>/etc/debian_version
        mv /etc/profile /etc/profile.moved
        mkdir /data && cp -a /etc /data/copy
        chmod 700 /var/log
        ln /etc/passwd /etc/passwd.linked
        dpkg --force-depends --force-remove-essential --remove hostname
        test ! -e /usr/bin/hostname
        """;

    [DebianFact]
    public void Dpkg_installs_a_system_and_a_container_changes_it_through_overlayfs()
    {
        using MountedVolume volume = new MountedVolume("2G", options: "suid,dev").Start();
        string root = Path.Combine(volume.MountPoint, "root");
        Directory.CreateDirectory(root);
        Succeed("/bin/sh", "-c", Install, "sh", root, s_packages);
        int count = Directory.GetFiles(s_packages, "*.deb").Length;
        ExpectWhole(root, count);

        string merged = Path.Combine(volume.MountPoint, "merged"), upper = Path.Combine(volume.MountPoint, "upper"), work = Path.Combine(volume.MountPoint, "work");
        foreach (string folder in (string[])[merged, upper, work]) { Directory.CreateDirectory(folder); }
        Succeed("/bin/mount", "-t", "overlay", "overlay", "-o", $"lowerdir={root},upperdir={upper},workdir={work}", merged);
        try
        {
            Succeed("unshare", "--mount", "--pid", "--fork", "chroot", merged, "/bin/sh", "-c", InContainer);
            Assert.False(File.Exists(Path.Combine(merged, "usr/bin/hostname")));
            Assert.Empty(Directory.GetFileSystemEntries(Path.Combine(merged, "etc/alternatives")));
            Assert.EndsWith("changed\n", File.ReadAllText(Path.Combine(merged, "etc/debian_version")), StringComparison.Ordinal);
            Assert.True(File.Exists(Path.Combine(merged, "data/copy/profile.moved")));
        }
        finally { Command.Run("/bin/umount", [merged]); }

        // What was below has not changed, and survives the mount.
        volume.Unmount();
        volume.ExpectClean();
        volume.Start();
        ExpectWhole(root, count);
        Assert.StartsWith("character special file 0:0", Succeed("stat", "-c", "%F %t:%T", Path.Combine(upper, "usr/bin/hostname")), StringComparison.Ordinal);
        volume.Unmount();
        volume.ExpectClean();
    }

    /// <summary>Every package is installed, and dpkg finds all their files with the contents they should have.</summary>
    private static void ExpectWhole(string root, int count)
    {
        Assert.Equal("", Succeed("dpkg", $"--root={root}", "--audit"));
        Assert.Equal("", Succeed("dpkg", $"--root={root}", "--verify"));
        Assert.Equal(count, Succeed("dpkg-query", $"--admindir={root}/var/lib/dpkg", "-W", "-f", "${db:Status-Abbrev}\n").Split('\n').Count(line => line.StartsWith("ii", StringComparison.Ordinal)));
        Assert.Equal("works\n", Succeed("chroot", root, "/bin/sh", "-c", "perl -e 'print \"works\"'"));
    }

    private static string Succeed(string program, params string[] arguments)
    {
        Finished run = Command.Run(program, arguments);
        return run.ExitStatus == 0 ? run.Output : throw new FindingException($"{program} {string.Join(' ', arguments)} ended with {run.ExitStatus}:\n{run.Output}{run.Error}");
    }

    private sealed class DebianFactAttribute : FactAttribute
    {
        public DebianFactAttribute() => Skip = Needs.Program("dpkg", "dpkg") ?? Needs.Program("unshare", "util-linux")
            ?? (Directory.Exists(s_packages) ? null : "there are no packages to install (vm/prepare --applications downloads them)");
    }
}
