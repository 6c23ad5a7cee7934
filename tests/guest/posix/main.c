/* posix-checks DIRECTORY [group...]: checks a file system's behaviour below DIRECTORY, as root.
 * Prints `ok NAME`, `FAIL NAME: why` or `skip NAME: why` per check and one RESULT line; exit status 1 on failures. */
#include "checks.h"
#include <grp.h>
#include <stdarg.h>
#include <sys/utsname.h>

struct counts { int passed, failed, skipped; };
static struct counts *counts; /* shared with the children that run the groups */
static const char *group_name;

void report(bool good, int error, const char *name)
{
    if (good) { counts->passed++; printf("ok %s/%s\n", group_name, name); }
    else { counts->failed++; printf("FAIL %s/%s: errno %d (%s)\n", group_name, name, error, strerror(error)); }
    fflush(stdout);
}

void report_failure_as(const char *name, long result, int error, int expected)
{
    if (result == -1 && error == expected) { report(true, 0, name); return; }
    counts->failed++;
    printf("FAIL %s/%s: expected %s, got ", group_name, name, strerrorname_np(expected));
    if (result == -1) { printf("%s\n", strerrorname_np(error)); } else { printf("success (%ld)\n", result); }
    fflush(stdout);
}

void skip(const char *name, const char *why)
{
    counts->skipped++;
    printf("skip %s/%s: %s\n", group_name, name, why);
}

static void must(bool good, const char *what)
{
    if (!good) { printf("posix-checks: %s: %s\n", what, strerror(errno)); exit(2); }
}

void become(uid_t user, gid_t group)
{
    must(setgroups(0, NULL) == 0 && setegid(group) == 0 && seteuid(user) == 0, "cannot become another user");
}

void become_root(void)
{
    must(seteuid(0) == 0 && setegid(0) == 0, "cannot become root again");
}

/* Longer than the coarsest clock a server may stamp files with (a 100 Hz tick). */
void tick(void) { usleep(15000); }

int make_file(const char *path, mode_t mode)
{
    int file = open(path, O_WRONLY | O_CREAT | O_EXCL, 0600);
    if (file < 0) { return -1; }
    int result = fchmod(file, mode);
    return close(file) == 0 ? result : -1;
}

int put(const char *path, const char *text)
{
    int file = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    if (file < 0) { return -1; }
    ssize_t wrote = write(file, text, strlen(text));
    return close(file) == 0 && wrote == (ssize_t)strlen(text) ? 0 : -1;
}

bool holds(const char *path, const char *text)
{
    int file = open(path, O_RDONLY);
    if (file < 0) { return false; }
    bool same = size_of(path) == (int64_t)strlen(text) && holds_at(file, 0, text, strlen(text));
    close(file);
    return same;
}

bool holds_at(int file, off_t offset, const void *bytes, size_t count)
{
    char *found = malloc(count + 1);
    size_t done = 0;
    while (done < count) {
        ssize_t got = pread(file, found + done, count - done, offset + (off_t)done);
        if (got <= 0) { break; }
        done += (size_t)got;
    }
    bool same = done == count && memcmp(found, bytes, count) == 0;
    free(found);
    return same;
}

bool zero_at(int file, off_t offset, size_t count)
{
    char *zeroes = calloc(1, count + 1);
    bool same = holds_at(file, offset, zeroes, count);
    free(zeroes);
    return same;
}

int close_all(int file) { return file < 0 ? file : (close(file), file); }

bool exists(const char *path) { struct stat found; return lstat(path, &found) == 0; }

struct stat stat_of(const char *path)
{
    struct stat found;
    int error = errno;
    if (lstat(path, &found) != 0) { memset(&found, 0xff, sizeof found); }
    errno = error;
    return found;
}

int64_t size_of(const char *path) { return stat_of(path).st_size; }
int mode_of(const char *path) { return (int)(stat_of(path).st_mode & 07777); }
int links_of(const char *path) { return (int)stat_of(path).st_nlink; }
ino_t inode_of(const char *path) { return stat_of(path).st_ino; }
static int64_t nanoseconds(struct timespec time) { return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec; }
int64_t ctime_of(const char *path) { return nanoseconds(stat_of(path).st_ctim); }
int64_t mtime_of(const char *path) { return nanoseconds(stat_of(path).st_mtim); }
int64_t atime_of(const char *path) { return nanoseconds(stat_of(path).st_atim); }

void fill(void *bytes, size_t count, unsigned seed)
{
    uint64_t state = seed * 2654435761u + 1;
    for (size_t i = 0; i < count; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        ((unsigned char *)bytes)[i] = (unsigned char)(state >> 56);
    }
}

char *repeat(char what, int count)
{
    char *text = malloc((size_t)count + 1);
    memset(text, what, (size_t)count);
    text[count] = 0;
    return text;
}

bool kernel_at_least(int major, int minor)
{
    struct utsname system;
    int have_major = 0, have_minor = 0;
    uname(&system);
    if (sscanf(system.release, "%d.%d", &have_major, &have_minor) != 2) { return false; }
    return have_major > major || (have_major == major && have_minor >= minor);
}

static const struct { const char *name; void (*run)(void); } groups[] = {
    { "open", opens }, { "directory", directories }, { "entries", many_entries }, { "name", names }, { "link", links },
    { "rename", renames }, { "node", nodes }, { "permission", permissions }, { "setid", set_id_bits }, { "acl", access_lists },
    { "data", data }, { "space", space }, { "mapping", mappings }, { "xattr", attributes }, { "time", times },
    { "lifetime", lifetimes }, { "lock", locks }, { "system", whole_system }, { "flags", inode_flags },
    { "stream", streams }, { "overlay", overlays },
};

static bool wanted(const char *name, char **first, int count)
{
    for (int i = 0; i < count; i++) { if (strcmp(first[i], name) == 0) { return true; } }
    return count == 0;
}

int main(int argc, char **argv)
{
    if (argc < 2 || geteuid() != 0) { fprintf(stderr, "usage (as root): posix-checks DIRECTORY [group...]\n"); return 2; }
    setvbuf(stdout, NULL, _IOLBF, 0);
    counts = mmap(NULL, sizeof *counts, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    char top[64];
    snprintf(top, sizeof top, "posix-checks.%d", getpid());
    must(chdir(argv[1]) == 0 && mkdir(top, 0755) == 0 && chdir(top) == 0, argv[1]);
    for (size_t i = 0; i < sizeof groups / sizeof *groups; i++) {
        if (!wanted(groups[i].name, argv + 2, argc - 2)) { continue; }
        struct timespec begin, end;
        clock_gettime(CLOCK_MONOTONIC, &begin);
        group_name = groups[i].name;
        must(mkdir(group_name, 0755) == 0, group_name);
        fflush(stdout);
        pid_t child = fork();
        if (child == 0) {
            must(chdir(group_name) == 0, group_name);
            umask(0);
            alarm(100); /* a hang ends the group, not the run */
            groups[i].run();
            exit(0);
        }
        int status = 0;
        waitpid(child, &status, 0);
        if (status != 0) {
            counts->failed++;
            printf("FAIL %s/ends: wait status %#x\n", group_name, status);
        }
        clock_gettime(CLOCK_MONOTONIC, &end);
        printf("# %s: %.1f s\n", group_name, (double)(nanoseconds(end) - nanoseconds(begin)) / 1e9);
    }
    printf("RESULT posix pass=%d fail=%d skip=%d\n", counts->passed, counts->failed, counts->skipped);
    return counts->failed != 0;
}
