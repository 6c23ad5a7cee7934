/* MKDIR, RMDIR, OPENDIR, READDIR(PLUS), RELEASEDIR, FSYNCDIR. */
#include "checks.h"

void directories(void)
{
    int before = links_of(".");
    MOVES("mkdir moves the parent's mtime", mtime_of, ".", mkdir("d", 0750));
    CHECK("mkdir gives the mode asked for", mode_of("d") == 0750 && S_ISDIR(stat_of("d").st_mode));
    CHECK("a new directory has two links", links_of("d") == 2);
    CHECK("and adds one to its parent", links_of(".") == before + 1);
    CHECK("a directory inside", mkdir("d/in", 0755) == 0 && links_of("d") == 3);
    CHECK("a file inside adds none", make_file("d/file", 0600) == 0 && links_of("d") == 3);
    FAILS("rmdir of a full one is ENOTEMPTY", ENOTEMPTY, rmdir("d"));
    CHECK("rmdir takes the link away", rmdir("d/in") == 0 && links_of("d") == 2);
    FAILS("rmdir with a file inside is ENOTEMPTY", ENOTEMPTY, rmdir("d"));
    CHECK("rmdir of an empty one", unlink("d/file") == 0 && rmdir("d") == 0 && !exists("d") && links_of(".") == before);
    umask(022);
    CHECK("umask applies to mkdir", mkdir("masked", 0777) == 0 && mode_of("masked") == 0755);
    umask(0);
    CHECK("mkdir keeps the sticky bit", mkdir("sticky", 01777) == 0 && mode_of("sticky") == 01777);
    CHECK("file", put("file", "x") == 0);
    FAILS("mkdir on a file is EEXIST", EEXIST, mkdir("file", 0700));
    FAILS("mkdir on a directory is EEXIST", EEXIST, mkdir("sticky", 0700));
    CHECK("dangling", symlink("none", "dangling") == 0);
    FAILS("mkdir on a dangling symlink is EEXIST", EEXIST, mkdir("dangling", 0700));
    FAILS("mkdir in nothing is ENOENT", ENOENT, mkdir("nothing/d", 0700));
    FAILS("mkdir below a file is ENOTDIR", ENOTDIR, mkdir("file/d", 0700));
    FAILS("rmdir of a file is ENOTDIR", ENOTDIR, rmdir("file"));
    FAILS("rmdir of nothing is ENOENT", ENOENT, rmdir("nothing"));
    FAILS("rmdir below a file is ENOTDIR", ENOTDIR, rmdir("file/d"));
    CHECK("mkdir with a trailing slash", mkdir("slash/", 0700) == 0);
    MOVES("rmdir moves the parent's mtime", mtime_of, ".", rmdir("slash"));
    FAILS("opendir of a file is ENOTDIR", ENOTDIR, open("file", O_DIRECTORY));
    FAILS("chdir to a file is ENOTDIR", ENOTDIR, chdir("file"));
    FAILS("chdir to nothing is ENOENT", ENOENT, chdir("nothing"));
    FAILS("truncate of a directory is EISDIR", EISDIR, truncate("sticky", 0));
    int directory = open("sticky", O_RDONLY);
    CHECK("fsync of a directory", fsync(directory) == 0);
    CHECK("fdatasync of a directory", fdatasync(directory) == 0);
    CHECK("calls relative to a directory", mkdirat(directory, "rel", 0700) == 0 && faccessat(directory, "rel", F_OK, 0) == 0 && unlinkat(directory, "rel", AT_REMOVEDIR) == 0);
    FAILS("unlinkat of a directory without AT_REMOVEDIR is EISDIR", EISDIR, unlinkat(AT_FDCWD, "sticky", 0));
    FAILS("unlinkat of a file with AT_REMOVEDIR is ENOTDIR", ENOTDIR, unlinkat(AT_FDCWD, "file", AT_REMOVEDIR));
    close(directory);
    CHECK("parent for two", mkdir("p1", 0755) == 0 && mkdir("p2", 0755) == 0 && mkdir("p1/moving", 0755) == 0);
    CHECK("rename moves the link from parent to parent", rename("p1/moving", "p2/moving") == 0 && links_of("p1") == 2 && links_of("p2") == 3);
    CHECK("and .. follows", inode_of("p2/moving/..") == inode_of("p2"));
}

enum { Entries = 3000 };
static unsigned char seen[Entries + 2000];
static int strangers, repeats;

static void note(const struct dirent *entry)
{
    int number;
    char rest;
    if (sscanf(entry->d_name, "e%d%c", &number, &rest) == 1 && number >= 0 && number < Entries + 2000) { repeats += seen[number]++ != 0; }
    else { strangers++; }
}

static int count_seen(int first, int limit)
{
    int count = 0;
    for (int i = first; i < limit; i++) { count += seen[i] != 0; }
    return count;
}

static char *entry_name(int number)
{
    static char name[32];
    snprintf(name, sizeof name, "many/e%d", number);
    return name;
}

static void start_over(DIR *stream)
{
    memset(seen, 0, sizeof seen);
    strangers = repeats = 0;
    if (stream != NULL) { rewinddir(stream); }
}

void many_entries(void)
{
    struct dirent *entry;
    CHECK("mkdir", mkdir("many", 0755) == 0);
    DIR *stream = opendir("many");
    while ((entry = readdir(stream)) != NULL) { note(entry); }
    CHECK("an empty directory lists . and ..", strangers == 2 && count_seen(0, Entries) == 0);
    bool made = true;
    for (int i = 0; i < Entries; i++) { made &= mknod(entry_name(i), i % 100 == 7 ? S_IFIFO | 0600 : S_IFREG | 0600, 0) == 0; }
    CHECK("3000 entries", made);
    start_over(stream);
    while ((entry = readdir(stream)) != NULL) { note(entry); }
    CHECK("rewinddir sees them all, each once", count_seen(0, Entries) == Entries && repeats == 0 && strangers == 2);
    bool typed = true, numbered = true;
    rewinddir(stream);
    for (int i = 0; (entry = readdir(stream)) != NULL; i++) {
        int number;
        if (sscanf(entry->d_name, "e%d", &number) != 1) { continue; }
        typed &= entry->d_type == DT_UNKNOWN || entry->d_type == (number % 100 == 7 ? DT_FIFO : DT_REG);
        if (i % 50 == 0) { numbered &= entry->d_ino == inode_of(entry_name(number)); }
    }
    CHECK("entries carry their type", typed);
    CHECK("and their inode number", numbered);

    static long positions[Entries + 2];
    static char after[Entries + 2][16];
    int count = 0;
    rewinddir(stream);
    for (;;) {
        long position = telldir(stream);
        if ((entry = readdir(stream)) == NULL) { break; }
        positions[count] = position;
        snprintf(after[count++], sizeof after[0], "%.15s", entry->d_name);
    }
    bool returned = count == Entries + 2;
    for (int i = 0; i < count; i += 97) {
        int at = (i * 31) % count;
        seekdir(stream, positions[at]);
        entry = readdir(stream);
        returned &= entry != NULL && strcmp(entry->d_name, after[at]) == 0;
    }
    CHECK("seekdir returns to what telldir said", returned);
    DIR *other = opendir("many");
    seekdir(other, positions[count / 2]);
    entry = readdir(other);
    CHECK("a position holds in another descriptor", entry != NULL && strcmp(entry->d_name, after[count / 2]) == 0);
    closedir(other);

    /* Entries that are there all the time are seen exactly once, whatever else comes and goes. */
    start_over(stream);
    for (int i = 0; (entry = readdir(stream)) != NULL; i++) {
        note(entry);
        if (i < 1000) { unlink(entry_name(2 * i + 1)); mknod(entry_name(Entries + i), S_IFREG | 0600, 0); }
    }
    bool steady = repeats == 0;
    for (int i = 0; i < Entries; i += 2) { steady &= seen[i] == 1; }
    for (int i = 2001; i < Entries; i += 2) { steady &= seen[i] == 1; }
    CHECK("deleting and creating while reading", steady);
    start_over(stream);
    while ((entry = readdir(stream)) != NULL) { note(entry); }
    CHECK("the listing after that is exact", count_seen(0, Entries) == Entries - 1000 && count_seen(Entries, Entries + 1000) == 1000 && repeats == 0);

    bool removed = true;
    int left;
    do { /* the way of rm -r */
        rewinddir(stream);
        left = 0;
        while ((entry = readdir(stream)) != NULL) {
            char path[300];
            if (entry->d_name[0] == '.') { continue; }
            snprintf(path, sizeof path, "many/%s", entry->d_name);
            removed &= unlink(path) == 0;
            left++;
        }
    } while (left > 0 && removed);
    CHECK("deleting everything read", removed && left == 0);
    CHECK("then the directory goes", closedir(stream) == 0 && rmdir("many") == 0);
}
