using System.Globalization;
using VhostFs.Campaigns;

namespace VhostFs.Mount.Tests.Applications;

/// <summary>git with everything fsynced: commit after commit, and a repack now and then.</summary>
sealed class GitApplication : Application
{
    private long _promised;

    public override void Prepare(MountedVolume volume)
    {
        Succeed("git", "init", "-q", "-b", "main", Repository(volume));
        foreach ((string key, string value) in (ReadOnlySpan<(string, string)>)
            [("core.fsync", "all"), ("core.fsyncMethod", "fsync"), ("user.name", "test"), ("user.email", "test@localhost"), ("gc.auto", "0"), ("core.fsyncObjectFiles", "true"), ("commit.gpgSign", "false")])
        {
            Succeed("git", "-C", Repository(volume), "config", key, value);
        }
        // The first commit makes the repository; git does not sync what init writes.
        Succeed("/bin/sh", "-c", Commit(volume, 0));
        Succeed("/bin/sync", Path.Combine(Repository(volume), ".git", "config"), Path.Combine(Repository(volume), ".git", "HEAD"), Repository(volume));
        _promised = 1;
    }

    public override void WorkUntilDead(MountedVolume volume)
    {
        for (long number = _promised; !volume.HasEnded; number++)
        {
            // Not Succeed: it is to fail at last.
            if (Command.Run("/bin/sh", ["-c", Commit(volume, number)]).ExitStatus != 0) { return; }
            _promised = number + 1;
            if (number % 7 == 6 && Command.Run("git", ["-C", Repository(volume), "repack", "-q", "-a", "-d"]).ExitStatus != 0) { return; }
        }
    }

    public override void Verify(MountedVolume volume)
    {
        string repository = Repository(volume);
        // What git says to do after a crash.
        foreach (string left in Directory.GetFiles(Path.Combine(repository, ".git"), "*.lock", SearchOption.AllDirectories)) { File.Delete(left); }
        string checkedOut = Succeed("git", "-C", repository, "fsck", "--full", "--strict", "--no-dangling", "--no-progress");
        if (checkedOut.Trim().Length > 0) { throw new FindingException($"git fsck: {checkedOut}"); }
        long commits = long.Parse(Succeed("git", "-C", repository, "rev-list", "--count", "HEAD"), CultureInfo.InvariantCulture);
        ExpectCount("commits", commits, _promised, _promised + 1);
        string last = Succeed("git", "-C", repository, "show", "HEAD:file");
        if (last != string.Create(CultureInfo.InvariantCulture, $"content {commits - 1}\n")) { throw new FindingException($"the last of {commits} commits holds '{last}'"); }
        Succeed("git", "-C", repository, "reset", "-q", "--hard");
        Succeed("git", "-C", repository, "clean", "-q", "-f", "-d"); // files of a commit that was not to be
        if (Succeed("git", "-C", repository, "status", "--porcelain").Length > 0) { throw new FindingException("the working tree is not clean after a reset"); }
        _promised = commits;
    }

    private static string Repository(MountedVolume volume) => Path.Combine(volume.MountPoint, "repository");

    // git syncs what it writes, but not the directory that a new value of a branch is renamed in: so we do.
    private static string Commit(MountedVolume volume, long number) => string.Create(CultureInfo.InvariantCulture,
        $"cd '{Repository(volume)}' && echo 'content {number}' >file && head -c {number * 997 % 20000} /dev/urandom >blob{number % 5} && git add -A && git commit -q -m {number} && sync .git/refs/heads");
}
