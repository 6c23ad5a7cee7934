/* Who may do what: mode bits, ownership, sticky directories; set-id bits and who loses them. */
#include "checks.h"

static int open_for(const char *path, int flags) { return close_all(open(path, flags)); }

void permissions(void)
{
    CHECK("fixture", put("file", "text") == 0 && chown("file", ALICE, STAFF) == 0 && mkdir("dir", 0755) == 0 && mkdir("open", 0777) == 0);
    CHECK("chown shows", stat_of("file").st_uid == ALICE && stat_of("file").st_gid == STAFF);
    static const struct { int mode; uid_t user; gid_t group; bool reads, writes; } table[] = {
        { 0600, ALICE, GUESTS, true, true }, { 0400, ALICE, GUESTS, true, false }, { 0200, ALICE, GUESTS, false, true }, { 0000, ALICE, GUESTS, false, false },
        { 0060, BOB, STAFF, true, true }, { 0040, BOB, STAFF, true, false }, { 0606, BOB, STAFF, false, false }, { 0606, BOB, GUESTS, true, true },
        { 0660, BOB, GUESTS, false, false }, { 0066, ALICE, STAFF, false, false }, { 0004, BOB, GUESTS, true, false }, { 0002, BOB, GUESTS, false, true },
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        char name[80];
        chmod("file", (mode_t)table[i].mode);
        snprintf(name, sizeof name, "mode %04o for %s", table[i].mode, table[i].user == ALICE ? "the owner" : table[i].group == STAFF ? "the group" : "others");
        CHECK_AS(table[i].user, table[i].group, name,
            (open_for("file", O_RDONLY) >= 0) == table[i].reads && (open_for("file", O_WRONLY) >= 0) == table[i].writes);
    }
    CHECK("root reads mode 0", chmod("file", 0) == 0 && open_for("file", O_RDWR) >= 0);
    CHECK("readable again", chmod("file", 0644) == 0);
    CHECK_AS(ALICE, STAFF, "the owner may chmod", chmod("file", 0640) == 0);
    FAILS_AS(BOB, STAFF, "others may not chmod", EPERM, chmod("file", 0777));
    FAILS_AS(ALICE, STAFF, "the owner may not give away", EPERM, chown("file", BOB, (gid_t)-1));
    FAILS_AS(ALICE, STAFF, "nor to a foreign group", EPERM, chown("file", (uid_t)-1, GUESTS));
    CHECK_AS(ALICE, GUESTS, "but to a group of the own", chown("file", (uid_t)-1, GUESTS) == 0);
    FAILS_AS(BOB, GUESTS, "others may not chgrp", EPERM, chown("file", (uid_t)-1, GUESTS));
    CHECK("chown -1 -1 changes nothing", chown("file", (uid_t)-1, (gid_t)-1) == 0 && stat_of("file").st_uid == ALICE && stat_of("file").st_gid == GUESTS);
    KEEPS("nor the change time", ctime_of, "file", chown("file", (uid_t)-1, (gid_t)-1));
    CHECK("large ids", chown("file", 3000000000u, 4000000000u) == 0 && stat_of("file").st_uid == 3000000000u && stat_of("file").st_gid == 4000000000u);
    CHECK("back", chown("file", ALICE, STAFF) == 0 && chmod("file", 0600) == 0);
    MOVES("chmod moves ctime", ctime_of, "file", chmod("file", 0640));
    KEEPS("chmod leaves mtime", mtime_of, "file", chmod("file", 0644));
    MOVES("chown moves ctime", ctime_of, "file", chown("file", ALICE, GUESTS));
    KEEPS("a refused chmod leaves ctime", ctime_of, "file", (become(BOB, STAFF), chmod("file", 0777)));
    become_root();
    FAILS("chmod of nothing is ENOENT", ENOENT, chmod("nothing", 0600));
    FAILS("chown of nothing is ENOENT", ENOENT, chown("nothing", 1, 1));
    FAILS("chmod below a file is ENOTDIR", ENOTDIR, chmod("file/x", 0600));
    FAILS("chown below a file is ENOTDIR", ENOTDIR, chown("file/x", 1, 1));

    FAILS_AS(ALICE, STAFF, "no create without write on the directory", EACCES, make_file("dir/x", 0600));
    FAILS_AS(ALICE, STAFF, "no mkdir", EACCES, mkdir("dir/x", 0700));
    FAILS_AS(ALICE, STAFF, "no symlink", EACCES, symlink("x", "dir/x"));
    FAILS_AS(ALICE, STAFF, "no mknod", EACCES, mkfifo("dir/x", 0600));
    FAILS_AS(ALICE, STAFF, "no link", EACCES, link("file", "dir/x"));
    FAILS_AS(ALICE, STAFF, "no rename into", EACCES, rename("file", "dir/x"));
    CHECK("content for dir", make_file("dir/f", 0666) == 0 && mkdir("dir/d", 0777) == 0);
    FAILS_AS(ALICE, STAFF, "no unlink", EACCES, unlink("dir/f"));
    FAILS_AS(ALICE, STAFF, "no rmdir", EACCES, rmdir("dir/d"));
    FAILS_AS(ALICE, STAFF, "no rename out of", EACCES, rename("dir/f", "open/f"));
    CHECK("dir without x", chmod("dir", 0644) == 0);
    FAILS_AS(ALICE, STAFF, "no lookup without search permission", EACCES, open("dir/f", O_RDONLY));
    FAILS_AS(ALICE, STAFF, "no stat without search permission", EACCES, stat("dir/f", &(struct stat){ 0 }));
    CHECK_AS(ALICE, STAFF, "but a listing", open_for("dir", O_RDONLY | O_DIRECTORY) >= 0);
    CHECK("dir without r", chmod("dir", 0711) == 0);
    FAILS_AS(ALICE, STAFF, "no listing without read permission", EACCES, open("dir", O_RDONLY | O_DIRECTORY));
    CHECK_AS(ALICE, STAFF, "but a lookup", open_for("dir/f", O_RDONLY) >= 0);
    CHECK("a file of root's", put("ro", "x") == 0 && chmod("ro", 0644) == 0);
    FAILS_AS(ALICE, STAFF, "truncate without write permission is EACCES", EACCES, truncate("ro", 0));
    FAILS_AS(ALICE, STAFF, "access(W_OK) by the real user", EACCES, faccessat(AT_FDCWD, "ro", W_OK, AT_EACCESS));
    CHECK("access(X_OK) for root without any x", access("ro", X_OK) == -1 && errno == EACCES);
    CHECK("access(X_OK) for root with one x", chmod("ro", 0010) == 0 && access("ro", X_OK) == 0);

    CHECK("sticky directory", mkdir("sticky", 01777) == 0 && put("sticky/a", "a") == 0 && chown("sticky/a", ALICE, STAFF) == 0 && mkdir("sticky/d", 0777) == 0 && chown("sticky/d", ALICE, STAFF) == 0);
    FAILS_AS(BOB, STAFF, "sticky: others may not unlink", EPERM, unlink("sticky/a"));
    FAILS_AS(BOB, STAFF, "sticky: others may not rmdir", EPERM, rmdir("sticky/d"));
    FAILS_AS(BOB, STAFF, "sticky: others may not rename", EPERM, rename("sticky/a", "sticky/b"));
    CHECK_AS(BOB, STAFF, "sticky: others may create", make_file("sticky/bob", 0600) == 0);
    FAILS_AS(BOB, STAFF, "sticky: nor rename over", EPERM, rename("sticky/bob", "sticky/a"));
    CHECK_AS(ALICE, STAFF, "sticky: the owner may", rename("sticky/a", "sticky/c") == 0 && unlink("sticky/c") == 0 && rmdir("sticky/d") == 0);
    CHECK("sticky directory of bob's", chown("sticky", BOB, STAFF) == 0 && make_file("sticky/r", 0600) == 0);
    CHECK_AS(BOB, STAFF, "sticky: the directory's owner may", unlink("sticky/r") == 0);

    CHECK("sgid directory", mkdir("sgid", 0777) == 0 && chown("sgid", 0, STAFF) == 0 && chmod("sgid", 02777) == 0);
    CHECK_AS(ALICE, GUESTS, "sgid: files inherit the group", make_file("sgid/f", 0600) == 0 && stat_of("sgid/f").st_gid == STAFF);
    CHECK_AS(ALICE, GUESTS, "sgid: directories inherit group and bit", mkdir("sgid/d", 0755) == 0 && stat_of("sgid/d").st_gid == STAFF && mode_of("sgid/d") == 02755);
    CHECK_AS(ALICE, GUESTS, "sgid: symlinks inherit the group", symlink("x", "sgid/s") == 0 && stat_of("sgid/s").st_gid == STAFF);
    CHECK_AS(ALICE, GUESTS, "sgid: fifos inherit the group", mkfifo("sgid/p", 0600) == 0 && stat_of("sgid/p").st_gid == STAFF);
    CHECK_AS(ALICE, GUESTS, "sgid: an executable of a foreign group loses the bit", close_all(open("sgid/x", O_CREAT | O_WRONLY, 02755)) >= 0 && mode_of("sgid/x") == 0755);
}

/* Asks for nothing else, so that nothing else makes the kernel look again. */
static int mode_alone(const char *path)
{
    struct statx found = {0};
    return statx(AT_FDCWD, path, 0, STATX_MODE, &found) == 0 ? found.stx_mode & 07777 : -1;
}

void set_id_bits(void)
{
    CHECK("fixture", put("f", "0123456789") == 0 && chown("f", ALICE, STAFF) == 0);
    CHECK("chmod sets both", chmod("f", 06755) == 0 && mode_of("f") == 06755);
    CHECK("chmod clears them", chmod("f", 0755) == 0 && mode_of("f") == 0755);
    CHECK_AS(ALICE, STAFF, "the owner sets suid", chmod("f", 04755) == 0 && mode_of("f") == 04755);
    CHECK_AS(ALICE, GUESTS, "sgid is dropped for a foreign group", chmod("f", 02755) == 0 && mode_of("f") == 0755);
    CHECK("chown by root clears both", chmod("f", 06755) == 0 && chown("f", ALICE, GUESTS) == 0 && mode_of("f") == 0755);
    CHECK_AS(ALICE, GUESTS, "chown by the owner clears both", chmod("f", 06755) == 0 && chown("f", (uid_t)-1, GUESTS) == 0 && mode_of("f") == 0755);
    CHECK("sgid without group x stays at chown", chmod("f", 02745) == 0 && chown("f", ALICE, STAFF) == 0 && mode_of("f") == 02745);
    CHECK("a directory keeps sgid at chown", mkdir("d", 0755) == 0 && chmod("d", 02755) == 0 && chown("d", ALICE, STAFF) == 0 && mode_of("d") == 02755);
    CHECK("writable by all", chmod("f", 06777) == 0 && chown("f", ALICE, STAFF) == 0 && chmod("f", 06777) == 0);
    int file;
    become(BOB, GUESTS);
    file = open("f", O_WRONLY);
    CHECK("a write by others clears both", write(file, "x", 1) == 1 && mode_of("f") == 0777);
    close(file);
    become_root();
    CHECK("again", chmod("f", 06777) == 0);
    CHECK_AS(BOB, GUESTS, "a truncate by others clears both", truncate("f", 3) == 0 && mode_of("f") == 0777);
    CHECK("and again", chmod("f", 06777) == 0);
    CHECK_AS(BOB, GUESTS, "O_TRUNC by others clears both", close_all(open("f", O_WRONLY | O_TRUNC)) >= 0 && mode_of("f") == 0777);
    CHECK("and again for fallocate", chmod("f", 06777) == 0);
    become(BOB, GUESTS);
    file = open("f", O_WRONLY);
    CHECK("a fallocate by others clears both", fallocate(file, 0, 0, 4096) == 0 && mode_of("f") == 0777);
    close(file);
    become_root();
    CHECK("and for root", chmod("f", 06777) == 0);
    file = open("f", O_WRONLY);
    CHECK("a write by root keeps them", write(file, "x", 1) == 1 && mode_of("f") == 06777);
    CHECK("a fallocate by root keeps them", fallocate(file, 0, 0, 4096) == 0 && mode_of("f") == 06777);
    CHECK("a hole by root keeps them", fallocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096) == 0 && mode_of("f") == 06777);
    int other = put("other", "0123456789") == 0 ? open("other", O_RDONLY) : -1;
    CHECK("a copy by root keeps them", copy_file_range(other, NULL, file, NULL, 5, 0) == 5 && mode_of("f") == 06777);
    close(file);
    become(BOB, GUESTS);
    file = open("f", O_WRONLY);
    CHECK("a copy by others clears both", copy_file_range(other, NULL, file, NULL, 5, 0) == 5 && mode_of("f") == 0777);
    close(file);
    become_root();
    close(other);
    CHECK("both without group x", chmod("f", 06767) == 0);
    become(BOB, GUESTS);
    file = open("f", O_WRONLY);
    CHECK("a fallocate by who is not in the group clears both", fallocate(file, 0, 0, 4096) == 0 && mode_of("f") == 0767);
    close(file);
    become_root();
    CHECK("sgid without group x", chmod("f", 02767) == 0);
    become(ALICE, STAFF);
    file = open("f", O_WRONLY);
    CHECK("a fallocate by who is in it keeps it", fallocate(file, 0, 0, 4096) == 0 && mode_of("f") == 02767);
    CHECK("and a write", write(file, "x", 1) == 1 && mode_of("f") == 02767);
    close(file);
    become_root();
    CHECK("both without group x, of the owner", chmod("f", 06767) == 0);
    become(ALICE, STAFF);
    file = open("f", O_WRONLY);
    CHECK("a write by who is in the group clears suid alone", write(file, "x", 1) == 1 && mode_of("f") == 02767);
    close(file);
    become_root();
    CHECK("chown of nobody to nobody clears suid", chmod("f", 04777) == 0 && chown("f", (uid_t)-1, (gid_t)-1) == 0 && mode_of("f") == 0777);
    CHECK("suid without sgid", chmod("f", 04777) == 0);
    become(BOB, GUESTS);
    file = open("f", O_WRONLY);
    CHECK("suid alone is cleared", write(file, "x", 1) == 1 && mode_of("f") == 0777);
    close(file);
    become_root();
    CHECK("and for O_DIRECT", chmod("f", 06777) == 0 && mode_alone("f") == 06777);
    void *block = NULL;
    become(BOB, GUESTS);
    file = open("f", O_WRONLY | O_DIRECT);
    CHECK("a direct write by others clears both, at once", posix_memalign(&block, 4096, 4096) == 0 && write(file, memset(block, 1, 4096), 4096) == 4096 && mode_alone("f") == 0777);
    free(block);
    close(file);
    become_root();
    CHECK("all twelve bits", chmod("f", 07777) == 0 && mode_of("f") == 07777 && chmod("f", 0) == 0 && mode_of("f") == 0);
    CHECK("fchmod", (file = open("f", O_RDONLY)) >= 0 && fchmod(file, 0644) == 0 && mode_of("f") == 0644);
    CHECK("fchown", fchown(file, BOB, GUESTS) == 0 && stat_of("f").st_uid == BOB && stat_of("f").st_gid == GUESTS);
    close(file);
}
