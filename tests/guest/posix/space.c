/* FALLOCATE, STATFS and what stat says about blocks. */
#include "checks.h"

static int64_t blocks_of(const char *path) { return stat_of(path).st_blocks; }

void space(void)
{
    enum { Block = 65536 };
    static char bytes[4 * Block];
    fill(bytes, sizeof bytes, 5);
    int file = open("f", O_RDWR | O_CREAT, 0600);
    int result = fallocate(file, 0, 0, sizeof bytes);
    if (result != 0 && errno == EOPNOTSUPP) { skip("fallocate", "not supported"); }
    CHECK("fallocate extends", result == 0 && size_of("f") == sizeof bytes && zero_at(file, 0, sizeof bytes));
    CHECK("and takes room", blocks_of("f") * 512 >= (int64_t)sizeof bytes);
    CHECK("what is written stays when allocated again", pwrite(file, bytes, sizeof bytes, 0) == sizeof bytes && fallocate(file, 0, 0, Block) == 0 && holds_at(file, 0, bytes, sizeof bytes));
    CHECK("KEEP_SIZE beyond the end keeps the size", fallocate(file, FALLOC_FL_KEEP_SIZE, sizeof bytes, Block) == 0 && size_of("f") == sizeof bytes);
    CHECK("PUNCH_HOLE zeroes", fallocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, Block, Block) == 0 && holds_at(file, 0, bytes, Block) && zero_at(file, Block, Block) && holds_at(file, 2 * Block, bytes + 2 * Block, 2 * Block));
    CHECK("a punched hole is a hole", lseek(file, 0, SEEK_HOLE) == Block && lseek(file, Block, SEEK_DATA) == 2 * Block);
    CHECK("PUNCH_HOLE at odd places", fallocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 2 * Block + 13, 9000) == 0 && holds_at(file, 2 * Block, bytes + 2 * Block, 13) && zero_at(file, 2 * Block + 13, 9000) && holds_at(file, 2 * Block + 9013, bytes + 2 * Block + 9013, 1000));
    CHECK("PUNCH_HOLE past the end does nothing", fallocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 10 * Block, Block) == 0 && size_of("f") == sizeof bytes);
    CHECK("ZERO_RANGE zeroes", fallocate(file, FALLOC_FL_ZERO_RANGE, 3 * Block + 5, 7777) == 0 && zero_at(file, 3 * Block + 5, 7777) && holds_at(file, 3 * Block, bytes + 3 * Block, 5));
    CHECK("ZERO_RANGE extends", fallocate(file, FALLOC_FL_ZERO_RANGE, 4 * Block, Block) == 0 && size_of("f") == 5 * Block);
    CHECK("ZERO_RANGE with KEEP_SIZE does not", fallocate(file, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, 5 * Block, Block) == 0 && size_of("f") == 5 * Block);
    FAILS("PUNCH_HOLE without KEEP_SIZE is EOPNOTSUPP", EOPNOTSUPP, fallocate(file, FALLOC_FL_PUNCH_HOLE, 0, 4096));
    FAILS("no length is EINVAL", EINVAL, fallocate(file, 0, 0, 0));
    FAILS("a negative offset is EINVAL", EINVAL, fallocate(file, 0, -1, 10));
    FAILS("beyond the largest file is EFBIG", EFBIG, fallocate(file, 0, INT64_MAX - 10, 100));
    MOVES("PUNCH_HOLE moves mtime", mtime_of, "f", fallocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096));
    int reader = open("f", O_RDONLY), directory = open(".", O_RDONLY);
    FAILS("on a read-only descriptor is EBADF", EBADF, fallocate(reader, 0, 0, 10));
    FAILS("on a directory is EBADF", EBADF, fallocate(directory, 0, 0, 10));
    close(reader); close(directory);
    int64_t full = blocks_of("f");
    CHECK("punching all gives the room back", fallocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 6 * Block) == 0 && fsync(file) == 0 && blocks_of("f") < full && blocks_of("f") * 512 <= 2 * Block); /* what lies beyond the end may stay */
    close(file);

    struct statfs total;
    struct statvfs variant;
    CHECK("statfs", statfs(".", &total) == 0 && total.f_bsize >= 512 && total.f_blocks > 0 && total.f_bfree <= total.f_blocks && total.f_bavail <= total.f_bfree);
    CHECK("statvfs names of 255 bytes", statvfs(".", &variant) == 0 && variant.f_namemax == 255);
    CHECK("there are inodes", total.f_files > 0 && total.f_ffree > 0 && total.f_ffree <= total.f_files);
    CHECK("fstatfs agrees", (file = open("f", O_RDONLY)) >= 0 && fstatfs(file, &total) == 0 && total.f_blocks == variant.f_blocks);
    close(file);
    FAILS("statfs of nothing is ENOENT", ENOENT, statfs("nothing", &total));
    FAILS("statfs below a file is ENOTDIR", ENOTDIR, statfs("f/x", &total));
    statfs(".", &total);
    uint64_t before = total.f_bfree * (uint64_t)total.f_bsize;
    static char noise[1 << 20];
    fill(noise, sizeof noise, 77);
    file = open("room", O_RDWR | O_CREAT, 0600);
    bool wrote = true;
    for (int i = 0; i < 4; i++) { wrote &= write(file, noise, sizeof noise) == sizeof noise; }
    fsync(file);
    statfs(".", &total);
    uint64_t during = total.f_bfree * (uint64_t)total.f_bsize;
    CHECK("4 MiB of data show in statfs", wrote && before - during >= 3 << 20 && during < before);
    CHECK("and in stat", blocks_of("room") * 512 >= 4 << 20);
    close(file);
    CHECK("deleting gives them back", unlink("room") == 0);
    for (int i = 0; i < 100; i++) { statfs(".", &total); if (total.f_bfree * (uint64_t)total.f_bsize > during + (3 << 20)) { break; } usleep(50000); }
    CHECK("before long", total.f_bfree * (uint64_t)total.f_bsize > during + (3 << 20));
}
