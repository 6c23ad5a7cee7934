/* SETATTR of times, and who may set them. */
#include "checks.h"

static int set(const char *path, int64_t access_seconds, long access_nanoseconds, int64_t seconds, long nanoseconds)
{
    struct timespec both[2] = { { access_seconds, access_nanoseconds }, { seconds, nanoseconds } };
    return utimensat(AT_FDCWD, path, both, 0);
}

static bool at(const char *path, int64_t access_seconds, long access_nanoseconds, int64_t seconds, long nanoseconds)
{
    struct stat found = stat_of(path);
    return found.st_atim.tv_sec == access_seconds && found.st_atim.tv_nsec == access_nanoseconds && found.st_mtim.tv_sec == seconds && found.st_mtim.tv_nsec == nanoseconds;
}

static bool near_now(int64_t time)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return llabs(time / 1000000000 - now.tv_sec) < 30;
}

void times(void)
{
    CHECK("fixture", put("f", "x") == 0 && chown("f", ALICE, STAFF) == 0 && chmod("f", 0644) == 0 && mkdir("d", 0755) == 0);
    CHECK("a new file is of now", near_now(mtime_of("f")) && near_now(ctime_of("f")) && near_now(atime_of("f")));
    CHECK("nanoseconds", set("f", 1000000000, 123456789, 1100000000, 987654321) == 0 && at("f", 1000000000, 123456789, 1100000000, 987654321));
    CHECK("the epoch", set("f", 0, 0, 0, 0) == 0 && at("f", 0, 0, 0, 0));
    CHECK("before the epoch", set("f", -1000000, 5, -1, 999999999) == 0 && at("f", -1000000, 5, -1, 999999999));
    CHECK("2038", set("f", 2147483647, 1, 2147483648, 2) == 0 && at("f", 2147483647, 1, 2147483648, 2));
    CHECK("2106 and later", set("f", 4294967296, 7, 5000000000, 8) == 0 && at("f", 4294967296, 7, 5000000000, 8));
    CHECK("UTIME_OMIT of both changes nothing", set("f", 0, UTIME_OMIT, 0, UTIME_OMIT) == 0 && at("f", 4294967296, 7, 5000000000, 8));
    CHECK("UTIME_OMIT of atime", set("f", 0, UTIME_OMIT, 77, 7) == 0 && at("f", 4294967296, 7, 77, 7));
    CHECK("UTIME_OMIT of mtime", set("f", 88, 8, 0, UTIME_OMIT) == 0 && at("f", 88, 8, 77, 7));
    CHECK("UTIME_NOW of mtime", set("f", 0, UTIME_OMIT, 0, UTIME_NOW) == 0 && near_now(mtime_of("f")) && stat_of("f").st_atim.tv_sec == 88);
    CHECK("UTIME_NOW of atime", set("f", 0, UTIME_NOW, 66, 6) == 0 && near_now(atime_of("f")) && mtime_of("f") == 66000000006);
    CHECK("no times mean now", utimensat(AT_FDCWD, "f", NULL, 0) == 0 && near_now(mtime_of("f")) && near_now(atime_of("f")));
    MOVES("setting times moves ctime", ctime_of, "f", set("f", 1, 1, 2, 2));
    CHECK("ctime is of now", near_now(ctime_of("f")));
    CHECK("of a directory", set("d", 10, 1, 20, 2) == 0 && at("d", 10, 1, 20, 2));
    int file = open("f", O_RDONLY);
    struct timespec both[2] = { { 30, 3 }, { 40, 4 } };
    CHECK("by descriptor", futimens(file, both) == 0 && at("f", 30, 3, 40, 4));
    close(file);
    FAILS("a bad nanosecond is EINVAL", EINVAL, set("f", 0, 1000000000, 0, 0));
    FAILS("of nothing is ENOENT", ENOENT, set("nothing", 0, 0, 0, 0));
    FAILS("below a file is ENOTDIR", ENOTDIR, set("f/x", 0, 0, 0, 0));
    CHECK_AS(ALICE, STAFF, "the owner sets any time", set("f", 1, 0, 2, 0) == 0);
    FAILS_AS(BOB, STAFF, "others do not", EPERM, set("f", 3, 0, 4, 0));
    FAILS_AS(BOB, STAFF, "others do not set now without write permission", EACCES, utimensat(AT_FDCWD, "f", NULL, 0));
    CHECK("writable by all", chmod("f", 0666) == 0);
    CHECK_AS(BOB, STAFF, "others set now with it", utimensat(AT_FDCWD, "f", NULL, 0) == 0);
    FAILS_AS(BOB, STAFF, "but no other time", EPERM, set("f", 3, 0, 4, 0));
    CHECK("a write leaves set atime", set("f", 5, 5, 6, 6) == 0 && put("f", "new") == 0 && stat_of("f").st_atim.tv_sec == 5 && near_now(mtime_of("f")));
    KEEPS("stat leaves ctime", ctime_of, "f", stat("f", &(struct stat){ 0 }));
    KEEPS("reading leaves mtime", mtime_of, "f", holds("f", "new") ? 0 : 1);
    CHECK("times survive a rename", set("f", 7, 7, 8, 8) == 0 && rename("f", "g") == 0 && at("g", 7, 7, 8, 8));
}
