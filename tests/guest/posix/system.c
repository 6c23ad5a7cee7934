/* SYNCFS, IOCTL, POLL, mount-wide answers, many descriptors. */
#include "checks.h"
#include <poll.h>

void whole_system(void)
{
    CHECK("fixture", put("f", "x") == 0 && mkdir("d", 0755) == 0);
    int file = open("f", O_RDWR), directory = open("d", O_RDONLY);
    sync();
    CHECK("sync and syncfs", syncfs(file) == 0 && syncfs(directory) == 0);
    struct pollfd one = { .fd = file, .events = POLLIN | POLLOUT };
    CHECK("a file is always ready", poll(&one, 1, 0) == 1 && one.revents == (POLLIN | POLLOUT));
    FAILS("an unknown ioctl is ENOTTY", ENOTTY, ioctl(file, _IO('?', 99)));
    close(file); close(directory);
    CHECK("rename within the mount is not EXDEV", rename("f", "d/f") == 0 && rename("d/f", "f") == 0);
    CHECK("one device", stat_of("f").st_dev == stat_of("d").st_dev);
    int many[500];
    bool opened = true, distinct = true;
    for (int i = 0; i < 500; i++) {
        char name[16];
        snprintf(name, sizeof name, "d/%d", i);
        many[i] = open(name, O_RDWR | O_CREAT, 0600);
        opened &= many[i] >= 0 && write(many[i], name, strlen(name)) == (ssize_t)strlen(name);
    }
    for (int i = 0; i < 500; i++) {
        char name[16];
        snprintf(name, sizeof name, "d/%d", i);
        distinct &= holds_at(many[i], 0, name, strlen(name)) && unlink(name) == 0;
    }
    for (int i = 0; i < 500; i++) { close(many[i]); }
    CHECK("500 files open at once", opened && distinct);

    /* Several processes at work in one directory. */
    pid_t children[4];
    fflush(stdout);
    for (int c = 0; c < 4; c++) {
        if ((children[c] = fork()) == 0) {
            bool good = true;
            for (int i = 0; i < 60; i++) {
                char name[32], other[32];
                snprintf(name, sizeof name, "d/c%d-%d", c, i);
                snprintf(other, sizeof other, "d/r%d-%d", c, i);
                good &= put(name, name) == 0 && rename(name, other) == 0 && holds(other, name) && unlink(other) == 0;
            }
            _exit(good ? 0 : 1);
        }
    }
    bool good = true;
    for (int c = 0; c < 4; c++) { int status; waitpid(children[c], &status, 0); good &= status == 0; }
    CHECK("four processes in one directory", good && rmdir("d") == 0);
}
