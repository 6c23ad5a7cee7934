/* mmap, execution: READ and WRITE as the page cache sends them. */
#include "checks.h"

void mappings(void)
{
    enum { Size = 5 * 4096 + 100 };
    static char bytes[Size];
    fill(bytes, Size, 31);
    int file = open("f", O_RDWR | O_CREAT, 0600);
    CHECK("fixture", write(file, bytes, Size) == Size);
    char *map = mmap(NULL, Size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    CHECK("MAP_SHARED", map != MAP_FAILED);
    if (map == MAP_FAILED) { return; }
    CHECK("shows the file", memcmp(map, bytes, Size) == 0);
    memcpy(map + 4090, "across two pages", 16);
    CHECK("a store shows to read", holds_at(file, 4090, "across two pages", 16));
    CHECK("a write shows in the map", pwrite(file, "written", 7, 9000) == 7 && memcmp(map + 9000, "written", 7) == 0);
    CHECK("msync", msync(map, Size, MS_SYNC) == 0);
    CHECK("the rest of the last page is zero", map[Size] == 0 && map[Size + 1000] == 0);
    MOVES("a store and msync move mtime", mtime_of, "f", (map[0]++, msync(map, Size, MS_SYNC)));
    close(file);
    memcpy(map + 12000, "after close", 11);
    CHECK("munmap after close keeps the store", munmap(map, Size) == 0 && (file = open("f", O_RDWR)) >= 0 && holds_at(file, 12000, "after close", 11));
    CHECK("and does not change the size", size_of("f") == Size);
    map = mmap(NULL, Size, PROT_READ | PROT_WRITE, MAP_PRIVATE, file, 0);
    CHECK("MAP_PRIVATE", map != MAP_FAILED);
    memcpy(map, "private", 7);
    CHECK("a private store stays private", !holds_at(file, 0, "private", 7));
    munmap(map, Size);
    map = mmap(NULL, Size, PROT_READ, MAP_SHARED, file, 0);
    CHECK("unlinking a mapped file", unlink("f") == 0 && memcmp(map + 12000, "after close", 11) == 0);
    munmap(map, Size);
    close(file);
    file = open("holes", O_RDWR | O_CREAT, 0600);
    CHECK("a store into a hole", ftruncate(file, 1 << 20) == 0 && (map = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0)) != MAP_FAILED && (map[777777] = 'x') == 'x' && msync(map, 1 << 20, MS_SYNC) == 0 && holds_at(file, 777777, "x", 1) && zero_at(file, 0, 777777));
    munmap(map, 1 << 20);
    close(file);
    file = open("holes", O_RDONLY);
    FAILS("a writable map of a read-only descriptor is EACCES", EACCES, (long)mmap(NULL, 4096, PROT_WRITE, MAP_SHARED, file, 0));
    close(file);

    int self = open("/proc/self/exe", O_RDONLY), copy = open("program", O_WRONLY | O_CREAT, 0755);
    char buffer[65536];
    ssize_t count;
    while ((count = read(self, buffer, sizeof buffer)) > 0 && write(copy, buffer, (size_t)count) == count) { }
    close(self);
    FAILS("executing a file open for writing is ETXTBSY", ETXTBSY, execl("program", "program", (char *)NULL));
    close(copy);
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        int null = open("/dev/null", O_RDWR);
        dup2(null, 1); dup2(null, 2);
        execl("program", "program", (char *)NULL);
        _exit(99);
    }
    int status = 0;
    waitpid(child, &status, 0);
    CHECK("a program runs from here", WIFEXITED(status) && WEXITSTATUS(status) == 2); /* its usage */
    CHECK("without x", chmod("program", 0644) == 0);
    FAILS("it is EACCES", EACCES, execl("program", "program", (char *)NULL));
    CHECK("a script", put("script", "#!/nonexistent\n") == 0 && chmod("script", 0755) == 0);
    FAILS("whose interpreter is missing is ENOENT", ENOENT, execl("script", "script", (char *)NULL));
}
