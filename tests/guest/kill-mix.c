/* kill-mix SEED DIRECTORY: eight threads of file operations that remember what was acknowledged, and since when it is synced.
 *
 * Takes commands on stdin:
 *   run       works until the file system dies under it; prints `working`, and at the end `stopped OPERATIONS`
 *   process   the file system is back after the death of its process: everything acknowledged must be there
 *   power     it is back after a power cut: every thread's files must be as they were at one moment at or after its last sync
 * The last two print what is wrong as BAD lines, and `problems N`; then work goes on from what is there.
 * An operation that was under way at the end may have happened or not, but not in part; a write() is two operations to a FUSE
 * file system when it begins inside a page. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

enum { Threads = 8, Slots = 12, SharedFrom = 8, MaxBytes = 128 << 10, MaxWrite = 48 << 10, MaxLog = 4096 };
enum kind { Absent, File, Symlink, Directory };
enum what { Create, Write, Append, Truncate, Punch, Unlink, Rmdir, Mkdir, Makelink, Link, Rename, Exchange, Setxattr, Chmod, Sync, SyncData, SyncDirectory };

struct file { int links; uint32_t size, mode; uint64_t xattr; unsigned char *data; };
struct slot { enum kind kind; int file; uint64_t number; };
struct model { struct slot slots[Slots]; struct file files[Slots]; };
struct op { enum what what; int a, b; uint32_t offset, length, skip; uint64_t number; }; /* skip: what is written begins so far into the number's bytes */
struct worker {
    int index;
    pthread_t thread;
    uint64_t random;
    struct model now, synced;
    struct op log[MaxLog]; /* from synced to now, and perhaps one more that was under way */
    int logged;
    int uncertain; /* so many at the end of the log were under way */
    long operations;
};

static const char *top;
static uint64_t seed;
static int problems;
static struct worker workers[Threads];

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

static uint64_t mix(uint64_t x)
{
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

static uint64_t draw(struct worker *w, uint64_t below)
{
    w->random += 0x9e3779b97f4a7c15u;
    return mix(w->random) % below;
}

static void fill(unsigned char *bytes, size_t count, uint64_t number)
{
    for (size_t i = 0; i < count; i += 8) {
        uint64_t word = mix(number + i);
        memcpy(bytes + i, &word, count - i < 8 ? count - i : 8);
    }
}

static void path_of(const struct worker *w, int slot, char *path)
{
    if (slot < SharedFrom) { sprintf(path, "%s/t%d/s%d", top, w->index, slot); } else { sprintf(path, "%s/shared/t%d-s%d", top, w->index, slot); }
}

/* ---- the model ---- */

static struct file *file_at(struct model *m, int slot) { return &m->files[m->slots[slot].file]; }

static int free_file(struct model *m)
{
    for (int i = 0; i < Slots; i++) { if (m->files[i].links == 0) { return i; } }
    abort();
}

static void drop(struct model *m, int slot)
{
    if (m->slots[slot].kind == File) { file_at(m, slot)->links--; }
    m->slots[slot].kind = Absent;
}

static void set_size(struct file *f, uint32_t size)
{
    if (size > f->size) { memset(f->data + f->size, 0, size - f->size); }
    f->size = size;
}

static void apply(struct model *m, const struct op *op)
{
    static _Thread_local unsigned char scratch[MaxWrite + 8];
    struct slot *a = &m->slots[op->a], *b = &m->slots[op->b], kept;
    struct file *f = a->kind == File ? file_at(m, op->a) : NULL;
    switch (op->what) {
    case Create:
        *a = (struct slot){ File, free_file(m), 0 };
        f = file_at(m, op->a);
        f->links = 1; f->size = 0; f->mode = 0600; f->xattr = 0;
        break;
    case Write: case Append:
        if (op->offset + op->length > f->size) { set_size(f, op->offset + op->length); }
        fill(scratch, op->skip + op->length, op->number);
        memcpy(f->data + op->offset, scratch + op->skip, op->length);
        break;
    case Truncate: set_size(f, op->length); break;
    case Punch:
        if (op->offset < f->size) { memset(f->data + op->offset, 0, op->offset + op->length < f->size ? op->length : f->size - op->offset); }
        break;
    case Unlink: case Rmdir: drop(m, op->a); break;
    case Mkdir: *a = (struct slot){ Directory, 0, 0 }; break;
    case Makelink: *a = (struct slot){ Symlink, 0, op->number }; break;
    case Link: *b = *a; f->links++; break;
    case Rename: drop(m, op->b); *b = *a; a->kind = Absent; break;
    case Exchange: kept = *a; *a = *b; *b = kept; break;
    case Setxattr: f->xattr = op->number; break;
    case Chmod: f->mode = op->length; break;
    case Sync: case SyncData: case SyncDirectory: break;
    }
}

/* ---- the real thing ---- */

/* A write returns how much was written, everything else 0; -1 as usual. */
static int with_file(const char *path, const struct op *op)
{
    static _Thread_local unsigned char bytes[MaxWrite + 8];
    int result = -1, file = open(path, op->what == Sync || op->what == SyncData ? O_RDONLY : O_WRONLY);
    if (file < 0) { return -1; }
    if (op->what == Sync) { result = fsync(file); }
    else if (op->what == SyncData) { result = fdatasync(file); }
    else if (op->what == Punch) { result = fallocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, op->offset, op->length); }
    else {
        fill(bytes, op->length, op->number);
        result = (int)pwrite(file, bytes, op->length, op->offset);
    }
    int error = errno;
    close(file); /* the death of the file system shows at the next operation */
    errno = error;
    return result;
}

static int perform(const struct worker *w, const struct op *op)
{
    char path[256], other[256], target[32];
    path_of(w, op->a, path);
    path_of(w, op->b, other);
    int file, result;
    switch (op->what) {
    case Create: file = open(path, O_CREAT | O_EXCL | O_WRONLY, 0600); if (file >= 0) { close(file); } return file < 0 ? -1 : 0;
    case Truncate: return truncate(path, op->length);
    case Unlink: return unlink(path);
    case Rmdir: return rmdir(path);
    case Mkdir: return mkdir(path, 0700);
    case Makelink: sprintf(target, "%llx", (unsigned long long)op->number); return symlink(target, path);
    case Link: return link(path, other);
    case Rename: return rename(path, other);
    case Exchange: return renameat2(AT_FDCWD, path, AT_FDCWD, other, RENAME_EXCHANGE);
    case Setxattr: return setxattr(path, "user.number", &op->number, sizeof op->number, 0);
    case Chmod: return chmod(path, op->length);
    case SyncDirectory:
        sprintf(path, op->a < SharedFrom ? "%s/t%d" : "%s/shared", top, w->index);
        file = open(path, O_RDONLY | O_DIRECTORY);
        if (file < 0) { return -1; }
        result = fsync(file);
        int error = errno;
        close(file);
        errno = error;
        return result;
    default: return with_file(path, op);
    }
}

static bool choose(struct worker *w, struct op *op)
{
    static const unsigned char often[] = { Create, Create, Write, Write, Write, Append, Append, Truncate, Punch, Unlink, Rmdir, Mkdir, Makelink, Link, Rename, Rename, Exchange, Setxattr, Chmod,
        Create, Write, Append, Unlink, Rename };
    uint64_t kind = draw(w, 20);
    op->what = kind == 0 ? Sync : kind == 1 ? (draw(w, 2) ? SyncData : SyncDirectory) : often[draw(w, sizeof often)];
    op->a = (int)draw(w, Slots);
    op->b = (int)draw(w, Slots);
    op->number = mix(seed * 1000 + (uint64_t)w->index) + (uint64_t)w->operations * (MaxBytes * 2);
    op->offset = op->length = op->skip = 0;
    struct slot *a = &w->now.slots[op->a], *b = &w->now.slots[op->b];
    struct file *f = a->kind == File ? file_at(&w->now, op->a) : NULL;
    bool same = op->a == op->b || (f != NULL && b->kind == File && a->file == b->file);
    switch (op->what) {
    case Create: case Mkdir: case Makelink: return a->kind == Absent;
    case Unlink: return a->kind == File || a->kind == Symlink;
    case Rmdir: return a->kind == Directory;
    case Link: return f != NULL && b->kind == Absent;
    case Rename: return !same && a->kind != Absent && (b->kind == Absent || (a->kind == Directory) == (b->kind == Directory));
    case Exchange: return !same && a->kind != Absent && b->kind != Absent;
    case SyncDirectory: return true;
    case Chmod: op->length = (uint32_t)(0600 + draw(w, 0200)); return f != NULL;
    default: break;
    }
    if (f == NULL) { return false; }
    op->length = (uint32_t)(1 + draw(w, draw(w, 4) ? 4096 : MaxWrite));
    op->offset = (uint32_t)draw(w, f->size + 5000);
    if (op->what == Append) { op->offset = f->size; }
    if (op->what == Truncate) { op->length = (uint32_t)draw(w, f->size * 2 + 100); op->offset = 0; }
    return op->offset + op->length <= MaxBytes;
}

static void advance(struct worker *w)
{
    for (int i = 0; i < w->logged; i++) { apply(&w->synced, &w->log[i]); }
    w->logged = 0;
}

/* The operation as the file system sees it; returns how many. */
static int split(const struct op *op, struct op parts[2])
{
    uint32_t first = 4096 - op->offset % 4096;
    parts[0] = parts[1] = *op;
    if ((op->what != Write && op->what != Append) || first == 4096 || first >= op->length) { return 1; }
    parts[0].length = first;
    parts[1].offset += first;
    parts[1].length -= first;
    parts[1].skip = first;
    return 2;
}

static void *work(void *argument)
{
    struct worker *w = argument;
    struct op op, parts[2];
    for (;;) {
        while (!choose(w, &op)) { }
        if (w->logged >= MaxLog - 2) { op = (struct op){ .what = SyncDirectory }; }
        w->operations++;
        int done = perform(w, &op), count = split(&op, parts);
        bool is_sync = op.what == Sync || op.what == SyncData || op.what == SyncDirectory;
        if (done < 0 && errno != ENOTCONN && errno != ECONNABORTED && errno != EIO && errno != ENODEV) {
            problem("thread %d, operation %d on %d and %d: %s", w->index, op.what, op.a, op.b, strerror(errno));
        }
        if (is_sync) {
            if (done < 0) { return NULL; }
            advance(w);
            continue;
        }
        int acknowledged = done < 0 ? 0 : done == 0 || done == (int)op.length ? count : 1;
        if (done > 0 && acknowledged == 1 && done != (int)parts[0].length) { problem("thread %d: a write of %u bytes at %u returned %d", w->index, op.length, op.offset, done); }
        for (int i = 0; i < count; i++) {
            w->log[w->logged++] = parts[i];
            if (i < acknowledged) { apply(&w->now, &parts[i]); } else { w->uncertain++; }
        }
        if (acknowledged < count) { return NULL; }
    }
}

/* ---- verification ---- */

static struct model found;
static ino_t found_inode[Slots];

static void look(const struct worker *w)
{
    char path[256], target[64];
    for (int i = 0; i < Slots; i++) {
        struct stat what;
        struct file *f = &found.files[i];
        path_of(w, i, path);
        found.slots[i] = (struct slot){ Absent, i, 0 };
        f->links = 0;
        if (lstat(path, &what) != 0) {
            if (errno != ENOENT) { problem("%s: %s", path, strerror(errno)); }
            continue;
        }
        found_inode[i] = what.st_ino;
        if (S_ISDIR(what.st_mode)) { found.slots[i].kind = Directory; continue; }
        if (S_ISLNK(what.st_mode)) {
            ssize_t length = readlink(path, target, sizeof target - 1);
            target[length < 0 ? 0 : length] = 0;
            found.slots[i] = (struct slot){ Symlink, i, strtoull(target, NULL, 16) };
            continue;
        }
        found.slots[i].kind = File;
        f->links = (int)what.st_nlink;
        f->mode = what.st_mode & 07777;
        f->size = (uint32_t)what.st_size;
        f->xattr = 0;
        if (what.st_size > MaxBytes) { problem("%s has %lld bytes", path, (long long)what.st_size); f->size = 0; continue; }
        if (getxattr(path, "user.number", &f->xattr, sizeof f->xattr) < 0 && errno != ENODATA) { problem("%s: xattr: %s", path, strerror(errno)); }
        int file = open(path, O_RDONLY);
        size_t done = 0;
        while (file >= 0 && done < f->size) {
            ssize_t got = pread(file, f->data + done, f->size - done, (off_t)done);
            if (got <= 0) { break; }
            done += (size_t)got;
        }
        if (done != f->size || file < 0) { problem("%s does not read at %zu of %u: %s", path, done, f->size, strerror(errno)); }
        if (file >= 0) { close(file); }
    }
}

/* NULL, or what differs. */
static const char *difference(struct model *m)
{
    static char text[200];
    for (int i = 0; i < Slots; i++) {
        struct slot *s = &m->slots[i], *is = &found.slots[i];
        if (s->kind != is->kind) { sprintf(text, "slot %d is of kind %d instead of %d", i, is->kind, s->kind); return text; }
        if (s->kind == Symlink && s->number != is->number) { sprintf(text, "symlink %d points elsewhere", i); return text; }
        if (s->kind != File) { continue; }
        struct file *f = file_at(m, i), *has = &found.files[i];
        if (f->links != has->links || f->size != has->size || f->mode != has->mode || f->xattr != has->xattr) {
            sprintf(text, "file %d: links %d size %u mode %o xattr %llx instead of %d %u %o %llx", i, has->links, has->size, has->mode, (unsigned long long)has->xattr,
                f->links, f->size, f->mode, (unsigned long long)f->xattr);
            return text;
        }
        for (uint32_t at = 0; at < f->size; at++) {
            if (f->data[at] != has->data[at]) { sprintf(text, "file %d of %u bytes differs from byte %u on", i, f->size, at); return text; }
        }
        for (int j = 0; j < i; j++) {
            if (m->slots[j].kind == File && (m->slots[j].file == s->file) != (found_inode[i] == found_inode[j])) { sprintf(text, "files %d and %d: links", i, j); return text; }
        }
    }
    return NULL;
}

static void adopt(struct model *target, const struct model *source)
{
    memcpy(target->slots, source->slots, sizeof target->slots);
    for (int i = 0; i < Slots; i++) {
        unsigned char *data = target->files[i].data;
        target->files[i] = source->files[i];
        target->files[i].data = data;
        if (source->files[i].links > 0) { memcpy(data, source->files[i].data, source->files[i].size); }
    }
}

static void verify(struct worker *w, bool power)
{
    static const char *const names[] = { "create", "write", "append", "truncate", "punch", "unlink", "rmdir", "mkdir", "symlink", "link", "rename", "exchange", "setxattr", "chmod" };
    look(w);
    int uncertain = w->uncertain;
    if (!power) { /* everything acknowledged is the least that must be there */
        int acknowledged = w->logged - uncertain;
        w->logged = acknowledged;
        advance(w);
        memmove(w->log, w->log + acknowledged, (size_t)uncertain * sizeof *w->log);
        w->logged = uncertain;
    }
    char first[200];
    int next = 0;
    const char *differs;
    while ((differs = difference(&w->synced)) != NULL) {
        if (next == 0) { snprintf(first, sizeof first, "%s", differs); }
        if (next == w->logged) { break; }
        apply(&w->synced, &w->log[next++]);
    }
    if (differs != NULL) {
        problem("thread %d: no moment of the %d operations since the last promise; at the promise %s, at the end %s; operations:", w->index, w->logged, first, differs);
        for (int i = 0; i < w->logged; i++) {
            struct op *op = &w->log[i];
            printf("    %s %d %d %u+%u%s\n", names[op->what], op->a, op->b, op->offset, op->length, i >= w->logged - uncertain ? " (under way)" : "");
        }
    }
    w->logged = 0;
    w->uncertain = 0;
    adopt(&w->now, &w->synced);
}

static void verify_names(const char *directory, int expected)
{
    DIR *stream = opendir(directory);
    struct dirent *entry;
    int names = 0;
    if (stream == NULL) { problem("%s: %s", directory, strerror(errno)); return; }
    while ((entry = readdir(stream)) != NULL) { names += entry->d_name[0] != '.'; }
    closedir(stream);
    if (names != expected) { problem("%s lists %d names instead of %d", directory, names, expected); }
}

static void verify_all(bool power)
{
    char path[256];
    int shared = 0;
    problems = 0;
    for (int t = 0; t < Threads; t++) {
        int own = 0;
        verify(&workers[t], power);
        for (int i = 0; i < Slots; i++) { *(i < SharedFrom ? &own : &shared) += workers[t].now.slots[i].kind != Absent; }
        sprintf(path, "%s/t%d", top, t);
        verify_names(path, own);
    }
    sprintf(path, "%s/shared", top);
    verify_names(path, shared);
    printf("problems %d\n", problems);
}

static void allocate(struct model *m)
{
    for (int i = 0; i < Slots; i++) { m->files[i].data = calloc(1, MaxBytes + 8); }
}

static void prepare(void)
{
    char path[256];
    allocate(&found);
    for (int t = 0; t < Threads; t++) {
        struct worker *w = &workers[t];
        w->index = t;
        w->random = mix(seed * Threads + (uint64_t)t);
        allocate(&w->now);
        allocate(&w->synced);
        sprintf(path, "%s/t%d", top, t);
        if (mkdir(path, 0755) != 0) { printf("STOP %s: %s\n", path, strerror(errno)); exit(2); }
    }
    sprintf(path, "%s/shared", top);
    if (mkdir(path, 0755) != 0) { printf("STOP %s: %s\n", path, strerror(errno)); exit(2); }
    int directory = open(top, O_RDONLY | O_DIRECTORY);
    if (directory < 0 || fsync(directory) != 0) { printf("STOP %s: %s\n", top, strerror(errno)); exit(2); }
    close(directory);
}

static void run(void)
{
    long operations = 0;
    problems = 0;
    for (int t = 0; t < Threads; t++) {
        workers[t].operations += 1; /* a new number for what comes after a crash */
        pthread_create(&workers[t].thread, NULL, work, &workers[t]);
    }
    printf("working\n");
    for (int t = 0; t < Threads; t++) { pthread_join(workers[t].thread, NULL); operations += workers[t].operations; }
    printf("stopped %ld\n", operations);
    if (problems > 0) { printf("problems %d\n", problems); exit(1); }
}

int main(int argc, char **argv)
{
    char command[32];
    if (argc != 3) { fprintf(stderr, "usage: kill-mix SEED DIRECTORY\n"); return 2; }
    setvbuf(stdout, NULL, _IOLBF, 0);
    umask(0);
    seed = strtoull(argv[1], NULL, 10);
    top = argv[2];
    prepare();
    printf("ready\n");
    while (scanf("%31s", command) == 1) {
        if (strcmp(command, "run") == 0) { run(); }
        else if (strcmp(command, "process") == 0) { verify_all(false); }
        else if (strcmp(command, "power") == 0) { verify_all(true); }
        else { fprintf(stderr, "kill-mix: unknown command '%s'\n", command); return 2; }
    }
    return 0;
}
