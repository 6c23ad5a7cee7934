/* MKNOD, STATX, GETATTR of every type of file. */
#include "checks.h"

void nodes(void)
{
    CHECK("mknod of a regular file", mknod("regular", S_IFREG | 0640, 0) == 0 && S_ISREG(stat_of("regular").st_mode) && mode_of("regular") == 0640);
    CHECK("mknod without a type is a regular file", mknod("typeless", 0600, 0) == 0 && S_ISREG(stat_of("typeless").st_mode));
    CHECK("fifo", mknod("fifo", S_IFIFO | 0622, 0) == 0 && S_ISFIFO(stat_of("fifo").st_mode) && mode_of("fifo") == 0622);
    CHECK("character device", mknod("char", S_IFCHR | 0600, makedev(1, 3)) == 0 && S_ISCHR(stat_of("char").st_mode) && stat_of("char").st_rdev == makedev(1, 3));
    CHECK("block device", mknod("block", S_IFBLK | 0600, makedev(259, 70000)) == 0 && S_ISBLK(stat_of("block").st_mode) && stat_of("block").st_rdev == makedev(259, 70000));
    CHECK("socket node", mknod("socket", S_IFSOCK | 0700, 0) == 0 && S_ISSOCK(stat_of("socket").st_mode));
    umask(077);
    CHECK("umask applies", mknod("masked", S_IFIFO | 0666, 0) == 0 && mode_of("masked") == 0600);
    umask(0);
    FAILS("a directory is not made so", EPERM, mknod("dir", S_IFDIR | 0700, 0));
    FAILS("onto a file is EEXIST", EEXIST, mknod("regular", S_IFREG | 0600, 0));
    FAILS("onto a fifo is EEXIST", EEXIST, mkfifo("fifo", 0600));
    FAILS("in nothing is ENOENT", ENOENT, mkfifo("nothing/fifo", 0600));
    FAILS("below a file is ENOTDIR", ENOTDIR, mkfifo("regular/fifo", 0600));
    CHECK("shared", mkdir("shared", 0777) == 0);
    FAILS_AS(ALICE, STAFF, "a user makes no device", EPERM, mknod("shared/char", S_IFCHR | 0600, makedev(1, 3)));
    CHECK_AS(ALICE, STAFF, "a user makes a fifo", mkfifo("shared/fifo", 0600) == 0);
    FAILS("fifo without a reader is ENXIO", ENXIO, open("fifo", O_WRONLY | O_NONBLOCK));
    int reader = open("fifo", O_RDONLY | O_NONBLOCK), writer = open("fifo", O_WRONLY | O_NONBLOCK);
    char byte = 0;
    CHECK("a fifo carries bytes", write(writer, "!", 1) == 1 && read(reader, &byte, 1) == 1 && byte == '!');
    close(reader); close(writer);
    int null = open("char", O_RDWR);
    CHECK("a device node opens its device", null >= 0 && write(null, "gone", 4) == 4 && read(null, &byte, 1) == 0);
    close(null);
    FAILS("opening a socket is ENXIO", ENXIO, open("socket", O_RDWR));
    struct sockaddr_un address = { .sun_family = AF_UNIX, .sun_path = "bound" };
    int server = socket(AF_UNIX, SOCK_STREAM, 0), client = socket(AF_UNIX, SOCK_STREAM, 0);
    CHECK("bind makes a socket", bind(server, (struct sockaddr *)&address, sizeof address) == 0 && S_ISSOCK(stat_of("bound").st_mode));
    CHECK("which can be connected to", listen(server, 1) == 0 && connect(client, (struct sockaddr *)&address, sizeof address) == 0);
    FAILS("bind again is EADDRINUSE", EADDRINUSE, bind(socket(AF_UNIX, SOCK_STREAM, 0), (struct sockaddr *)&address, sizeof address));
    close(server); close(client);
    CHECK("all unlink", unlink("fifo") == 0 && unlink("char") == 0 && unlink("block") == 0 && unlink("socket") == 0 && unlink("bound") == 0);

    struct statx extended;
    CHECK("statx", statx(AT_FDCWD, "regular", 0, STATX_ALL, &extended) == 0 && (extended.stx_mask & STATX_BASIC_STATS) == STATX_BASIC_STATS);
    if (!kernel_at_least(6, 6)) { skip("birth time", "FUSE learnt it in Linux 6.6"); return; }
    CHECK("statx has a birth time", (extended.stx_mask & STATX_BTIME) != 0);
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    CHECK("which is now", llabs((long long)extended.stx_btime.tv_sec - now.tv_sec) < 100);
    struct statx later;
    tick();
    CHECK("writing leaves it", put("regular", "x") == 0 && chmod("regular", 0600) == 0 && statx(AT_FDCWD, "regular", 0, STATX_ALL, &later) == 0 &&
        later.stx_btime.tv_sec == extended.stx_btime.tv_sec && later.stx_btime.tv_nsec == extended.stx_btime.tv_nsec);
}
