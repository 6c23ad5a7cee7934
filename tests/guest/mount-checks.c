/* What the kernel does with a mount besides system calls on files: id-mapped clones, pipes, handles, watching, execution.
 * mount-checks DIRECTORY, as root; one line per check, as posix-checks prints them. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <poll.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fanotify.h>
#include <sys/fsuid.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

enum { Large = 1 << 20, Shift = 100000, Executed = 42 };

static int passed, failed, skipped;

#define CHECK(name, expression) do { errno = 0; bool good_ = (expression); report(good_, name); } while (0)

static void report(bool good, const char *name)
{
    if (good) { passed++; printf("ok %s\n", name); }
    else { failed++; printf("FAIL %s: errno %d (%s)\n", name, errno, strerror(errno)); }
}

static void skip(const char *name, const char *why)
{
    skipped++;
    printf("skip %s: %s\n", name, why);
}

static void fill(unsigned char *bytes, size_t count)
{
    uint32_t state = 7;
    for (size_t i = 0; i < count; i++) { bytes[i] = (unsigned char)((state = state * 1664525u + 1013904223u) >> 24); }
}

static bool holds(const char *path, const unsigned char *expected, size_t count)
{
    static unsigned char found[Large + 1];
    int file = open(path, O_RDONLY);
    size_t have = 0;
    for (ssize_t got; have < sizeof found && (got = read(file, found + have, sizeof found - have)) > 0; have += (size_t)got) { }
    close(file);
    return have == count && memcmp(found, expected, count) == 0;
}

static int make(const char *path, const unsigned char *bytes, size_t count)
{
    int file = open(path, O_RDWR | O_CREAT | O_TRUNC, 0644);
    if (write(file, bytes, count) != (ssize_t)count) { return -1; }
    return file;
}

/* A user namespace that maps ids 0..65535 of the file system to 100000 and on. */
static int make_namespace(void)
{
    int ready[2], over[2];
    if (pipe(ready) != 0 || pipe(over) != 0) { return -1; }
    pid_t child = fork();
    if (child == 0) {
        char none;
        close(over[1]);
        _exit(unshare(CLONE_NEWUSER) != 0 || write(ready[1], "", 1) != 1 || read(over[0], &none, 1) < 0);
    }
    close(ready[1]);
    char path[64], none;
    int namespace = -1;
    if (read(ready[0], &none, 1) == 1) {
        bool mapped = true;
        for (int i = 0; i < 2; i++) {
            snprintf(path, sizeof path, "/proc/%d/%s", child, i == 0 ? "uid_map" : "gid_map");
            int map = open(path, O_WRONLY);
            mapped = mapped && write(map, "0 100000 65536", 14) == 14;
            close(map);
        }
        snprintf(path, sizeof path, "/proc/%d/ns/user", child);
        if (mapped) { namespace = open(path, O_RDONLY | O_CLOEXEC); }
    }
    close(over[1]);
    waitpid(child, NULL, 0);
    return namespace;
}

static int open_as(uid_t user, int directory, const char *name, int flags)
{
    setfsgid(user);
    setfsuid(user);
    int file = openat(directory, name, flags, 0644);
    int error = errno;
    setfsuid(0);
    setfsgid(0);
    errno = error;
    return file;
}

static void id_mapped(void)
{
    int namespace = make_namespace();
    if (namespace < 0) { skip("id-mapped mounts", "no user namespaces here"); return; }
    close(make("owned", (const unsigned char *)"text", 4));
    CHECK("a directory and a file of another owner", chmod(".", 0777) == 0 && chown("owned", 1, 2) == 0 && chmod("owned", 0600) == 0);
    int tree = (int)syscall(SYS_open_tree, AT_FDCWD, ".", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
    struct mount_attr mapping = { .attr_set = MOUNT_ATTR_IDMAP, .userns_fd = (uint64_t)namespace };
    if (syscall(SYS_mount_setattr, tree, "", AT_EMPTY_PATH, &mapping, sizeof mapping) != 0) {
        if (errno == EINVAL) { skip("id-mapped mounts", "not on FUSE with this kernel (6.12)"); return; }
        CHECK("mount_setattr", false);
        return;
    }
    struct stat found;
    CHECK("owners are shifted", fstatat(tree, "owned", &found, 0) == 0 && found.st_uid == Shift + 1 && found.st_gid == Shift + 2);
    int file = open_as(Shift + 1, tree, "owned", O_RDWR);
    CHECK("the shifted owner may open it", file >= 0);
    close(file);
    CHECK("the owner of the plain mount may not", open_as(1, tree, "owned", O_RDWR) < 0 && errno == EACCES);
    CHECK("nor the shifted one there", open_as(Shift + 1, AT_FDCWD, "owned", O_RDWR) < 0 && errno == EACCES);
    file = open_as(Shift + 5, tree, "new", O_RDWR | O_CREAT | O_EXCL);
    CHECK("who is shifted creates", file >= 0 && fstat(file, &found) == 0 && found.st_uid == Shift + 5);
    close(file);
    CHECK("and the plain owner is stored", stat("new", &found) == 0 && found.st_uid == 5 && found.st_gid == 5);
    CHECK("who has no place in the map cannot create", open_as(5, tree, "none", O_RDWR | O_CREAT) < 0 && errno == EOVERFLOW);
    CHECK("chown through it", fchownat(tree, "new", Shift + 7, Shift + 8, 0) == 0 && stat("new", &found) == 0 && found.st_uid == 7 && found.st_gid == 8);
    close(tree);
    close(namespace);
}

static void pipes(const unsigned char *bytes)
{
    int source = make("source", bytes, Large), target = open("spliced", O_RDWR | O_CREAT, 0644), ends[2];
    CHECK("a pipe", pipe(ends) == 0);
    off_t from = 0, to = 0;
    ssize_t moved = 1;
    while (moved > 0 && (moved = splice(source, &from, ends[1], NULL, 65536, 0)) > 0) {
        for (ssize_t left = moved, out; left > 0; left -= out) {
            if ((out = splice(ends[0], NULL, target, &to, (size_t)left, 0)) <= 0) { moved = -1; break; }
        }
    }
    CHECK("splice from the mount and to it", moved == 0 && holds("spliced", bytes, Large));
    close(target);
    target = open("sent", O_RDWR | O_CREAT, 0644);
    from = 0;
    while (from < Large && sendfile(target, source, &from, Large) > 0) { }
    CHECK("sendfile", holds("sent", bytes, Large));
    close(target);
    target = open("given", O_RDWR | O_CREAT, 0644);
    unsigned char *page = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memcpy(page, bytes, 65536);
    struct iovec piece = { page, 65536 };
    CHECK("vmsplice, and splice of the gift", vmsplice(ends[1], &piece, 1, SPLICE_F_GIFT) == 65536 && splice(ends[0], NULL, target, NULL, 65536, SPLICE_F_MOVE) == 65536 && holds("given", bytes, 65536));
    close(target);
    target = open("direct", O_RDWR | O_CREAT | O_DIRECT, 0644);
    unsigned char *aligned = mmap(NULL, Large, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memcpy(aligned, bytes, Large);
    CHECK("O_DIRECT writes", pwrite(target, aligned, Large, 0) == Large && holds("direct", bytes, Large));
    memset(aligned, 0, Large);
    CHECK("and reads", pread(target, aligned, Large, 0) == Large && memcmp(aligned, bytes, Large) == 0);
    unsigned char *shared = mmap(NULL, Large, PROT_READ | PROT_WRITE, MAP_SHARED, source, 0);
    CHECK("a shared map", shared != MAP_FAILED && memcmp(shared, bytes, Large) == 0);
    shared[4097] = (unsigned char)~bytes[4097];
    unsigned char back = bytes[4097];
    CHECK("what is stored in it is in the file", msync(shared, Large, MS_SYNC) == 0 && pread(source, &back, 1, 4097) == 1 && back == (unsigned char)~bytes[4097]);
    close(target);
    close(source);
    close(ends[0]);
    close(ends[1]);
}

static bool drop_caches(void)
{
    int file = open("/proc/sys/vm/drop_caches", O_WRONLY);
    bool done = write(file, "3", 1) == 1;
    close(file);
    return done;
}

static void handles(const unsigned char *bytes)
{
    union { struct file_handle handle; char room[sizeof(struct file_handle) + MAX_HANDLE_SZ]; } file, folder;
    int id;
    CHECK("two directories deep", mkdir("one", 0755) == 0 && mkdir("one/two", 0755) == 0);
    close(make("one/two/file", bytes, 5000));
    file.handle.handle_bytes = folder.handle.handle_bytes = MAX_HANDLE_SZ;
    CHECK("handles of a file and a directory", name_to_handle_at(AT_FDCWD, "one/two/file", &file.handle, &id, 0) == 0 && name_to_handle_at(AT_FDCWD, "one/two", &folder.handle, &id, 0) == 0);
    CHECK("caches are dropped", drop_caches());
    int top = open(".", O_RDONLY | O_DIRECTORY), opened = open_by_handle_at(top, &file.handle, O_RDONLY);
    unsigned char found[5000];
    CHECK("the file is found by its handle", opened >= 0 && read(opened, found, sizeof found) == sizeof found && memcmp(found, bytes, sizeof found) == 0);
    close(opened);
    char here[4096], there[4096], expected[8192];
    CHECK("caches are dropped again", getcwd(here, sizeof here) != NULL && drop_caches());
    opened = open_by_handle_at(top, &folder.handle, O_RDONLY | O_DIRECTORY);
    snprintf(expected, sizeof expected, "%s/one/two", here);
    CHECK("a directory finds its parents", opened >= 0 && fchdir(opened) == 0 && getcwd(there, sizeof there) != NULL && strcmp(there, expected) == 0 && fchdir(top) == 0);
    close(opened);
    CHECK("it goes", unlink("one/two/file") == 0);
    /* The release of what was open arrives a moment later. */
    for (int tries = 0; tries < 200 && (opened = open_by_handle_at(top, &file.handle, O_RDONLY)) >= 0; tries++) { close(opened); usleep(10000); }
    CHECK("and its handle is stale", opened < 0 && open_by_handle_at(top, &file.handle, O_RDONLY) < 0 && errno == ESTALE);
    close(top);
}

static bool told(int watch, uint32_t wanted)
{
    _Alignas(struct inotify_event) char buffer[4096];
    uint32_t seen = 0;
    struct pollfd waiting = { watch, POLLIN, 0 };
    while ((seen & wanted) != wanted && poll(&waiting, 1, 2000) == 1) {
        ssize_t count = read(watch, buffer, sizeof buffer);
        for (char *at = buffer; at < buffer + count; at += sizeof(struct inotify_event) + ((struct inotify_event *)at)->len) { seen |= ((struct inotify_event *)at)->mask; }
    }
    return (seen & wanted) == wanted;
}

static void watching(void)
{
    int watch = inotify_init1(IN_CLOEXEC);
    CHECK("inotify", inotify_add_watch(watch, ".", IN_ALL_EVENTS) >= 0);
    close(make("watched", (const unsigned char *)"x", 1));
    CHECK("tells of creation and writing", told(watch, IN_CREATE | IN_MODIFY | IN_CLOSE_WRITE));
    CHECK("and of a rename and the end", rename("watched", "renamed") == 0 && unlink("renamed") == 0 && told(watch, IN_MOVED_FROM | IN_MOVED_TO | IN_DELETE));
    close(watch);

    int group = fanotify_init(FAN_CLASS_CONTENT | FAN_CLOEXEC, O_RDONLY);
    if (group < 0) { skip("fanotify", strerror(errno)); return; }
    close(make("guarded", (const unsigned char *)"x", 1));
    if (fanotify_mark(group, FAN_MARK_ADD, FAN_OPEN_PERM, AT_FDCWD, "guarded") != 0) { skip("fanotify", strerror(errno)); close(group); return; }
    pid_t child = fork();
    if (child == 0) { _exit(open("guarded", O_RDONLY) < 0 && errno == EPERM ? 0 : 1); }
    struct fanotify_event_metadata event;
    struct pollfd waiting = { group, POLLIN, 0 };
    bool asked = poll(&waiting, 1, 5000) == 1 && read(group, &event, sizeof event) == sizeof event && (event.mask & FAN_OPEN_PERM) != 0;
    struct fanotify_response answer = { asked ? event.fd : -1, FAN_DENY };
    CHECK("fanotify is asked before a file is opened", asked && write(group, &answer, sizeof answer) == sizeof answer);
    if (asked) { close(event.fd); }
    close(group);
    int status = -1;
    waitpid(child, &status, 0);
    CHECK("and may forbid it", status == 0);
    group = fanotify_init(FAN_CLASS_NOTIF | FAN_CLOEXEC, O_RDONLY);
    CHECK("fanotify on the whole mount", fanotify_mark(group, FAN_MARK_ADD | FAN_MARK_MOUNT, FAN_CLOSE_WRITE, AT_FDCWD, ".") == 0);
    close(make("noticed", (const unsigned char *)"x", 1));
    waiting.fd = group;
    CHECK("tells of a file written", poll(&waiting, 1, 5000) == 1 && read(group, &event, sizeof event) == sizeof event && (event.mask & FAN_CLOSE_WRITE) != 0);
    close(event.fd);
    close(group);
}

static int run_copy(void)
{
    pid_t child = fork();
    if (child == 0) { execl("./program", "program", (char *)NULL); _exit(errno); }
    int status = 0;
    waitpid(child, &status, 0);
    return WEXITSTATUS(status);
}

static void execution(void)
{
    int self = open("/proc/self/exe", O_RDONLY), copy = open("program", O_RDWR | O_CREAT, 0755);
    struct stat size;
    off_t done = 0;
    CHECK("a program is copied", fstat(self, &size) == 0 && copy >= 0);
    while (done < size.st_size && sendfile(copy, self, &done, (size_t)size.st_size) > 0) { }
    CHECK("while it is open for writing it does not run", run_copy() == ETXTBSY);
    close(copy);
    CHECK("then it runs", run_copy() == Executed);
    CHECK("not without permission", chmod("program", 0644) == 0 && run_copy() == EACCES);
}

int main(int argc, char **argv)
{
    if (argc < 2) { return Executed; } /* the copy that execution() runs */
    if (chdir(argv[1]) != 0) { perror(argv[1]); return 2; }
    setvbuf(stdout, NULL, _IOLBF, 0);
    static unsigned char bytes[Large];
    fill(bytes, sizeof bytes);
    id_mapped();
    pipes(bytes);
    handles(bytes);
    watching();
    execution();
    printf("RESULT mount pass=%d fail=%d skip=%d\n", passed, failed, skipped);
    return failed != 0;
}
