/* An overlay whose upper and work directories lie here: what containers need. */
#include "checks.h"
#include <sys/mount.h>

static bool in_merged(const char *name, const char *text) { char path[256]; snprintf(path, sizeof path, "merged/%s", name); return holds(path, text); }

static bool is_whiteout(const char *path) { struct stat found = stat_of(path); return S_ISCHR(found.st_mode) && found.st_rdev == 0; }

static int listed(const char *path)
{
    int count = 0;
    DIR *directory = opendir(path);
    for (struct dirent *entry; directory && (entry = readdir(directory)) != NULL; ) { count += entry->d_name[0] != '.'; }
    if (directory) { closedir(directory); }
    return count;
}

static bool opaque(const char *path)
{
    char value[8];
    return getxattr(path, "trusted.overlay.opaque", value, sizeof value) == 1 && value[0] == 'y';
}

static int lower_tree(void)
{
    bool made = mkdir("lower", 0755) == 0 && mkdir("upper", 0755) == 0 && mkdir("work", 0755) == 0 && mkdir("merged", 0755) == 0
        && put("lower/file", "lower") == 0 && put("lower/gone", "x") == 0 && put("lower/mine", "m") == 0 && put("lower/linked", "l") == 0 && symlink("file", "lower/link") == 0
        && mkdir("lower/dir", 0755) == 0 && put("lower/dir/a", "a") == 0 && put("lower/dir/b", "b") == 0
        && mkdir("lower/old", 0755) == 0 && put("lower/old/x", "x") == 0 && mkdir("lower/moved", 0755) == 0 && put("lower/moved/deep", "deep") == 0;
    return made ? setxattr("lower/mine", "user.kept", "yes", 3, 0) : -1;
}

static int mount_layers(const char *more)
{
    char options[256];
    snprintf(options, sizeof options, "lowerdir=lower,upperdir=upper,workdir=work%s", more);
    return mount("overlay", "merged", "overlay", 0, options);
}

void overlays(void)
{
    CHECK("fixture", lower_tree() == 0);
    /* The mounts end with this process. */
    if (unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0) { skip("overlay", "no mount namespace of its own"); return; }
    if (mount_layers(",redirect_dir=on") != 0 && errno == ENODEV) { skip("overlay", "this kernel has none"); return; }
    CHECK("overlay", in_merged("file", "lower"));
    CHECK("a write copies up", put("merged/file", "upper") == 0 && in_merged("file", "upper") && holds("upper/file", "upper") && holds("lower/file", "lower"));
    CHECK("a new file", put("merged/new", "new") == 0 && holds("upper/new", "new"));
    CHECK("unlink leaves a whiteout", unlink("merged/gone") == 0 && !exists("merged/gone") && is_whiteout("upper/gone") && exists("lower/gone"));
    CHECK("a name comes back over its whiteout", put("merged/gone", "back") == 0 && in_merged("gone", "back") && holds("upper/gone", "back"));
    CHECK("chown copies up, with attributes", chown("merged/mine", ALICE, STAFF) == 0 && stat_of("upper/mine").st_uid == ALICE && stat_of("lower/mine").st_uid == 0
        && getxattr("upper/mine", "user.kept", NULL, 0) == 3 && in_merged("mine", "m"));
    CHECK("a hard link copies up", link("merged/linked", "merged/linked2") == 0 && in_merged("linked2", "l") && inode_of("merged/linked") == inode_of("merged/linked2"));
    CHECK("names of both layers are listed once", listed("merged/dir") == 2 && put("merged/dir/a", "A") == 0 && put("merged/dir/c", "c") == 0 && listed("merged/dir") == 3);
    CHECK("a removed directory is a whiteout", unlink("merged/old/x") == 0 && rmdir("merged/old") == 0 && !exists("merged/old") && is_whiteout("upper/old"));
    CHECK("one made anew is opaque", mkdir("merged/old", 0755) == 0 && opaque("upper/old") && listed("merged/old") == 0);
    int over = rename("merged/new", "merged/linked");
    if (over != 0 && errno == ESTALE && !kernel_at_least(6, 2)) { skip("rename over a name that was copied up", "ESTALE from the overlay of Linux 6.1 above FUSE"); }
    else { CHECK("rename over a name that was copied up", over == 0 && in_merged("linked", "new") && !exists("merged/new")); }
    CHECK("a lower directory is renamed by a redirect", rename("merged/moved", "merged/there") == 0 && in_merged("there/deep", "deep") && is_whiteout("upper/moved")
        && getxattr("upper/there", "trusted.overlay.redirect", NULL, 0) > 0);
    CHECK("a directory of the upper layer is renamed", mkdir("merged/u", 0755) == 0 && put("merged/u/f", "f") == 0 && rename("merged/u", "merged/v") == 0 && in_merged("v/f", "f"));
    CHECK("exchange", renameat2(AT_FDCWD, "merged/file", AT_FDCWD, "merged/mine", RENAME_EXCHANGE) == 0 && in_merged("file", "m") && in_merged("mine", "upper"));
    int file = open("merged", O_TMPFILE | O_RDWR, 0600);
    if (file < 0) { skip("O_TMPFILE in an overlay", strerror(errno)); }
    else { CHECK("O_TMPFILE in an overlay", write(file, "t", 1) == 1 && close(file) == 0); }
    file = open("merged/map", O_RDWR | O_CREAT, 0600);
    char *map = ftruncate(file, 4096) == 0 ? mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0) : MAP_FAILED;
    CHECK("a shared map in an overlay", map != MAP_FAILED && (map[5] = 'm') == 'm' && msync(map, 4096, MS_SYNC) == 0 && holds_at(file, 5, "m", 1));
    if (map != MAP_FAILED) { munmap(map, 4096); }
    close(file);
    CHECK("unmount", umount("merged") == 0);
    CHECK("mounted again, all is as it was", mount_layers(",redirect_dir=on") == 0 && in_merged("file", "m") && in_merged("mine", "upper") && in_merged("there/deep", "deep") && in_merged("linked2", "l")
        && !exists("merged/moved") && listed("merged/old") == 0 && listed("merged/dir") == 3);
    CHECK("unmount again", umount("merged") == 0);
    CHECK("a whiteout is a device 0:0 that anybody may make through a rename", put("w", "w") == 0 && renameat2(AT_FDCWD, "w", AT_FDCWD, "w2", RENAME_WHITEOUT) == 0 && is_whiteout("w") && holds("w2", "w"));
}
