/* SETXATTR, GETXATTR, LISTXATTR, REMOVEXATTR. */
#include "checks.h"

#include <linux/magic.h>
#include <sys/vfs.h>

static bool has(const char *path, const char *name, const char *value)
{
    char found[256];
    ssize_t size = getxattr(path, name, found, sizeof found);
    return size == (ssize_t)strlen(value) && memcmp(found, value, strlen(value)) == 0;
}

static bool lists(const char *path, const char *name)
{
    static char all[65536];
    ssize_t size = listxattr(path, all, sizeof all);
    for (ssize_t at = 0; at < size; at += (ssize_t)strlen(all + at) + 1) { if (strcmp(all + at, name) == 0) { return true; } }
    return false;
}

void attributes(void)
{
    static char big[70000], found[70000];
    fill(big, sizeof big, 8);
    CHECK("fixture", put("f", "x") == 0 && mkdir("d", 0755) == 0 && symlink("f", "s") == 0);
    if (setxattr("f", "user.one", "1", 1, 0) != 0 && errno == EOPNOTSUPP) { skip("xattrs", "not supported"); return; }
    CHECK("user", has("f", "user.one", "1"));
    CHECK("trusted", setxattr("f", "trusted.two", "two", 3, 0) == 0 && has("f", "trusted.two", "two"));
    CHECK("security", setxattr("f", "security.three", "333", 3, 0) == 0 && has("f", "security.three", "333"));
    CHECK("on a directory", setxattr("d", "user.dir", "d", 1, 0) == 0 && has("d", "user.dir", "d"));
    CHECK("all are listed", lists("f", "user.one") && lists("f", "trusted.two") && lists("f", "security.three"));
    CHECK("replacing", setxattr("f", "user.one", "other value", 11, 0) == 0 && has("f", "user.one", "other value"));
    CHECK("an empty value", setxattr("f", "user.empty", "", 0, 0) == 0 && getxattr("f", "user.empty", found, 10) == 0 && lists("f", "user.empty"));
    CHECK("a binary value", setxattr("f", "user.binary", "a\0b\xff", 4, 0) == 0 && getxattr("f", "user.binary", found, 10) == 4 && memcmp(found, "a\0b\xff", 4) == 0);
    FAILS("XATTR_CREATE on one is EEXIST", EEXIST, setxattr("f", "user.one", "x", 1, XATTR_CREATE));
    FAILS("XATTR_REPLACE of none is ENODATA", ENODATA, setxattr("f", "user.none", "x", 1, XATTR_REPLACE));
    CHECK("XATTR_CREATE of none", setxattr("f", "user.created", "c", 1, XATTR_CREATE) == 0);
    CHECK("XATTR_REPLACE of one", setxattr("f", "user.created", "cc", 2, XATTR_REPLACE) == 0 && has("f", "user.created", "cc"));
    FAILS("an unknown flag is EINVAL", EINVAL, setxattr("f", "user.one", "x", 1, 8));
    FAILS("getting none is ENODATA", ENODATA, getxattr("f", "user.none", found, 10));
    FAILS("removing none is ENODATA", ENODATA, removexattr("f", "user.none"));
    CHECK("size first", getxattr("f", "user.one", NULL, 0) == 11 && listxattr("f", NULL, 0) > 20);
    FAILS("too little room for a value is ERANGE", ERANGE, getxattr("f", "user.one", found, 5));
    FAILS("too little room for the list is ERANGE", ERANGE, listxattr("f", found, 5));
    CHECK("removing", removexattr("f", "user.created") == 0 && !lists("f", "user.created") && getxattr("f", "user.created", NULL, 0) == -1);
    MOVES("setting moves ctime", ctime_of, "f", setxattr("f", "user.one", "n", 1, 0));
    KEEPS("setting leaves mtime", mtime_of, "f", setxattr("f", "user.one", "m", 1, 0));
    MOVES("removing moves ctime", ctime_of, "f", removexattr("f", "user.empty"));
    CHECK("1000 bytes", setxattr("f", "user.kilo", big, 1000, 0) == 0 && getxattr("f", "user.kilo", found, sizeof found) == 1000 && memcmp(found, big, 1000) == 0);
    CHECK("3000 bytes", removexattr("f", "user.kilo") == 0 && setxattr("f", "user.three", big, 3000, 0) == 0 && getxattr("f", "user.three", found, sizeof found) == 3000 && memcmp(found, big, 3000) == 0);
    CHECK("room again", removexattr("f", "user.three") == 0);
    int most = setxattr("f", "user.most", big, 65536, 0), error = errno;
    if (most == 0) {
        CHECK("64 KiB", getxattr("f", "user.most", found, sizeof found) == 65536 && memcmp(found, big, 65536) == 0 && removexattr("f", "user.most") == 0);
    }
    else { CHECK("64 KiB are too much only for want of room", error == ENOSPC || error == E2BIG); }
    FAILS("more than 64 KiB is E2BIG", E2BIG, setxattr("f", "user.toomuch", big, 65537, 0));
    char *name = repeat('n', 256);
    memcpy(name, "user.", 5);
    FAILS("a name of 256 bytes is ERANGE", ERANGE, setxattr("f", name, "x", 1, 0));
    name[255] = 0;
    CHECK("a name of 255 bytes", setxattr("f", name, "x", 1, 0) == 0 && lists("f", name) && removexattr("f", name) == 0);
    FAILS("an empty name is ERANGE", ERANGE, setxattr("f", "", "x", 1, 0));
    FAILS("a name without a family is EOPNOTSUPP", EOPNOTSUPP, setxattr("f", "nofamily", "x", 1, 0));
    FAILS("user on a symlink is EPERM", EPERM, lsetxattr("s", "user.s", "x", 1, 0));
    CHECK("trusted on a symlink", lsetxattr("s", "trusted.s", "x", 1, 0) == 0 && lgetxattr("s", "trusted.s", found, 10) == 1 && getxattr("f", "trusted.s", NULL, 0) == -1);
    CHECK("fifo", mkfifo("p", 0600) == 0);
    FAILS("user on a fifo is EPERM", EPERM, setxattr("p", "user.p", "x", 1, 0));
    FAILS("of nothing is ENOENT", ENOENT, setxattr("nothing", "user.x", "x", 1, 0));
    FAILS("below a file is ENOTDIR", ENOTDIR, getxattr("f/x", "user.x", found, 10));
    CHECK("f for all to read", chmod("f", 0644) == 0);
    CHECK_AS(ALICE, STAFF, "others read user", has("f", "user.one", "m"));
    FAILS_AS(ALICE, STAFF, "others do not set user", EACCES, setxattr("f", "user.one", "x", 1, 0));
    FAILS_AS(ALICE, STAFF, "others do not set trusted", EPERM, setxattr("f", "trusted.two", "x", 1, 0));
    FAILS_AS(ALICE, STAFF, "others do not see trusted", ENODATA, getxattr("f", "trusted.two", found, 10));
    CHECK_AS(ALICE, STAFF, "others list user", lists("f", "user.one"));
    struct statfs where;
    CHECK("statfs", statfs("f", &where) == 0);
    if (where.f_type == FUSE_SUPER_MAGIC && kernel_at_least(6, 12)) { skip("others do not list trusted", "with idmapped mounts FUSE does not tell who asks"); }
    else { CHECK_AS(ALICE, STAFF, "others do not list trusted", !lists("f", "trusted.two")); }
    CHECK("f for none", chmod("f", 0) == 0);
    FAILS_AS(ALICE, STAFF, "no reading of user without read permission", EACCES, getxattr("f", "user.one", found, 10));
    bool many = true;
    for (int i = 0; i < 50; i++) {
        char each[32];
        snprintf(each, sizeof each, "user.many%02d", i);
        many &= setxattr("d", each, each, strlen(each), 0) == 0;
    }
    for (int i = 0; i < 50; i++) {
        char each[32];
        snprintf(each, sizeof each, "user.many%02d", i);
        many &= lists("d", each) && has("d", each, each);
    }
    CHECK("50 of them", many);
    CHECK("a rename keeps them", rename("d", "e") == 0 && has("e", "user.many07", "user.many07") && has("e", "user.dir", "d"));
    CHECK("a link shares them", link("f", "g") == 0 && has("g", "user.one", "m"));
    int file = open("f", O_RDONLY);
    CHECK("by descriptor", fsetxattr(file, "user.fd", "fd", 2, 0) == 0 && fgetxattr(file, "user.fd", found, 10) == 2 && fremovexattr(file, "user.fd") == 0 && flistxattr(file, found, sizeof found) > 0);
    close(file);
}
