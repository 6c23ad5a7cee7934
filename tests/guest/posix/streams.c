/* splice, sendfile, inotify; and what reading through O_NOATIME, file capabilities and many links do. */
#include "checks.h"
#include <poll.h>
#include <sys/inotify.h>
#include <sys/sendfile.h>

static void splices(void)
{
    enum { Size = 200000 };
    static char bytes[Size];
    fill(bytes, Size, 77);
    int source = open("source", O_RDWR | O_CREAT, 0600), target = open("target", O_RDWR | O_CREAT, 0600), pipes[2];
    CHECK("fixture", write(source, bytes, Size) == Size && pipe(pipes) == 0);
    loff_t from = 0, to = 0;
    while (to < Size) {
        ssize_t in = splice(source, &from, pipes[1], NULL, 65536, 0);
        if (in <= 0) { break; }
        while (in > 0) {
            ssize_t out = splice(pipes[0], NULL, target, &to, (size_t)in, 0);
            if (out <= 0) { break; }
            in -= out;
        }
        if (in > 0) { break; }
    }
    CHECK("splice from a file to a file", to == Size && holds_at(target, 0, bytes, Size) && fsync(target) == 0);
    CHECK("O_APPEND", fcntl(target, F_SETFL, O_APPEND) == 0);
    CHECK("a byte in the pipe", write(pipes[1], "x", 1) == 1);
    FAILS("splice to a descriptor that appends is EINVAL", EINVAL, splice(pipes[0], NULL, target, NULL, 1, 0));
    off_t at = 1000;
    int copy = open("copy", O_RDWR | O_CREAT, 0600);
    CHECK("sendfile to a file", sendfile(copy, source, &at, 50000) == 50000 && at == 51000 && holds_at(copy, 0, bytes + 1000, 50000));
    CHECK("vmsplice and splice to a file", vmsplice(pipes[1], &(struct iovec){ bytes, 4096 }, 1, 0) == 4096 && read(pipes[0], &(char){ 0 }, 1) == 1
        && splice(pipes[0], NULL, copy, &(loff_t){ 100 }, 4096, 0) == 4096 && holds_at(copy, 100, bytes, 4096));
    close(source); close(target); close(copy); close(pipes[0]); close(pipes[1]);
}

static bool seen(int watcher, uint32_t mask, const char *name)
{
    char events[4096] __attribute__((aligned(8)));
    struct pollfd one = { .fd = watcher, .events = POLLIN };
    if (poll(&one, 1, 2000) != 1) { return false; }
    ssize_t size = read(watcher, events, sizeof events);
    for (ssize_t i = 0; i < size; ) {
        struct inotify_event *event = (struct inotify_event *)(events + i);
        if ((event->mask & mask) && strcmp(event->len ? event->name : "", name) == 0) { return true; }
        i += (ssize_t)(sizeof *event + event->len);
    }
    return false;
}

static void notifications(void)
{
    int watcher = inotify_init1(0);
    CHECK("watch", mkdir("watched", 0755) == 0 && inotify_add_watch(watcher, "watched", IN_CREATE | IN_DELETE | IN_MOVE | IN_MODIFY | IN_ATTRIB | IN_CLOSE_WRITE) >= 0);
    CHECK("IN_CREATE", make_file("watched/f", 0600) == 0 && seen(watcher, IN_CREATE, "f"));
    CHECK("IN_MODIFY", put("watched/f", "text") == 0 && seen(watcher, IN_MODIFY, "f"));
    CHECK("IN_MOVED_TO", rename("watched/f", "watched/g") == 0 && seen(watcher, IN_MOVED_TO, "g"));
    CHECK("IN_ATTRIB", chmod("watched/g", 0644) == 0 && seen(watcher, IN_ATTRIB, "g"));
    CHECK("IN_DELETE", unlink("watched/g") == 0 && seen(watcher, IN_DELETE, "g"));
    close(watcher);
}

void streams(void)
{
    splices();
    notifications();

    /* An access time older than the change would move at the next read. */
    struct timespec old[2] = { { 1000, 0 }, { 2000, 0 } };
    char byte;
    CHECK("an old access time", put("read", "text") == 0 && utimensat(AT_FDCWD, "read", old, 0) == 0);
    int file = open("read", O_RDONLY | O_NOATIME);
    CHECK("O_NOATIME leaves it", pread(file, &byte, 1, 0) == 1 && close(file) == 0 && atime_of("read") == 1000000000000);
    CHECK("of a directory", mkdir("listed", 0755) == 0 && utimensat(AT_FDCWD, "listed", old, 0) == 0);
    int directory = open("listed", O_RDONLY | O_DIRECTORY | O_NOATIME);
    DIR *stream = fdopendir(directory);
    while (stream && readdir(stream)) { }
    CHECK("O_NOATIME leaves a directory's", stream && closedir(stream) == 0 && atime_of("listed") == 1000000000000);

    /* VFS_CAP_REVISION_2 with CAP_NET_RAW permitted: a write takes it away, as it does set-id bits. */
    static const unsigned char capability[20] = { 1, 0, 0, 2, 0, 0x20 };
    CHECK("a file capability", put("capable", "x") == 0 && setxattr("capable", "security.capability", capability, sizeof capability, 0) == 0);
    CHECK("survives a rename", rename("capable", "able") == 0 && getxattr("able", "security.capability", NULL, 0) == 20);
    file = open("able", O_WRONLY);
    CHECK("does not survive a write", write(file, "y", 1) == 1 && close(file) == 0 && getxattr("able", "security.capability", NULL, 0) == -1 && errno == ENODATA);
    CHECK("nor a chown", setxattr("able", "security.capability", capability, sizeof capability, 0) == 0 && chown("able", ALICE, STAFF) == 0 && getxattr("able", "security.capability", NULL, 0) == -1);
    CHECK("nor a truncate", setxattr("able", "security.capability", capability, sizeof capability, 0) == 0 && truncate("able", 0) == 0 && getxattr("able", "security.capability", NULL, 0) == -1);
}
