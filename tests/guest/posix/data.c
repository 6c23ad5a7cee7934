/* READ, WRITE, SETATTR of the size, LSEEK, COPY_FILE_RANGE, FSYNC, FLUSH. */
#include "checks.h"

static void big(void)
{
    enum { Size = 3 * 1024 * 1024 + 321 };
    unsigned char *bytes = malloc(Size), *found = malloc(Size);
    fill(bytes, Size, 7);
    int file = open("big", O_RDWR | O_CREAT, 0600);
    CHECK("3 MiB at an odd offset", pwrite(file, bytes, Size, 12345) == Size && size_of("big") == Size + 12345);
    CHECK("come back", holds_at(file, 12345, bytes, Size) && zero_at(file, 0, 12345));
    bool pieces = true;
    static const off_t offsets[] = { 0, 1, 4095, 4096, 4097, 65535, 131071, 131073, 1048575, 1048577, 2097151 };
    static const size_t counts[] = { 1, 511, 4096, 4097, 70000, 131073 };
    for (size_t i = 0; i < sizeof offsets / sizeof *offsets; i++) {
        for (size_t j = 0; j < sizeof counts / sizeof *counts; j++) {
            pieces &= holds_at(file, 12345 + offsets[i], bytes + offsets[i], counts[j]);
        }
    }
    CHECK("in pieces at odd places", pieces);
    bool kept = true;
    for (size_t i = 0; i < sizeof offsets / sizeof *offsets; i++) {
        fill(bytes + offsets[i], counts[i % 6], (unsigned)i + 50);
        kept &= pwrite(file, bytes + offsets[i], counts[i % 6], 12345 + offsets[i]) == (ssize_t)counts[i % 6];
    }
    CHECK("written over in pieces", kept && fsync(file) == 0);
    int again = open("big", O_RDONLY);
    posix_fadvise(again, 0, 0, POSIX_FADV_DONTNEED); /* so that it is read from the server */
    CHECK("the whole after that", holds_at(again, 12345, bytes, Size));
    CHECK("reading stops at the end", pread(again, found, 100, Size + 12345 - 10) == 10 && pread(again, found, 1, Size + 12345) == 0);
    struct iovec parts[3] = { { found, 5 }, { found + 5, 4096 }, { found + 4101, 1000 } };
    CHECK("readv", preadv(again, parts, 3, 12345) == 5101 && memcmp(found, bytes, 5101) == 0);
    close(again);
    again = open("vector", O_RDWR | O_CREAT, 0600);
    struct iovec sources[3] = { { bytes, 3 }, { bytes + 3, 5000 }, { bytes + 5003, 70001 } };
    CHECK("writev", pwritev(again, sources, 3, 11) == 75004 && holds_at(again, 11, bytes, 75004));
    close(again); close(file);

    file = open("direct", O_RDWR | O_CREAT | O_DIRECT, 0600);
    if (file < 0) { skip("O_DIRECT", strerror(errno)); }
    else {
        void *aligned = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        fill(aligned, 1 << 20, 3);
        CHECK("O_DIRECT writes 1 MiB", pwrite(file, aligned, 1 << 20, 4096) == 1 << 20);
        memset(aligned, 0, 1 << 20);
        fill(bytes, 1 << 20, 3);
        CHECK("O_DIRECT reads it", pread(file, aligned, 1 << 20, 4096) == 1 << 20 && memcmp(aligned, bytes, 1 << 20) == 0);
        CHECK("buffered reads see it", (again = open("direct", O_RDONLY)) >= 0 && holds_at(again, 4096, bytes, 1 << 20));
        fill(aligned, 4096, 4);
        fill(bytes + 8192, 4096, 4);
        CHECK("a buffered reader sees what was written directly later", pwrite(file, aligned, 4096, 4096 + 8192) == 4096 && holds_at(again, 4096, bytes, 1 << 20));
        close(again);
        CHECK("O_DIRECT reads up to the end only", ftruncate(file, 8192 + 512) == 0 && pread(file, aligned, 4096, 8192) == 512);
    }
    close(file);
}

static void *volatile bad_address = (void *)1; /* volatile: or the compiler sees through it */

static void sizes(void)
{
    struct stat found;
    CHECK("fixture", put("f", "0123456789") == 0);
    int file = open("f", O_RDWR);
    CHECK("truncate shorter", truncate("f", 4) == 0 && holds("f", "0123"));
    CHECK("truncate longer fills with zeroes", truncate("f", 10000) == 0 && size_of("f") == 10000 && holds_at(file, 0, "0123", 4) && zero_at(file, 4, 9996));
    CHECK("what was cut does not come back", pwrite(file, "secret", 6, 4090) == 6 && ftruncate(file, 4092) == 0 && ftruncate(file, 8192) == 0 && holds_at(file, 4090, "se", 2) && zero_at(file, 4092, 4100));
    MOVES("ftruncate moves mtime", mtime_of, "f", ftruncate(file, 5));
    MOVES("ftruncate moves ctime", ctime_of, "f", ftruncate(file, 6));
    FAILS("a negative size is EINVAL", EINVAL, ftruncate(file, -1));
    FAILS("truncate of nothing is ENOENT", ENOENT, truncate("nothing", 0));
    FAILS("truncate below a file is ENOTDIR", ENOTDIR, truncate("f/x", 0));
    CHECK("a write past the end leaves a hole", pwrite(file, "end", 3, 100000) == 3 && size_of("f") == 100003 && zero_at(file, 6, 99994));
    CHECK("a hole takes no room", fstat(file, &found) == 0 && found.st_blocks * 512 < 90000);
    CHECK("a file of 1 TiB with 1 byte", ftruncate(file, 1ll << 40) == 0 && size_of("f") == 1ll << 40 && pwrite(file, "!", 1, (1ll << 40) - 1) == 1 && holds_at(file, (1ll << 40) - 1, "!", 1));
    CHECK("and back to nothing", ftruncate(file, 0) == 0 && size_of("f") == 0);
    CHECK("a zero byte write changes nothing", write(file, "", 0) == 0 && size_of("f") == 0);
    FAILS("past the largest offset is EFBIG or EINVAL as EFBIG", EFBIG, pwrite(file, "x", 1, INT64_MAX) == -1 && (errno == EINVAL || errno == EFBIG) ? (errno = EFBIG, -1) : 0);
    FAILS("a bad buffer is EFAULT", EFAULT, write(file, bad_address, 100));
    MOVES("write moves mtime", mtime_of, "f", pwrite(file, "x", 1, 0) != 1);
    MOVES("write moves ctime", ctime_of, "f", pwrite(file, "y", 1, 0) != 1);
    close(file);
}

static void appending(void)
{
    int one = open("log", O_WRONLY | O_CREAT | O_APPEND, 0600), two = open("log", O_WRONLY | O_APPEND);
    CHECK("O_APPEND from two descriptors", write(one, "aa", 2) == 2 && write(two, "bb", 2) == 2 && write(one, "cc", 2) == 2 && holds("log", "aabbcc"));
    CHECK("lseek does not matter to it", lseek(one, 0, SEEK_SET) == 0 && write(one, "dd", 2) == 2 && holds("log", "aabbccdd"));
    CHECK("the position follows", lseek(one, 0, SEEK_CUR) == 8);
    CHECK("pwrite appends too", pwrite(two, "ee", 2, 0) == 2 && holds("log", "aabbccddee"));
    CHECK("it can be switched off", fcntl(one, F_SETFL, 0) == 0 && pwrite(one, "XX", 2, 0) == 2 && holds("log", "XXbbccddee"));
    CHECK("and on", fcntl(one, F_SETFL, O_APPEND) == 0 && write(one, "f", 1) == 1 && holds("log", "XXbbccddeef"));
    close(one); close(two);
    pid_t children[4];
    for (int c = 0; c < 4; c++) {
        if ((children[c] = fork()) == 0) {
            int file = open("shared-log", O_WRONLY | O_CREAT | O_APPEND, 0600);
            for (int i = 0; i < 50; i++) {
                char line[32];
                int length = snprintf(line, sizeof line, "%d:%03d\n", c, i);
                if (write(file, line, (size_t)length) != length) { _exit(1); }
            }
            _exit(0);
        }
    }
    bool good = true;
    for (int c = 0; c < 4; c++) { int status; waitpid(children[c], &status, 0); good &= status == 0; }
    int next[4] = { 0 };
    FILE *text = fopen("shared-log", "r");
    int who, number, lines = 0;
    while (text != NULL && fscanf(text, "%d:%d\n", &who, &number) == 2) { good &= who >= 0 && who < 4 && number == next[who]++; lines++; }
    CHECK("four processes append 200 lines, none lost", good && lines == 200 && size_of("shared-log") == 200 * 6);
    if (text != NULL) { fclose(text); }
}

static void seeking(void)
{
    int file = open("sparse", O_RDWR | O_CREAT, 0600);
    FAILS("SEEK_DATA in an empty file is ENXIO", ENXIO, lseek(file, 0, SEEK_DATA));
    char block[65536];
    fill(block, sizeof block, 9);
    CHECK("a file with a hole", pwrite(file, block, sizeof block, 0) == sizeof block && pwrite(file, block, sizeof block, 1 << 20) == sizeof block && fsync(file) == 0);
    CHECK("SEEK_DATA at data stays", lseek(file, 100, SEEK_DATA) == 100);
    off_t hole = lseek(file, 0, SEEK_HOLE), next = lseek(file, 500000, SEEK_DATA);
    CHECK("SEEK_HOLE finds the hole", hole >= 65536 && hole < 1 << 20);
    CHECK("SEEK_DATA finds what is behind it", next > 500000 && next <= 1 << 20);
    CHECK("SEEK_HOLE in a hole stays", lseek(file, 500000, SEEK_HOLE) == 500000);
    CHECK("the end is a hole", lseek(file, (1 << 20) + 10, SEEK_HOLE) == (1 << 20) + 65536);
    FAILS("SEEK_DATA past the end is ENXIO", ENXIO, lseek(file, (1 << 20) + 65536, SEEK_DATA));
    FAILS("SEEK_HOLE past the end is ENXIO", ENXIO, lseek(file, (1 << 20) + 65537, SEEK_HOLE));
    CHECK("a hole at the end", ftruncate(file, 4 << 20) == 0 && lseek(file, (1 << 20) + 65536, SEEK_HOLE) == (1 << 20) + 65536);
    FAILS("no data in the hole at the end", ENXIO, lseek(file, 2 << 20, SEEK_DATA));
    FAILS("a negative position is EINVAL", EINVAL, lseek(file, -1, SEEK_SET));
    CHECK("SEEK_END", lseek(file, 0, SEEK_END) == 4 << 20 && lseek(file, -10, SEEK_END) == (4 << 20) - 10);
    FAILS("an unknown whence is EINVAL", EINVAL, lseek(file, 0, 99));
    close(file);
}

static void copying(void)
{
    static char bytes[300000];
    fill(bytes, sizeof bytes, 21);
    int source = open("source", O_RDWR | O_CREAT, 0600), target = open("target", O_RDWR | O_CREAT, 0600);
    CHECK("fixture", write(source, bytes, sizeof bytes) == sizeof bytes);
    loff_t from = 1000, to = 77;
    size_t left = 200000;
    ssize_t done;
    while (left > 0 && (done = copy_file_range(source, &from, target, &to, left, 0)) > 0) { left -= (size_t)done; }
    CHECK("copy_file_range at odd offsets", left == 0 && from == 201000 && to == 200077 && holds_at(target, 77, bytes + 1000, 200000) && zero_at(target, 0, 77));
    from = 0; to = 0; left = 262144;
    while (left > 0 && (done = copy_file_range(source, &from, target, &to, left, 0)) > 0) { left -= (size_t)done; }
    CHECK("of whole blocks", left == 0 && holds_at(target, 0, bytes, 262144));
    CHECK("the copy is a copy", pwrite(source, "changed", 7, 5000) == 7 && holds_at(target, 5000, bytes + 5000, 7) && pwrite(source, bytes + 5000, 7, 5000) == 7);
    from = 299000; to = 0;
    CHECK("stops at the source's end", copy_file_range(source, &from, target, &to, 100000, 0) == 1000);
    from = 300000;
    CHECK("nothing at the end", copy_file_range(source, &from, target, &to, 10, 0) == 0);
    from = 0; to = 100;
    FAILS("overlapping is EINVAL", EINVAL, copy_file_range(source, &from, source, &to, 1000, 0));
    from = 0; to = 150000;
    CHECK("within one file", copy_file_range(source, &from, source, &to, 65536, 0) == 65536 && holds_at(source, 150000, bytes, 65536));
    FAILS("flags are EINVAL", EINVAL, copy_file_range(source, NULL, target, NULL, 10, 1));
    int reader = open("target", O_RDONLY), directory = open(".", O_RDONLY);
    FAILS("to a read-only descriptor is EBADF", EBADF, copy_file_range(source, NULL, reader, NULL, 10, 0));
    FAILS("of a directory is EISDIR", EISDIR, copy_file_range(directory, NULL, target, NULL, 10, 0));
    close(reader); close(directory);
    CHECK("fsync", fsync(target) == 0);
    CHECK("fdatasync", fdatasync(target) == 0);
    CHECK("sync_file_range", sync_file_range(target, 0, 0, SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER) == 0);
    CHECK("syncfs", syncfs(target) == 0);
    close(source); close(target);
}

void data(void)
{
    sizes();
    appending();
    big();
    seeking();
    copying();
}
