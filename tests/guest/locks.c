/* Advisory locks, between processes and between machines that share a file.
 *
 *   locks check DIRECTORY [signals]       what fcntl(2) and flock(2) say, with several processes; `signals`: waits that a signal ends, too
 *   locks count KIND FILE TIMES           adds 1 to the number in FILE, TIMES times, each under the lock
 *   locks try KIND FILE                   prints `free` or `taken`
 *   locks hold KIND FILE STOP             takes the lock, prints `holds`, and keeps it until there is a file STOP
 *   locks wait KIND FILE                  prints `waits`, takes the lock, and prints `has it`
 *
 * KIND is posix, ofd or flock. Exit status 0 when all is well; what is not is printed. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum kind { Posix, Ofd, Flock };
static const char *const kinds[] = { "posix", "ofd", "flock" };
static int problems;

static void expect(bool holds, const char *what)
{
    if (holds) { return; }
    printf("BAD %s (errno %s)\n", what, strerror(errno));
    fflush(stdout);
    problems++;
}

static void stop(const char *what)
{
    printf("STOP %s: %s\n", what, strerror(errno));
    exit(2);
}

static int open_file(const char *path)
{
    int fd = open(path, O_RDWR | O_CREAT, 0666);
    if (fd < 0) { stop(path); }
    return fd;
}

/* type: F_RDLCK, F_WRLCK, F_UNLCK; length 0: to the end. */
static int lock_range(enum kind kind, int fd, short type, off_t start, off_t length, bool wait)
{
    if (kind == Flock) { return flock(fd, (type == F_RDLCK ? LOCK_SH : type == F_WRLCK ? LOCK_EX : LOCK_UN) | (wait ? 0 : LOCK_NB)); }
    struct flock lock = { .l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = length };
    return fcntl(fd, kind == Ofd ? (wait ? F_OFD_SETLKW : F_OFD_SETLK) : wait ? F_SETLKW : F_SETLK, &lock);
}

static int lock_all(enum kind kind, int fd, short type, bool wait) { return lock_range(kind, fd, type, 0, 0, wait); }

static bool is_taken(int result) { return result == -1 && (errno == EAGAIN || errno == EACCES); }

static void pause_ms(long ms) { nanosleep(&(struct timespec){ ms / 1000, ms % 1000 * 1000000 }, NULL); }

/* A child without our open files: through them it would have our locks, too. */
static pid_t fork_apart(void)
{
    pid_t child = fork();
    if (child == 0) { close_range(STDERR_FILENO + 1, ~0U, 0); }
    return child;
}

/* Another process tries for the lock, from an open file of its own. */
static bool is_free_for_another(enum kind kind, const char *path, short type, off_t start, off_t length)
{
    pid_t child = fork_apart();
    if (child == 0) { _exit(lock_range(kind, open_file(path), type, start, length, false) == 0 ? 0 : errno == EAGAIN || errno == EACCES ? 1 : 2); }
    int status;
    waitpid(child, &status, 0);
    if (!WIFEXITED(status) || WEXITSTATUS(status) > 1) { expect(false, "another process could not even try"); }
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/* A child that waits for the whole file, and ends with 0 when it has it, with its errno when not. */
static pid_t start_waiter(enum kind kind, const char *path, short type)
{
    pid_t child = fork_apart();
    if (child == 0) { _exit(lock_all(kind, open_file(path), type, true) == 0 ? 0 : errno); }
    return child;
}

static bool has_ended(pid_t child, int *status) { return waitpid(child, status, WNOHANG) == child; }

static int end_of(pid_t child)
{
    int status = -1;
    for (int i = 0; i < 600; i++)
    {
        if (has_ended(child, &status)) { return status; }
        pause_ms(50);
    }
    expect(false, "a process still waits after half a minute");
    kill(child, SIGKILL);
    return -1;
}

static void nothing(int number) { (void)number; }

static void check_handover(enum kind kind, const char *path)
{
    int fd = open_file(path), status;
    expect(lock_all(kind, fd, F_WRLCK, false) == 0, "a free file is locked");
    expect(!is_free_for_another(kind, path, F_RDLCK, 0, 0), "a locked file is not free");
    pid_t first = start_waiter(kind, path, F_WRLCK), second = start_waiter(kind, path, F_RDLCK);
    pause_ms(300);
    expect(!has_ended(first, &status) && !has_ended(second, &status), "who waits, waits");
    expect(lock_all(kind, fd, F_UNLCK, false) == 0, "unlocking");
    expect(end_of(first) == 0 && end_of(second) == 0, "who waited gets the lock, and lets go of it with its end");
    expect(lock_all(kind, fd, F_RDLCK, false) == 0, "readers share");
    expect(is_free_for_another(kind, path, F_RDLCK, 0, 0), "readers share");
    expect(!is_free_for_another(kind, path, F_WRLCK, 0, 0), "and keep writers out");
    expect(lock_all(kind, fd, F_WRLCK, false) == 0, "a lock becomes more");
    expect(!is_free_for_another(kind, path, F_RDLCK, 0, 0), "and is more");
    expect(lock_all(kind, fd, F_RDLCK, false) == 0 && is_free_for_another(kind, path, F_RDLCK, 0, 0), "and less again");
    expect(lock_all(kind, fd, F_WRLCK, false) == 0, "a lock becomes more again");
    close(fd);
    expect(is_free_for_another(kind, path, F_WRLCK, 0, 0), "closing lets go of it");
}

static void check_ranges(enum kind kind, const char *path)
{
    int fd = open_file(path);
    expect(lock_range(kind, fd, F_WRLCK, 10, 80, false) == 0 && lock_range(kind, fd, F_UNLCK, 40, 20, false) == 0, "a range is split");
    expect(is_free_for_another(kind, path, F_WRLCK, 40, 20) && !is_free_for_another(kind, path, F_RDLCK, 39, 1) && !is_free_for_another(kind, path, F_RDLCK, 60, 1), "in the middle");
    expect(is_free_for_another(kind, path, F_WRLCK, 0, 10) && is_free_for_another(kind, path, F_WRLCK, 90, 0), "and is free around it");
    struct flock seen = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = 0 };
    pid_t child = fork_apart();
    if (child == 0)
    {
        fcntl(open_file(path), F_GETLK, &seen);
        _exit(seen.l_type == F_WRLCK && seen.l_start == 10 && seen.l_len == 30 && (kind == Ofd || seen.l_pid == getppid()) ? 0 : 1);
    }
    expect(end_of(child) == 0, "F_GETLK tells the first lock in the way, and who has it");
    expect(lock_range(kind, fd, F_WRLCK, 20, -5, false) == 0 && lock_range(kind, fd, F_WRLCK, 2, -5, false) == -1, "negative lengths reach back, not before the start");
    close(fd);
}

static void check_owners(const char *path)
{
    int one = open_file(path), two = open_file(path);
    expect(lock_all(Posix, one, F_WRLCK, false) == 0 && lock_all(Posix, two, F_WRLCK, false) == 0, "a POSIX lock belongs to the process");
    close(two);
    expect(is_free_for_another(Posix, path, F_WRLCK, 0, 0), "and ends with any close of the file");
    two = open_file(path);
    expect(lock_all(Ofd, one, F_WRLCK, false) == 0 && is_taken(lock_all(Ofd, two, F_WRLCK, false)), "an OFD lock belongs to the open file");
    expect(is_taken(lock_all(Posix, one, F_WRLCK, false)), "and is in the way of the process's own POSIX locks");
    close(two);
    int copy = dup(one);
    close(one);
    expect(!is_free_for_another(Ofd, path, F_RDLCK, 0, 0), "it lives as long as the open file");
    close(copy);
    expect(is_free_for_another(Ofd, path, F_WRLCK, 0, 0), "and no longer");
    one = open_file(path);
    two = open_file(path);
    expect(flock(one, LOCK_EX) == 0 && lock_all(Posix, two, F_WRLCK, false) == 0, "flock and fcntl do not see each other");
    expect(is_taken(flock(two, LOCK_SH | LOCK_NB)), "two open files of a process exclude each other with flock");
    close(one);
    close(two);
}

static void check_deadlock(const char *path)
{
    int fd = open_file(path);
    expect(lock_range(Posix, fd, F_WRLCK, 0, 1, false) == 0, "the first byte");
    pid_t child = fork_apart();
    if (child == 0)
    {
        int other = open_file(path);
        // Waits: is_free_for_another, below, has it for a moment.
        if (lock_range(Posix, other, F_WRLCK, 1, 1, true) != 0) { _exit(1); }
        _exit(lock_range(Posix, other, F_WRLCK, 0, 1, true) == 0 ? 0 : 2);
    }
    for (int i = 0; i < 600 && is_free_for_another(Posix, path, F_WRLCK, 1, 1); i++) { pause_ms(20); }
    pause_ms(300);
    expect(lock_range(Posix, fd, F_WRLCK, 1, 1, true) == -1 && errno == EDEADLK, "a circle of waits is a deadlock");
    close(fd);
    expect(end_of(child) == 0, "and the other one goes on");
}

static void check_signals(enum kind kind, const char *path)
{
    int fd = open_file(path), status;
    expect(lock_all(kind, fd, F_WRLCK, false) == 0, "locked");
    pid_t interrupted = fork_apart();
    if (interrupted == 0)
    {
        sigaction(SIGALRM, &(struct sigaction){ .sa_handler = nothing }, NULL);
        alarm(1);
        _exit(lock_all(kind, open_file(path), F_WRLCK, true) == -1 ? errno : 0);
    }
    expect(WEXITSTATUS(status = end_of(interrupted)) == EINTR && WIFEXITED(status), "a signal ends the wait");
    pid_t killed = start_waiter(kind, path, F_WRLCK), patient = start_waiter(kind, path, F_WRLCK);
    pause_ms(300);
    kill(killed, SIGKILL);
    expect(WIFSIGNALED(end_of(killed)), "who waits can be killed");
    close(fd);
    expect(end_of(patient) == 0, "and the next one gets the lock");
    expect(is_free_for_another(kind, path, F_WRLCK, 0, 0), "nobody else has it");
}

static int check(const char *directory, bool signals)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/locks-check", directory);
    for (enum kind kind = Posix; kind <= Flock; kind++)
    {
        check_handover(kind, path);
        if (kind != Flock) { check_ranges(kind, path); }
        if (signals) { check_signals(kind, path); }
    }
    check_owners(path);
    check_deadlock(path);
    unlink(path);
    printf("%d problems\n", problems);
    return problems == 0 ? 0 : 1;
}

static int count(enum kind kind, const char *path, int times)
{
    int fd = open_file(path);
    for (int i = 0; i < times; i++)
    {
        char text[32] = "";
        if (lock_all(kind, fd, F_WRLCK, true) != 0) { stop("lock"); }
        if (pread(fd, text, sizeof text - 1, 0) < 0) { stop("read"); }
        int length = snprintf(text, sizeof text, "%ld\n", atol(text) + 1);
        if (pwrite(fd, text, length, 0) != length) { stop("write"); }
        if (lock_all(kind, fd, F_UNLCK, false) != 0) { stop("unlock"); }
    }
    return 0;
}

int main(int argc, char **argv)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc >= 3 && strcmp(argv[1], "check") == 0) { return check(argv[2], argc > 3); }
    enum kind kind = Posix;
    while (argc >= 4 && kind <= Flock && strcmp(argv[2], kinds[kind]) != 0) { kind++; }
    if (argc < 4 || kind > Flock) { printf("usage: see locks.c\n"); return 2; }
    if (strcmp(argv[1], "count") == 0 && argc == 5) { return count(kind, argv[3], atoi(argv[4])); }
    int fd = open_file(argv[3]);
    if (strcmp(argv[1], "try") == 0)
    {
        puts(lock_all(kind, fd, F_WRLCK, false) == 0 ? "free" : "taken");
        return 0;
    }
    if (strcmp(argv[1], "wait") == 0)
    {
        puts("waits");
        if (lock_all(kind, fd, F_WRLCK, true) != 0) { stop("lock"); }
        puts("has it");
        return 0;
    }
    if (strcmp(argv[1], "hold") == 0 && argc == 5)
    {
        if (lock_all(kind, fd, F_WRLCK, true) != 0) { stop("lock"); }
        puts("holds");
        while (access(argv[4], F_OK) != 0) { pause_ms(50); }
        return 0;
    }
    printf("usage: see locks.c\n");
    return 2;
}
