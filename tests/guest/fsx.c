/* fsx cached|direct|mapped|remount SEED OPERATIONS FILE: random operations on one file, compared with a copy of it in memory.
 *
 * After every read, and of the whole file every few thousand operations, each byte must be the copy's. With `remount`, `remount` is printed eight
 * times, with the file closed, and a line on stdin waited for. Exit status 0 when all is well; else the last operations are printed. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MaxBytes = 256 << 10, MaxOperation = 64 << 10, History = 40, CheckEvery = 2500, Remounts = 8, Weights = 13 };
enum what { Read, Write, MapRead, MapWrite, Truncate, Punch, Zero, Copy, Append, Allocate, Reopen, Sync, SyncData };

static const char *const names[] = { "read", "write", "mapread", "mapwrite", "truncate", "punch", "zero", "copy", "append", "allocate", "reopen", "fsync", "fdatasync" };

/* How often each happens; the order is that of `what`. */
static const struct mode { const char *name; int direct_percent; unsigned char weights[Weights]; } modes[] = {
    { "cached", 0, { 30, 25, 4, 4, 5, 5, 4, 4, 6, 3, 3, 1, 1 } },
    { "direct", 80, { 30, 30, 2, 2, 4, 4, 4, 4, 6, 3, 3, 1, 1 } },
    { "mapped", 0, { 8, 8, 30, 25, 5, 5, 4, 4, 3, 3, 3, 1, 1 } },
    { "remount", 20, { 25, 25, 6, 6, 6, 6, 5, 5, 6, 3, 3, 1, 1 } },
};

static const struct mode *mode;
static const char *path;
static uint64_t state;
static unsigned char *good, *bytes; /* the copy, and a page-aligned buffer */
static uint32_t size;
static int cached = -1, direct = -1;
static long operation;
static uint32_t direct_alignment; /* what O_DIRECT asks for here */
static struct { enum what what; bool is_direct; uint32_t offset, length, extra, size; } history[History];

static uint64_t draw(uint64_t below)
{
    state += 0x9e3779b97f4a7c15u;
    uint64_t x = state;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return (x ^ (x >> 31)) % below;
}

static void fail(const char *format, ...)
{
    va_list arguments;
    int error = errno;
    va_start(arguments, format);
    printf("BAD operation %ld: ", operation);
    vprintf(format, arguments);
    printf(" (errno %s); the last operations:\n", strerrorname_np(error));
    va_end(arguments);
    for (long i = operation >= History ? operation - History + 1 : 0; i <= operation; i++) {
        __typeof__(history[0]) *h = &history[i % History];
        printf("%8ld %s%s %#x+%#x %#x of %#x\n", i, names[h->what], h->is_direct ? " direct" : "", h->offset, h->length, h->extra, h->size);
    }
    exit(1);
}

static void compare(const unsigned char *got, uint32_t offset, uint32_t length)
{
    if (memcmp(got, good + offset, length) == 0) { return; }
    uint32_t first = 0, last = length - 1;
    while (got[first] == good[offset + first]) { first++; }
    while (got[last] == good[offset + last]) { last--; }
    fail("bytes %#x to %#x differ, at the first %#x instead of %#x", offset + first, offset + last, got[first], good[offset + first]);
}

static void open_file(void)
{
    cached = open(path, O_RDWR | O_CREAT, 0600);
    direct = open(path, O_RDWR | O_DIRECT);
    if (cached < 0 || direct < 0) { fail("open"); }
}

static void close_file(void)
{
    if (close(cached) != 0 || close(direct) != 0) { fail("close"); }
}

static void check_all(void)
{
    struct stat found;
    if (fstat(cached, &found) != 0 || found.st_size != size) { fail("the size is %#llx instead of %#x", (long long)found.st_size, size); }
    for (uint32_t done = 0; done < size;) {
        ssize_t got = pread(cached, bytes, MaxBytes, done);
        if (got <= 0) { fail("reading everything ended at %#x", done); }
        compare(bytes, done, (uint32_t)got);
        done += (uint32_t)got;
    }
}

static void grow(uint32_t to)
{
    if (to > size) { size = to; } /* beyond the end the copy is zero, always */
}

static void shrink(uint32_t to)
{
    memset(good + to, 0, size - to);
    size = to;
}

static void random_bytes(unsigned char *target, uint32_t length)
{
    uint64_t word = draw(UINT64_MAX) | 1;
    for (uint32_t i = 0; i < length; i++) { target[i] = (unsigned char)(word = word * 6364136223846793005u + 1442695040888963407u, word >> 56); }
}

static void write_at(int file, uint32_t offset, uint32_t length)
{
    random_bytes(bytes, length);
    for (uint32_t done = 0; done < length;) {
        ssize_t wrote = pwrite(file, bytes + done, length - done, offset + done);
        if (wrote <= 0) { fail("write"); }
        done += (uint32_t)wrote;
    }
    memcpy(good + offset, bytes, length);
    grow(offset + length);
}

static void map(uint32_t offset, uint32_t length, bool writes)
{
    uint32_t start = offset & ~4095u;
    unsigned char *mapped = mmap(NULL, offset - start + length, writes ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED, cached, start);
    if (mapped == MAP_FAILED) { fail("mmap"); }
    if (writes) {
        random_bytes(good + offset, length);
        memcpy(mapped + (offset - start), good + offset, length);
        if (draw(8) == 0 && msync(mapped, offset - start + length, MS_SYNC) != 0) { fail("msync"); }
    }
    else { compare(mapped + (offset - start), offset, length); }
    if (munmap(mapped, offset - start + length) != 0) { fail("munmap"); }
}

static enum what choose(void)
{
    int sum = 0, drawn;
    for (int i = 0; i < Weights; i++) { sum += mode->weights[i]; }
    drawn = (int)draw((uint64_t)sum);
    for (int i = 0;; i++) { if ((drawn -= mode->weights[i]) < 0) { return (enum what)i; } }
}

static void step(void)
{
    enum what what = choose();
    bool is_direct = (int)draw(100) < mode->direct_percent;
    int file = is_direct ? direct : cached;
    /* Small ones find edges, large ones cross blocks and extents. */
    uint32_t length = 1 + (uint32_t)draw(draw(8) ? 6000 : MaxOperation), offset = (uint32_t)draw(MaxBytes), extra = (uint32_t)draw(MaxBytes);
    if (draw(3) == 0) { offset &= ~4095u; length = (length + 4095) & ~4095u; }
    bool inside = what == Read || what == MapRead || what == MapWrite || what == Copy;
    if (inside) {
        if (size == 0) { return; }
        offset %= size;
    }
    if (what == Append) { offset = size; }
    uint32_t limit = inside ? size : MaxBytes;
    if (is_direct && (what == Read || what == Write || what == Append)) {
        offset -= offset % direct_alignment;
        length += direct_alignment - 1 - (length - 1) % direct_alignment;
    }
    if (offset + length > limit) { length = limit - offset; }
    history[operation % History] = (__typeof__(history[0])){ what, is_direct, offset, length, extra, size };
    if (length == 0) { return; }
    switch (what) {
    case Read:
        for (uint32_t done = 0; done < length;) {
            /* Asked for up to the alignment beyond the end, where there is nothing. */
            uint32_t left = is_direct ? length - done + direct_alignment - 1 - (length - done - 1) % direct_alignment : length - done;
            ssize_t got = pread(file, bytes + done, left, offset + done);
            if (got <= 0 || got > length - done) { fail("read of %u at %#x gave %zd", left, offset + done, got); }
            done += (uint32_t)got;
        }
        compare(bytes, offset, length);
        break;
    case Write: case Append: write_at(file, offset, length); break;
    case MapRead: case MapWrite: map(offset, length, what == MapWrite); break;
    case Truncate:
        if (ftruncate(cached, offset) != 0) { fail("truncate"); }
        if (offset < size) { shrink(offset); } else { size = offset; }
        break;
    case Punch: case Zero:
        if (fallocate(cached, (what == Punch ? FALLOC_FL_PUNCH_HOLE : FALLOC_FL_ZERO_RANGE) | (what == Punch || extra % 2 ? FALLOC_FL_KEEP_SIZE : 0), offset, length) != 0) { fail("fallocate"); }
        memset(good + offset, 0, length);
        if (what == Zero && extra % 2 == 0) { grow(offset + length); }
        break;
    case Allocate:
        if (fallocate(cached, extra % 2 ? FALLOC_FL_KEEP_SIZE : 0, offset, length) != 0) { fail("fallocate"); }
        if (extra % 2 == 0) { grow(offset + length); }
        break;
    case Copy: {
        if (extra + length > MaxBytes) { extra = MaxBytes - length; }
        if (extra < offset + length && offset < extra + length) { return; } /* must not overlap */
        loff_t from = offset, to = extra;
        for (uint32_t done = 0; done < length;) {
            ssize_t copied = copy_file_range(cached, &from, cached, &to, length - done, 0);
            if (copied <= 0) { fail("copy_file_range"); }
            done += (uint32_t)copied;
        }
        memcpy(good + extra, good + offset, length);
        grow(extra + length);
        break;
    }
    case Reopen:
        close_file();
        open_file();
        break;
    case Sync: if (fsync(file) != 0) { fail("fsync"); } break;
    case SyncData: if (fdatasync(file) != 0) { fail("fdatasync"); } break;
    }
}

int main(int argc, char **argv)
{
    char line[64];
    if (argc == 5) {
        for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) { if (strcmp(modes[i].name, argv[1]) == 0) { mode = &modes[i]; } }
    }
    if (mode == NULL) { fprintf(stderr, "usage: fsx cached|direct|mapped|remount SEED OPERATIONS FILE\n"); return 2; }
    setvbuf(stdout, NULL, _IOLBF, 0);
    state = strtoull(argv[2], NULL, 10) * 4 + (uint64_t)(mode - modes);
    long operations = atol(argv[3]), every = strcmp(mode->name, "remount") == 0 ? operations / (Remounts + 1) + 1 : operations + 1;
    path = argv[4];
    good = calloc(1, MaxBytes + 8);
    bytes = aligned_alloc(4096, MaxBytes + 4096);
    unlink(path);
    open_file();
    for (direct_alignment = 1; pwrite(direct, bytes, direct_alignment, direct_alignment) < 0; direct_alignment *= 2) {
        if (errno != EINVAL || direct_alignment > 4096) { fail("no O_DIRECT"); }
    }
    if (ftruncate(direct, 0) != 0) { fail("truncate"); }
    for (operation = 0; operation < operations; operation++) {
        step();
        if (operation % CheckEvery == CheckEvery - 1) { check_all(); }
        if (operation % every != every - 1) { continue; }
        close_file();
        printf("remount\n");
        if (fgets(line, sizeof line, stdin) == NULL) { fail("nobody answers"); }
        open_file();
        check_all();
    }
    operation--;
    check_all();
    close_file();
    printf("RESULT fsx %s operations=%ld\n", mode->name, operations);
    return 0;
}
