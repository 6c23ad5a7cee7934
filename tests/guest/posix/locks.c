/* GETLK, SETLK, SETLKW: POSIX, open-file-description and BSD locks between processes. */
#include "checks.h"

static struct flock lock_of(short type, off_t start, off_t length) { return (struct flock){ .l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = length }; }

static int lock(int file, int command, short type, off_t start, off_t length)
{
    struct flock range = lock_of(type, start, length);
    return fcntl(file, command, &range);
}

/* Runs what(file) in another process on a descriptor of its own; its result comes back. */
static int elsewhere(int (*what)(int file))
{
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) { _exit(what(open("f", O_RDWR))); }
    int status = 0;
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static pid_t owner;
static int write_0_10(int file) { return lock(file, F_SETLK, F_WRLCK, 0, 10) == 0 ? 1 : errno == EAGAIN || errno == EACCES ? 2 : 3; }
static int write_20_10(int file) { return lock(file, F_SETLK, F_WRLCK, 20, 10) == 0 ? 1 : 2; }
static int read_0_10(int file) { return lock(file, F_SETLK, F_RDLCK, 0, 10) == 0 ? 1 : 2; }
static int write_5_1(int file) { return lock(file, F_SETLK, F_WRLCK, 5, 1) == 0 ? 1 : 2; }
static int ofd_write(int file) { return lock(file, F_OFD_SETLK, F_WRLCK, 0, 10) == 0 ? 1 : 2; }
static int flock_exclusive(int file) { return flock(file, LOCK_EX | LOCK_NB) == 0 ? 1 : errno == EWOULDBLOCK ? 2 : 3; }
static int flock_shared(int file) { return flock(file, LOCK_SH | LOCK_NB) == 0 ? 1 : 2; }
static int ask(int file)
{
    struct flock range = lock_of(F_WRLCK, 0, 100);
    if (fcntl(file, F_GETLK, &range) != 0) { return 3; }
    return range.l_type == F_WRLCK && range.l_start == 0 && range.l_len == 10 && range.l_pid == owner ? 1 : 2;
}
static int ask_free(int file)
{
    struct flock range = lock_of(F_WRLCK, 50, 10);
    return fcntl(file, F_GETLK, &range) == 0 && range.l_type == F_UNLCK ? 1 : 2;
}

static void waiting(int file, bool whole_file)
{
    int ready[2];
    (void)!pipe(ready);
    if (whole_file) { flock(file, LOCK_EX); } else { lock(file, F_SETLK, F_WRLCK, 0, 10); }
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        int own = open("f", O_RDWR);
        (void)!write(ready[1], "r", 1);
        int result = whole_file ? flock(own, LOCK_EX) : lock(own, F_SETLKW, F_WRLCK, 0, 10);
        (void)!pwrite(own, "got", 3, 100);
        _exit(result == 0 ? 0 : 1);
    }
    char byte;
    (void)!read(ready[0], &byte, 1);
    usleep(100000);
    int status = -1;
    CHECK(whole_file ? "flock waits" : "F_SETLKW waits", waitpid(child, &status, WNOHANG) == 0 && !holds_at(file, 100, "got", 3));
    if (whole_file) { flock(file, LOCK_UN); } else { lock(file, F_SETLK, F_UNLCK, 0, 10); }
    waitpid(child, &status, 0);
    CHECK(whole_file ? "flock is woken" : "F_SETLKW is woken", status == 0 && holds_at(file, 100, "got", 3));
    (void)!pwrite(file, "\0\0\0", 3, 100);
    close(ready[0]); close(ready[1]);
}

void locks(void)
{
    owner = getpid();
    CHECK("fixture", put("f", "0123456789") == 0);
    int file = open("f", O_RDWR);
    CHECK("F_WRLCK", lock(file, F_SETLK, F_WRLCK, 0, 10) == 0);
    CHECK("keeps another process out", elsewhere(write_0_10) == 2);
    CHECK("of a part too", elsewhere(write_5_1) == 2);
    CHECK("readers too", elsewhere(read_0_10) == 2);
    CHECK("not of another range", elsewhere(write_20_10) == 1);
    CHECK("F_GETLK names range and owner", elsewhere(ask) == 1);
    CHECK("F_GETLK of a free range", elsewhere(ask_free) == 1);
    CHECK("the owner may change it", lock(file, F_SETLK, F_RDLCK, 0, 10) == 0);
    CHECK("F_RDLCK is shared", elsewhere(read_0_10) == 1);
    CHECK("F_RDLCK keeps writers out", elsewhere(write_0_10) == 2);
    CHECK("unlocking the middle", lock(file, F_SETLK, F_WRLCK, 0, 10) == 0 && lock(file, F_SETLK, F_UNLCK, 5, 1) == 0 && elsewhere(write_5_1) == 1 && elsewhere(write_0_10) == 2);
    close(open("f", O_RDONLY));
    CHECK("any close lets go", elsewhere(write_0_10) == 1);
    int reader = open("f", O_RDONLY);
    FAILS("F_WRLCK on a read-only descriptor is EBADF", EBADF, lock(reader, F_SETLK, F_WRLCK, 0, 1));
    close(reader);
    waiting(file, false);
    CHECK("OFD lock", lock(file, F_OFD_SETLK, F_WRLCK, 0, 10) == 0 && elsewhere(ofd_write) == 2 && elsewhere(write_0_10) == 2);
    close(open("f", O_RDONLY));
    CHECK("outlives another close", elsewhere(ofd_write) == 2);
    close(file);
    CHECK("ends with its descriptor", elsewhere(ofd_write) == 1);
    file = open("f", O_RDWR);
    CHECK("flock exclusive", flock(file, LOCK_EX) == 0 && elsewhere(flock_exclusive) == 2 && elsewhere(flock_shared) == 2);
    CHECK("flock shared", flock(file, LOCK_SH) == 0 && elsewhere(flock_shared) == 1 && elsewhere(flock_exclusive) == 2);
    CHECK("flock released", flock(file, LOCK_UN) == 0 && elsewhere(flock_exclusive) == 1);
    waiting(file, true);
    CHECK("a process that ends lets go", elsewhere(flock_exclusive) == 1 && elsewhere(flock_exclusive) == 1 && elsewhere(write_0_10) == 1 && elsewhere(write_0_10) == 1);
    close(file);
}
