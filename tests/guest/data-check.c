/* Does what was written survive? Data is derived from a seed and a number, so only those are remembered.
 *
 *   data-check write SEED DIRECTORY           makes a tree: files of many sizes, holes, links, renames, xattrs; syncs it
 *   data-check verify SEED DIRECTORY          checks that tree, every byte and name
 *   data-check until-killed SEED DIRECTORY    works for ever; prints `durable N` once step N has been fsynced
 *   data-check verify-until SEED DIRECTORY N  checks that the steps up to N are all there
 *
 * Exit status 0 when all is well; what is not is printed. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

static int problems;
static uint64_t seed;

static void problem(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    printf("BAD ");
    vprintf(format, arguments);
    printf("\n");
    va_end(arguments);
    problems++;
}

static void stop(const char *what, const char *path)
{
    printf("STOP %s %s: %s\n", what, path, strerror(errno));
    exit(2);
}

/* splitmix64: any number can be asked for without those before it. */
static uint64_t noise(uint64_t number, uint64_t index)
{
    uint64_t mixed = (seed * 1000003 + number) * 0x9e3779b97f4a7c15u + index * 0xbf58476d1ce4e5b9u;
    mixed = (mixed ^ (mixed >> 30)) * 0xbf58476d1ce4e5b9u;
    mixed = (mixed ^ (mixed >> 27)) * 0x94d049bb133111ebu;
    return mixed ^ (mixed >> 31);
}

static void fill(void *bytes, size_t count, uint64_t number)
{
    unsigned char *at = bytes;
    for (size_t i = 0; i < count; i += 8) {
        uint64_t word = noise(number, i + 1);
        memcpy(at + i, &word, count - i < 8 ? count - i : 8);
    }
}

static size_t size_of(uint64_t number)
{
    static const size_t sizes[] = { 0, 1, 100, 2000, 4095, 4096, 4097, 20000, 65536, 65537, 200001, 1048577 };
    return sizes[noise(number, 0) % (sizeof sizes / sizeof *sizes)];
}

static void write_all(int file, const char *bytes, size_t count, off_t offset, const char *path)
{
    for (size_t done = 0; done < count;) {
        ssize_t wrote = pwrite(file, bytes + done, count - done, offset + (off_t)done);
        if (wrote <= 0) { stop("write", path); }
        done += (size_t)wrote;
    }
}

static void put(const char *path, uint64_t number, off_t offset, bool durable)
{
    static char bytes[1 << 21];
    size_t size = size_of(number);
    int file = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    if (file < 0) { stop("open", path); }
    fill(bytes, size, number);
    write_all(file, bytes, size, offset, path);
    if (durable && fsync(file) != 0) { stop("fsync", path); }
    if (close(file) != 0) { stop("close", path); }
}

static bool right(const char *path, uint64_t number, off_t offset)
{
    static char expected[1 << 21], found[1 << 21];
    struct stat what;
    size_t size = size_of(number), done = 0;
    off_t whole = size == 0 ? 0 : (off_t)size + offset;
    if (lstat(path, &what) != 0) { problem("%s is missing: %s", path, strerror(errno)); return false; }
    if (what.st_size != whole) { problem("%s has %lld bytes instead of %lld", path, (long long)what.st_size, (long long)whole); return false; }
    int file = open(path, O_RDONLY);
    if (file < 0) { problem("%s does not open: %s", path, strerror(errno)); return false; }
    while (done < size) {
        ssize_t got = pread(file, found + done, size - done, offset + (off_t)done);
        if (got <= 0) { problem("%s does not read at %zu: %s", path, done, got == 0 ? "end" : strerror(errno)); close(file); return false; }
        done += (size_t)got;
    }
    fill(expected, size, number);
    for (size_t i = 0; i < size; i++) {
        if (expected[i] != found[i]) { problem("%s differs from byte %zu on", path, i + (size_t)offset); close(file); return false; }
    }
    memset(expected, 0, sizeof expected);
    if (size > 0 && offset > 0) {
        size_t hole = (size_t)offset < sizeof found ? (size_t)offset : sizeof found;
        if (pread(file, found, hole, 0) != (ssize_t)hole || memcmp(found, expected, hole) != 0) { problem("%s: its hole is not zero", path); }
    }
    close(file);
    return true;
}

static void sync_directory(const char *path)
{
    int directory = open(path, O_RDONLY | O_DIRECTORY);
    if (directory < 0 || fsync(directory) != 0) { stop("fsync", path); }
    close(directory);
}

enum { Directories = 8, Files = 40 };

static off_t offset_of(uint64_t number) { return number % 5 == 3 ? 100000 + (off_t)(number * 777) : 0; }

static void write_tree(void)
{
    char path[64], other[64];
    for (uint64_t d = 0; d < Directories; d++) {
        snprintf(path, sizeof path, "dir%d", (int)d);
        if (mkdir(path, 0755) != 0) { stop("mkdir", path); }
        for (uint64_t i = 0; i < Files; i++) {
            uint64_t number = d * Files + i;
            snprintf(path, sizeof path, "dir%d/%s%d", (int)d, i % 4 == 1 ? "tmp" : "file", (int)i);
            put(path, number, offset_of(number), i % 3 == 0);
            snprintf(other, sizeof other, "dir%d/%s%d", (int)d, i % 4 == 1 ? "file" : "link", (int)i);
            if (i % 4 == 1 && rename(path, other) != 0) { stop("rename", path); }
            if (i % 4 == 2 && link(path, other) != 0) { stop("link", path); }
            if (i % 4 == 3 && symlink(path, other) != 0) { stop("symlink", path); }
            if (i % 4 == 0 && setxattr(path, "user.number", &number, sizeof number, 0) != 0 && errno != EOPNOTSUPP) { stop("setxattr", path); }
            snprintf(other, sizeof other, "dir%d/gone%d", (int)d, (int)i);
            if (i % 10 == 0) { put(other, number, 0, false); unlink(other); }
        }
    }
    sync();
}

static void verify_tree(void)
{
    char path[64], other[64], target[64];
    for (uint64_t d = 0; d < Directories; d++) {
        int expected = 0, found = 0;
        for (uint64_t i = 0; i < Files; i++) {
            uint64_t number = d * Files + i, kept = 0;
            struct stat one, two;
            snprintf(path, sizeof path, "dir%d/file%d", (int)d, (int)i);
            snprintf(other, sizeof other, "dir%d/link%d", (int)d, (int)i);
            expected += i % 4 == 2 || i % 4 == 3 ? 2 : 1;
            right(path, number, offset_of(number));
            if (i % 4 == 2 && (stat(path, &one) != 0 || stat(other, &two) != 0 || one.st_ino != two.st_ino || one.st_nlink != 2)) { problem("%s is not linked to %s", other, path); }
            if (i % 4 == 3) {
                ssize_t length = readlink(other, target, sizeof target - 1);
                if (length < 0 || (size_t)length != strlen(path) || memcmp(target, path, (size_t)length) != 0) { problem("%s does not point to %s", other, path); }
            }
            if (i % 4 == 0 && getxattr(path, "user.number", &kept, sizeof kept) == sizeof kept && kept != number) { problem("%s has a wrong xattr", path); }
        }
        snprintf(path, sizeof path, "dir%d", (int)d);
        DIR *stream = opendir(path);
        struct dirent *entry;
        while (stream != NULL && (entry = readdir(stream)) != NULL) { found += entry->d_name[0] != '.'; }
        if (stream != NULL) { closedir(stream); }
        if (found != expected) { problem("%s has %d entries instead of %d", path, found, expected); }
    }
}

/* One step: a new file, made durable in one of several ways; every fourth also replaces a file of fixed name. */
static void step(uint64_t number)
{
    char path[64], other[64];
    snprintf(path, sizeof path, "steps/%d/s%d", (int)(number % 4), (int)number);
    snprintf(other, sizeof other, "steps/%d/new%d", (int)(number % 4), (int)number);
    if (number % 4 == 2) { /* the way of editors and databases: write aside, fsync, rename, fsync the directory */
        put(other, number, 0, true);
        if (rename(other, path) != 0) { stop("rename", path); }
    }
    else { put(path, number, 0, true); }
    if (number % 4 == 3 && truncate("steps/counter", (off_t)number) != 0) { stop("truncate", "steps/counter"); }
    snprintf(other, sizeof other, "steps/%d", (int)(number % 4));
    sync_directory(other);
    if (number % 4 == 3) {
        int counter = open("steps/counter", O_RDWR);
        if (counter < 0 || fsync(counter) != 0) { stop("fsync", "steps/counter"); }
        close(counter);
    }
}

static void until_killed(void)
{
    char path[64];
    if (mkdir("steps", 0755) != 0) { stop("mkdir", "steps"); }
    for (int i = 0; i < 4; i++) {
        snprintf(path, sizeof path, "steps/%d", i);
        if (mkdir(path, 0755) != 0) { stop("mkdir", path); }
    }
    close(open("steps/counter", O_WRONLY | O_CREAT, 0644));
    sync_directory("steps");
    sync_directory(".");
    for (uint64_t number = 0;; number++) {
        step(number);
        printf("durable %d\n", (int)number);
        fflush(stdout);
    }
}

static void verify_until(uint64_t last)
{
    char path[64];
    struct stat counter;
    for (uint64_t number = 0; number <= last; number++) {
        snprintf(path, sizeof path, "steps/%d/s%d", (int)(number % 4), (int)number);
        right(path, number, 0);
    }
    uint64_t counted = last - (last + 1) % 4; /* the last number of the form 4k+3 */
    if (last >= 3 && (stat("steps/counter", &counter) != 0 || counter.st_size < (off_t)counted)) { problem("steps/counter is behind"); }
}

int main(int argc, char **argv)
{
    if (argc < 4) { fprintf(stderr, "usage: data-check write|verify|until-killed|verify-until SEED DIRECTORY [N]\n"); return 2; }
    seed = strtoull(argv[2], NULL, 10);
    if (chdir(argv[3]) != 0) { stop("chdir", argv[3]); }
    if (strcmp(argv[1], "write") == 0) { write_tree(); }
    else if (strcmp(argv[1], "verify") == 0) { verify_tree(); }
    else if (strcmp(argv[1], "until-killed") == 0) { until_killed(); }
    else if (strcmp(argv[1], "verify-until") == 0 && argc > 4) { verify_until(strtoull(argv[4], NULL, 10)); }
    else { fprintf(stderr, "data-check: unknown command '%s'\n", argv[1]); return 2; }
    printf("RESULT data problems=%d\n", problems);
    return problems != 0;
}
