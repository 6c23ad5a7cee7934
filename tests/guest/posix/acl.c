/* POSIX ACLs, through the raw extended attributes the kernel keeps them in (linux/posix_acl_xattr.h). */
#include "checks.h"

enum { USER_OWNER = 1, USER = 2, GROUP_OWNER = 4, GROUP = 8, MASK = 16, OTHER = 32 };
struct entry { uint16_t tag, bits; uint32_t id; };
struct list { uint32_t version; struct entry entries[8]; };
static const uint32_t nobody = 0xffffffff;

static int set(const char *path, const char *kind, int count, const struct entry *entries)
{
    struct list list = { .version = 2 };
    memcpy(list.entries, entries, (size_t)count * sizeof *entries);
    return setxattr(path, kind, &list, 4 + (size_t)count * sizeof *entries, 0);
}

static int bits_of(const char *path, const char *kind, int tag, uint32_t id)
{
    struct list list;
    ssize_t size = getxattr(path, kind, &list, sizeof list);
    for (int i = 0; size > 4 && i < (size - 4) / 8; i++) {
        if (list.entries[i].tag == tag && list.entries[i].id == id) { return list.entries[i].bits; }
    }
    return -1;
}

void access_lists(void)
{
    static const char access_kind[] = "system.posix_acl_access", default_kind[] = "system.posix_acl_default";
    CHECK("fixture", put("f", "text") == 0 && chmod("f", 0600) == 0 && mkdir("d", 0700) == 0);
    const struct entry one[] = { { USER_OWNER, 6, nobody }, { USER, 4, ALICE }, { GROUP_OWNER, 0, nobody }, { MASK, 4, nobody }, { OTHER, 0, nobody } };
    if (set("f", access_kind, 5, one) != 0 && errno == EOPNOTSUPP) { skip("ACLs", "not supported"); return; }
    CHECK("an entry for a user comes back", bits_of("f", access_kind, USER, ALICE) == 4);
    CHECK("the mask shows as group bits", mode_of("f") == 0640);
    CHECK_AS(ALICE, GUESTS, "the named user reads", close_all(open("f", O_RDONLY)) >= 0);
    FAILS_AS(ALICE, GUESTS, "but does not write", EACCES, open("f", O_WRONLY));
    FAILS_AS(BOB, GUESTS, "nobody else reads", EACCES, open("f", O_RDONLY));
    CHECK("chmod changes the mask", chmod("f", 0600) == 0 && bits_of("f", access_kind, MASK, nobody) == 0);
    FAILS_AS(ALICE, GUESTS, "which takes the user's right away", EACCES, open("f", O_RDONLY));
    const struct entry group[] = { { USER_OWNER, 6, nobody }, { GROUP_OWNER, 0, nobody }, { GROUP, 6, GUESTS }, { MASK, 6, nobody }, { OTHER, 0, nobody } };
    CHECK("an entry for a group", set("f", access_kind, 5, group) == 0);
    CHECK_AS(BOB, GUESTS, "lets its members write", close_all(open("f", O_RDWR)) >= 0);
    FAILS_AS(BOB, STAFF, "and nobody else", EACCES, open("f", O_RDONLY));
    FAILS_AS(BOB, GUESTS, "only the owner sets ACLs", EPERM, set("f", access_kind, 5, one));
    const struct entry plain[] = { { USER_OWNER, 6, nobody }, { GROUP_OWNER, 4, nobody }, { OTHER, 4, nobody } };
    CHECK("an ACL that says no more than a mode becomes one", set("f", access_kind, 3, plain) == 0 && mode_of("f") == 0644);
    FAILS("and is not kept", ENODATA, getxattr("f", access_kind, NULL, 0));
    CHECK("removal", set("f", access_kind, 5, one) == 0 && removexattr("f", access_kind) == 0 && getxattr("f", access_kind, NULL, 0) == -1);
    const struct entry unsorted[] = { { OTHER, 0, nobody }, { USER_OWNER, 6, nobody }, { GROUP_OWNER, 0, nobody } };
    FAILS("a malformed ACL is EINVAL", EINVAL, set("f", access_kind, 3, unsorted));
    FAILS("a default ACL on a file is EACCES", EACCES, set("f", default_kind, 3, plain));

    const struct entry inherited[] = { { USER_OWNER, 7, nobody }, { USER, 7, ALICE }, { GROUP_OWNER, 5, nobody }, { MASK, 7, nobody }, { OTHER, 0, nobody } };
    CHECK("a default ACL on a directory", set("d", default_kind, 5, inherited) == 0 && mode_of("d") == 0700);
    umask(077);
    CHECK("a file inherits it", close_all(open("d/f", O_CREAT | O_WRONLY, 0666)) >= 0 && bits_of("d/f", access_kind, USER, ALICE) == 7);
    CHECK("limited by the mode, not the umask", mode_of("d/f") == 0660 && bits_of("d/f", access_kind, MASK, nobody) == 6);
    CHECK("a directory inherits both kinds", mkdir("d/d", 0777) == 0 && bits_of("d/d", access_kind, USER, ALICE) == 7 && bits_of("d/d", default_kind, USER, ALICE) == 7 && mode_of("d/d") == 0770);
    CHECK("a fifo inherits", mkfifo("d/p", 0666) == 0 && mode_of("d/p") == 0660);
    CHECK("a symlink does not", symlink("x", "d/s") == 0 && mode_of("d/s") == 0777);
    umask(0);
    CHECK("removal of the default", removexattr("d", default_kind) == 0 && make_file("d/g", 0600) == 0 && getxattr("d/g", access_kind, NULL, 0) == -1);
}
