/* OPEN, CREATE, TMPFILE and the errno of every way to open wrongly. */
#include "checks.h"

static void creating(void)
{
    CHECK("creat makes an empty file", close_all(open("new", O_CREAT | O_WRONLY, 0640)) >= 0 && size_of("new") == 0);
    CHECK("creat gives the mode asked for", mode_of("new") == 0640);
    CHECK("creat opens a file that is there", close_all(open("new", O_CREAT | O_RDWR, 0600)) >= 0 && mode_of("new") == 0640);
    FAILS("O_EXCL on a file is EEXIST", EEXIST, open("new", O_CREAT | O_EXCL | O_RDWR, 0600));
    CHECK("mkdir for what follows", mkdir("dir", 0755) == 0);
    FAILS("O_EXCL on a directory is EEXIST", EEXIST, open("dir", O_CREAT | O_EXCL | O_RDWR, 0600));
    CHECK("dangling symlink", symlink("absent", "dangling") == 0);
    FAILS("O_EXCL on a dangling symlink is EEXIST", EEXIST, open("dangling", O_CREAT | O_EXCL | O_RDWR, 0600));
    CHECK("O_CREAT through a dangling symlink makes its target", close_all(open("dangling", O_CREAT | O_RDWR, 0600)) >= 0 && exists("absent"));
    umask(027);
    CHECK("umask takes bits away", close_all(open("masked", O_CREAT | O_RDWR, 0777)) >= 0 && mode_of("masked") == 0750);
    umask(0);
    int file = open("sealed", O_CREAT | O_RDWR, 0);
    CHECK("mode 0 still gives a descriptor that writes", file >= 0 && write(file, "x", 1) == 1);
    close(file);
    CHECK("creation keeps sticky and set-id bits", close_all(open("special", O_CREAT | O_RDWR, 06755)) >= 0 && mode_of("special") == 06755);
    MOVES("creating moves the directory's mtime", mtime_of, ".", make_file("stamp1", 0600));
    MOVES("creating moves the directory's ctime", ctime_of, ".", make_file("stamp2", 0600));
    CHECK_AS(ALICE, STAFF, "user cannot create in root's directory", open("alien", O_CREAT | O_RDWR, 0600) == -1 && errno == EACCES);
    CHECK("shared directory", mkdir("shared", 0777) == 0);
    CHECK_AS(ALICE, STAFF, "user creates in a shared directory", close_all(open("shared/a", O_CREAT | O_RDWR, 0600)) >= 0);
    CHECK("the new file is the user's", stat_of("shared/a").st_uid == ALICE && stat_of("shared/a").st_gid == STAFF);
}

static void flags(void)
{
    char byte;
    CHECK("fixture", put("text", "0123456789") == 0);
    CHECK("O_TRUNC empties", close_all(open("text", O_WRONLY | O_TRUNC)) >= 0 && size_of("text") == 0);
    CHECK("fixture again", put("text", "0123456789") == 0);
    MOVES("O_TRUNC moves mtime", mtime_of, "text", close(open("text", O_WRONLY | O_TRUNC)));
    CHECK("fixture once more", put("text", "0123456789") == 0);
    CHECK("O_CREAT|O_TRUNC empties", close_all(open("text", O_WRONLY | O_CREAT | O_TRUNC, 0600)) >= 0 && size_of("text") == 0);
    int reader = open("text", O_RDONLY), writer = open("text", O_WRONLY);
    FAILS("write to a read-only descriptor is EBADF", EBADF, write(reader, "x", 1));
    FAILS("read from a write-only descriptor is EBADF", EBADF, read(writer, &byte, 1));
    FAILS("ftruncate of a read-only descriptor is EINVAL", EINVAL, ftruncate(reader, 1));
    CHECK("zero bytes from an empty file", read(reader, &byte, 1) == 0);
    CHECK("a write shows in the other descriptor", write(writer, "abc", 3) == 3 && holds_at(reader, 0, "abc", 3));
    CHECK("access mode is remembered", (fcntl(writer, F_GETFL) & O_ACCMODE) == O_WRONLY);
    close(reader); close(writer);
    FAILS("O_DIRECTORY on a file is ENOTDIR", ENOTDIR, open("text", O_RDONLY | O_DIRECTORY));
    CHECK("O_DIRECTORY on a directory", close_all(open("dir", O_RDONLY | O_DIRECTORY)) >= 0);
    CHECK("symlink to text", symlink("text", "pointer") == 0);
    FAILS("O_NOFOLLOW on a symlink is ELOOP", ELOOP, open("pointer", O_RDONLY | O_NOFOLLOW));
    CHECK("O_NOFOLLOW on a file", close_all(open("text", O_RDONLY | O_NOFOLLOW)) >= 0);
    int path = open("pointer", O_PATH | O_NOFOLLOW);
    struct stat found;
    CHECK("O_PATH|O_NOFOLLOW opens the symlink itself", path >= 0 && fstat(path, &found) == 0 && S_ISLNK(found.st_mode));
    FAILS("reading an O_PATH descriptor is EBADF", EBADF, read(path, &byte, 1));
    close(path);
    CHECK("O_SYNC file takes writes", (path = open("text", O_WRONLY | O_SYNC)) >= 0 && write(path, "sync", 4) == 4);
    close(path);
    CHECK("O_DSYNC file takes writes", (path = open("text", O_WRONLY | O_DSYNC)) >= 0 && write(path, "dsyn", 4) == 4);
    close(path);
    CHECK("O_NOATIME for the owner", close_all(open("text", O_RDONLY | O_NOATIME)) >= 0);
    CHECK("text is readable by all", chmod("text", 0644) == 0);
    FAILS_AS(ALICE, STAFF, "O_NOATIME for others is EPERM", EPERM, open("text", O_RDONLY | O_NOATIME));
}

static void wrongly(void)
{
    FAILS("absent is ENOENT", ENOENT, open("nothing", O_RDONLY));
    FAILS("absent directory is ENOENT", ENOENT, open("nothing/file", O_CREAT | O_RDWR, 0600));
    FAILS("empty path is ENOENT", ENOENT, open("", O_RDONLY));
    FAILS("a file as directory is ENOTDIR", ENOTDIR, open("text/x", O_RDONLY));
    FAILS("a file as directory with O_CREAT is ENOTDIR", ENOTDIR, open("text/x", O_CREAT | O_RDWR, 0600));
    FAILS("a file with a trailing slash is ENOTDIR", ENOTDIR, open("text/", O_RDONLY));
    FAILS("O_CREAT with a trailing slash is EISDIR", EISDIR, open("fresh/", O_CREAT | O_RDWR, 0600));
    FAILS("a directory for writing is EISDIR", EISDIR, open("dir", O_WRONLY));
    FAILS("a directory for both is EISDIR", EISDIR, open("dir", O_RDWR));
    FAILS("a directory with O_CREAT is EISDIR", EISDIR, open("dir", O_RDONLY | O_CREAT, 0600));
    FAILS("a directory with O_TRUNC is EISDIR", EISDIR, open("dir", O_WRONLY | O_TRUNC));
    FAILS("a bad address is EFAULT", EFAULT, open((char *)1, O_RDONLY));
    char byte;
    int directory = open("dir", O_RDONLY);
    FAILS("reading a directory is EISDIR", EISDIR, read(directory, &byte, 1));
    FAILS("writing a directory descriptor is EBADF", EBADF, write(directory, &byte, 1));
    close(directory);
    FAILS("O_TMPFILE read-only is EINVAL", EINVAL, open("dir", O_TMPFILE | O_RDONLY, 0600));
    FAILS("O_TMPFILE in an absent directory is ENOENT", ENOENT, open("nothing", O_TMPFILE | O_RDWR, 0600));
    FAILS("O_TMPFILE in a file is ENOTDIR", ENOTDIR, open("text", O_TMPFILE | O_RDWR, 0600));
}

static void nameless(void)
{
    if (!kernel_at_least(6, 2)) { skip("O_TMPFILE", "FUSE learnt it in Linux 6.2"); return; }
    int file = open("dir", O_TMPFILE | O_RDWR, 0640);
    CHECK("O_TMPFILE opens a nameless file", file >= 0);
    if (file < 0) { return; }
    struct stat found;
    CHECK("it has no links", fstat(file, &found) == 0 && found.st_nlink == 0);
    CHECK("it has the mode asked for", (found.st_mode & 07777) == 0640);
    CHECK("the directory stays empty", rmdir("dir") == 0 && mkdir("dir", 0755) == 0);
    CHECK("it takes data", write(file, "nameless", 8) == 8);
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", file);
    bool linked = linkat(AT_FDCWD, path, AT_FDCWD, "named", AT_SYMLINK_FOLLOW) == 0;
    if (!linked) { linked = linkat(file, "", AT_FDCWD, "named", AT_EMPTY_PATH) == 0; }
    CHECK("linkat gives it a name", linked);
    CHECK("the name leads to the data", holds("named", "nameless") && links_of("named") == 1);
    close(file);
    file = open(".", O_TMPFILE | O_RDWR | O_EXCL, 0600);
    CHECK("O_TMPFILE|O_EXCL opens", file >= 0);
    FAILS("O_TMPFILE|O_EXCL cannot be linked", ENOENT, linkat(file, "", AT_FDCWD, "never", AT_EMPTY_PATH));
    close(file);
}

void opens(void)
{
    creating();
    flags();
    wrongly();
    nameless();
}
