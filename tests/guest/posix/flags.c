/* chattr(1): what immutable, append-only and the other flags mean, and what a new inode takes over. */
#include "checks.h"

static int flags_of(const char *path)
{
    int flags = -1, file = open(path, O_RDONLY | O_NONBLOCK);
    if (ioctl(file, FS_IOC_GETFLAGS, &flags) != 0) { flags = -1; }
    close(file);
    return flags;
}

static int change(const char *path, int on, int off)
{
    int flags = 0, file = open(path, O_RDONLY | O_NONBLOCK);
    int result = ioctl(file, FS_IOC_GETFLAGS, &flags);
    if (result == 0) {
        flags = (flags | on) & ~off;
        result = ioctl(file, FS_IOC_SETFLAGS, &flags);
    }
    int error = errno;
    close(file);
    errno = error;
    return result;
}

static bool has(const char *path, int on, int off) { int flags = flags_of(path); return flags != -1 && (flags & on) == on && (flags & off) == 0; }

/* FUSE kernels do not know that an ioctl changes attributes, and tell the cached ones until those expire. */
static int64_t asked_ctime_of(const char *path)
{
    struct statx found;
    return statx(AT_FDCWD, path, AT_STATX_FORCE_SYNC, STATX_CTIME, &found) == 0 ? found.stx_ctime.tv_sec * 1000000000 + found.stx_ctime.tv_nsec : -1;
}

static void immutable_file(void)
{
    char bytes[4] = "new";
    CHECK("immutable: fixture", put("f", "text") == 0 && put("other", "more") == 0 && setxattr("f", "user.a", "1", 1, 0) == 0);
    int writer = open("f", O_RDWR), reader = open("other", O_RDONLY);
    CHECK("immutable: set", change("f", FS_IMMUTABLE_FL, 0) == 0 && has("f", FS_IMMUTABLE_FL, FS_APPEND_FL));
    CHECK("immutable: is read", holds("f", "text"));
    FAILS("immutable: no open for writing", EPERM, open("f", O_WRONLY));
    FAILS("immutable: no open for appending", EPERM, open("f", O_WRONLY | O_APPEND));
    FAILS("immutable: no O_TRUNC", EPERM, open("f", O_RDONLY | O_TRUNC));
    FAILS("immutable: no creat", EPERM, open("f", O_WRONLY | O_CREAT, 0600));
    FAILS("immutable: no truncate", EPERM, truncate("f", 0));
    FAILS("immutable: no ftruncate through a descriptor from before", EPERM, ftruncate(writer, 0));
    FAILS("immutable: no fallocate", EPERM, fallocate(writer, 0, 0, 8192));
    FAILS("immutable: no copy_file_range to it", EPERM, copy_file_range(reader, NULL, writer, NULL, 4, 0));
    /* A write-back cache takes this, and what it took must not get lost. */
    FAILS("immutable: no write through a descriptor from before", EPERM, pwrite(writer, bytes, 3, 0));
    FAILS("immutable: no chmod", EPERM, chmod("f", 0600));
    FAILS("immutable: no chown", EPERM, chown("f", ALICE, STAFF));
    FAILS("immutable: no utimes", EPERM, utimensat(AT_FDCWD, "f", (struct timespec[]){ { 1, 0 }, { 2, 0 } }, 0));
    FAILS("immutable: no touch", EPERM, utimensat(AT_FDCWD, "f", NULL, 0));
    FAILS("immutable: no setxattr", EPERM, setxattr("f", "user.b", "1", 1, 0));
    FAILS("immutable: no removexattr", EPERM, removexattr("f", "user.a"));
    FAILS("immutable: no link", EPERM, link("f", "g"));
    FAILS("immutable: no unlink", EPERM, unlink("f"));
    FAILS("immutable: no rename", EPERM, rename("f", "g"));
    FAILS("immutable: no rename over it", EPERM, rename("other", "f"));
    FAILS("immutable: no exchange", EPERM, renameat2(AT_FDCWD, "other", AT_FDCWD, "f", RENAME_EXCHANGE));
    FAILS("immutable: no other flag", EPERM, change("f", FS_NODUMP_FL, 0));
    CHECK("immutable: cleared, with another flag at once", change("f", FS_NODUMP_FL, FS_IMMUTABLE_FL) == 0 && has("f", FS_NODUMP_FL, FS_IMMUTABLE_FL));
    CHECK("immutable: gone", holds("f", "text") && put("f", "changed") == 0 && unlink("f") == 0);
    close(writer); close(reader);
}

static void append_only_file(void)
{
    CHECK("append-only: set", put("log", "one") == 0 && change("log", FS_APPEND_FL, 0) == 0);
    FAILS("append-only: no open for overwriting", EPERM, open("log", O_WRONLY));
    FAILS("append-only: no O_TRUNC", EPERM, open("log", O_WRONLY | O_APPEND | O_TRUNC));
    int file = open("log", O_RDWR | O_APPEND);
    CHECK("append-only: appends", file >= 0 && pwrite(file, "two", 3, 0) == 3 && holds("log", "onetwo"));
    FAILS("append-only: no truncate", EPERM, truncate("log", 100));
    FAILS("append-only: no ftruncate", EPERM, ftruncate(file, 0));
    FAILS("append-only: no hole", EPERM, fallocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096));
    CHECK("append-only: room may be reserved", fallocate(file, FALLOC_FL_KEEP_SIZE, 0, 65536) == 0);
    FAILS("append-only: no chmod", EPERM, chmod("log", 0600));
    FAILS("append-only: no setxattr", EPERM, setxattr("log", "user.a", "1", 1, 0));
    FAILS("append-only: no times of one's choice", EPERM, utimensat(AT_FDCWD, "log", (struct timespec[]){ { 1, 0 }, { 2, 0 } }, 0));
    CHECK("append-only: touch", utimensat(AT_FDCWD, "log", NULL, 0) == 0);
    FAILS("append-only: no link", EPERM, link("log", "log2"));
    FAILS("append-only: no unlink", EPERM, unlink("log"));
    FAILS("append-only: no rename", EPERM, rename("log", "log2"));
    close(file);
    CHECK("append-only: cleared", change("log", 0, FS_APPEND_FL) == 0 && close_all(open("log", O_WRONLY)) >= 0 && unlink("log") == 0);
}

static void protected_directories(void)
{
    CHECK("immutable directory: set", mkdir("d", 0755) == 0 && mkdir("d/sub", 0755) == 0 && put("d/f", "x") == 0 && change("d", FS_IMMUTABLE_FL, 0) == 0);
    FAILS("immutable directory: no new file", EPERM, open("d/new", O_CREAT | O_WRONLY, 0600));
    FAILS("immutable directory: no new directory", EPERM, mkdir("d/new", 0755));
    FAILS("immutable directory: what is there is there", EEXIST, mkdir("d/f", 0755));
    FAILS("immutable directory: no new symlink", EPERM, symlink("x", "d/new"));
    FAILS("immutable directory: no new node", EPERM, mknod("d/new", S_IFIFO | 0600, 0));
    FAILS("immutable directory: no new link", EPERM, link("d/f", "d/new"));
    FAILS("immutable directory: no unlink", EPERM, unlink("d/f"));
    FAILS("immutable directory: no rmdir in it", EPERM, rmdir("d/sub"));
    FAILS("immutable directory: no rmdir of it", EPERM, rmdir("d"));
    FAILS("immutable directory: no rename out of it", EPERM, rename("d/f", "f"));
    FAILS("immutable directory: no rename into it", EPERM, rename("other", "d/other"));
    FAILS("immutable directory: no O_TMPFILE", EPERM, open("d", O_TMPFILE | O_RDWR, 0600));
    CHECK("immutable directory: files in it are written", put("d/f", "y") == 0 && holds("d/f", "y"));
    CHECK("append-only directory: set", change("d", FS_APPEND_FL, FS_IMMUTABLE_FL) == 0);
    CHECK("append-only directory: takes names", put("d/new", "x") == 0 && mkdir("d/newer", 0755) == 0 && link("other", "d/other") == 0);
    FAILS("append-only directory: no unlink", EPERM, unlink("d/new"));
    FAILS("append-only directory: no rename", EPERM, rename("d/new", "d/newest"));
    FAILS("append-only directory: no rmdir", EPERM, rmdir("d/newer"));
    CHECK("append-only directory: cleared", change("d", 0, FS_APPEND_FL) == 0 && unlink("d/new") == 0);
}

static void other_flags(void)
{
    int harmless = FS_SYNC_FL | FS_NODUMP_FL | FS_NOATIME_FL;
    CHECK("the harmless flags", put("h", "x") == 0 && change("h", harmless, 0) == 0 && has("h", harmless, FS_IMMUTABLE_FL | FS_APPEND_FL));
    MOVES("chattr moves ctime", asked_ctime_of, "h", change("h", 0, FS_NODUMP_FL));
    KEEPS("chattr +A: reading moves no atime", atime_of, "h", holds("h", "x"));
    FAILS("dirsync is for directories", EOPNOTSUPP, change("h", FS_DIRSYNC_FL, 0));
    CHECK("a directory's flags", mkdir("parent", 0755) == 0 && change("parent", harmless | FS_DIRSYNC_FL, 0) == 0 && has("parent", harmless | FS_DIRSYNC_FL, 0));
    CHECK("flags go on to a new file", put("parent/f", "x") == 0 && has("parent/f", harmless, FS_DIRSYNC_FL));
    CHECK("flags go on to a new directory", mkdir("parent/d", 0755) == 0 && has("parent/d", harmless | FS_DIRSYNC_FL, 0));
    CHECK("a hard link keeps its own", link("h", "parent/h") == 0 && !has("parent/h", FS_NODUMP_FL, 0));
    CHECK("synchronous files and directories work", rename("parent/f", "parent/g") == 0 && holds("parent/g", "x") && unlink("parent/g") == 0 && rmdir("parent/d") == 0);
    CHECK("not the owner's, not root's", chown("h", ALICE, STAFF) == 0 && chmod("h", 0644) == 0);
    FAILS_AS(BOB, GUESTS, "another user sets no flag", EPERM, change("h", FS_NODUMP_FL, 0));
    CHECK_AS(ALICE, STAFF, "the owner sets harmless flags", change("h", FS_NODUMP_FL, 0) == 0);
    FAILS_AS(ALICE, STAFF, "the owner does not make it immutable", EPERM, change("h", FS_IMMUTABLE_FL, 0));
    FAILS_AS(ALICE, STAFF, "nor append-only", EPERM, change("h", FS_APPEND_FL, 0));
    struct fsxattr extended;
    int file = open("h", O_RDONLY);
    CHECK("FS_IOC_FSGETXATTR", ioctl(file, FS_IOC_FSGETXATTR, &extended) == 0 && (extended.fsx_xflags & (FS_XFLAG_NODUMP | FS_XFLAG_NOATIME)) == (FS_XFLAG_NODUMP | FS_XFLAG_NOATIME)
        && extended.fsx_projid == 0);
    extended.fsx_xflags = (extended.fsx_xflags & ~(uint32_t)FS_XFLAG_NODUMP) | FS_XFLAG_IMMUTABLE;
    CHECK("FS_IOC_FSSETXATTR", ioctl(file, FS_IOC_FSSETXATTR, &extended) == 0 && has("h", FS_IMMUTABLE_FL | FS_NOATIME_FL, FS_NODUMP_FL));
    CHECK("cleared again", change("h", 0, FS_IMMUTABLE_FL) == 0);
    close(file);
}

void inode_flags(void)
{
    CHECK("fixture", put("probe", "x") == 0);
    if (flags_of("probe") == -1) { skip("chattr", strerror(errno)); return; }
    immutable_file();
    append_only_file();
    protected_directories();
    other_flags();
}
