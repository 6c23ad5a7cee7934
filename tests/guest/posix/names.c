/* LOOKUP, CREATE, MKDIR, SYMLINK, READLINK, UNLINK, LINK: names, their limits, and hard links. */
#include "checks.h"

static bool listed(const char *directory, const char *name)
{
    DIR *stream = opendir(directory);
    struct dirent *entry;
    bool found = false;
    while (stream != NULL && (entry = readdir(stream)) != NULL) { found |= strcmp(entry->d_name, name) == 0; }
    if (stream != NULL) { closedir(stream); }
    return found;
}

void names(void)
{
    char *longest = repeat('n', 255), *longer = repeat('n', 256);
    CHECK("255 bytes make a file", make_file(longest, 0600) == 0 && exists(longest));
    CHECK("255 bytes are listed", listed(".", longest));
    FAILS("256 bytes to create is ENAMETOOLONG", ENAMETOOLONG, make_file(longer, 0600));
    FAILS("256 bytes to stat is ENAMETOOLONG", ENAMETOOLONG, access(longer, F_OK));
    FAILS("256 bytes to mkdir is ENAMETOOLONG", ENAMETOOLONG, mkdir(longer, 0700));
    FAILS("256 bytes to symlink is ENAMETOOLONG", ENAMETOOLONG, symlink("x", longer));
    FAILS("256 bytes to link is ENAMETOOLONG", ENAMETOOLONG, link(longest, longer));
    FAILS("256 bytes to mknod is ENAMETOOLONG", ENAMETOOLONG, mknod(longer, S_IFIFO | 0600, 0));
    FAILS("256 bytes to rename to is ENAMETOOLONG", ENAMETOOLONG, rename(longest, longer));
    FAILS("256 bytes to rename from is ENAMETOOLONG", ENAMETOOLONG, rename(longer, "short"));
    FAILS("256 bytes to unlink is ENAMETOOLONG", ENAMETOOLONG, unlink(longer));
    FAILS("256 bytes to rmdir is ENAMETOOLONG", ENAMETOOLONG, rmdir(longer));
    CHECK("255 bytes rename", rename(longest, "short") == 0 && rename("short", longest) == 0);
    CHECK("255 bytes unlink", unlink(longest) == 0 && !exists(longest));
    FAILS("a path of PATH_MAX is ENAMETOOLONG", ENAMETOOLONG, access(repeat('/', PATH_MAX), F_OK));

    static const char *const odd[] = {
        " ", "  two  ", "new\nline", "tab\tinside", "back\\slash", "-rf", "*", "...", ".hidden", "\x01", "\x7f", "quote'\"", "percent%s%n", "\xff\xfe\x80",
        "na\xc3\xafve", "nai\xcc\x88ve", "\xf0\x9f\x90\xa7", "UPPER", "upper", "a:b", "con", "trailing.", "$(x)", "semi;colon",
    };
    bool made = true, seen = true, gone = true;
    for (size_t i = 0; i < sizeof odd / sizeof *odd; i++) { made &= put(odd[i], odd[i]) == 0; }
    for (size_t i = 0; i < sizeof odd / sizeof *odd; i++) { seen &= listed(".", odd[i]) && holds(odd[i], odd[i]); }
    CHECK("odd bytes make files", made);
    CHECK("odd bytes stay apart and are listed as they are", seen);
    for (size_t i = 0; i < sizeof odd / sizeof *odd; i++) { gone &= unlink(odd[i]) == 0 && !exists(odd[i]); }
    CHECK("odd bytes go away", gone);
    bool all = true;
    for (int value = 1; value < 256; value++) {
        char name[] = { 'b', (char)value, 0 };
        if (value != '/') { all &= make_file(name, 0600) == 0 && exists(name) && unlink(name) == 0; }
    }
    CHECK("every byte but / and NUL", all);

    CHECK("dot is the directory", inode_of(".") == inode_of("../name"));
    FAILS("mkdir . is EEXIST", EEXIST, mkdir(".", 0700));
    FAILS("mkdir .. is EEXIST", EEXIST, mkdir("..", 0700));
    FAILS("rmdir . is EINVAL", EINVAL, rmdir("."));
    CHECK("sub", mkdir("sub", 0755) == 0 && mkdir("sub/sub", 0755) == 0);
    FAILS("rmdir sub/.. is ENOTEMPTY", ENOTEMPTY, rmdir("sub/sub/.."));
    FAILS("unlink . is EISDIR", EISDIR, unlink("."));
    CHECK("sub/.. is here", inode_of("sub/..") == inode_of("."));
    CHECK("many slashes are one", exists("sub////sub///") && exists("./././sub"));

    char *deep = malloc(8192);
    int depth = 0;
    bool down = true;
    int here = open(".", O_RDONLY);
    while (depth < 60 && down) { down = mkdir("deep", 0755) == 0 && chdir("deep") == 0; depth++; }
    CHECK("60 levels of directories", down);
    CHECK("getcwd names all levels", getcwd(deep, 8192) != NULL && strlen(deep) > 60 * 5);
    bool up = true;
    while (depth-- > 0 && up) { up = chdir("..") == 0 && rmdir("deep") == 0; }
    CHECK("and back up, removing them", up);
    CHECK("the start is where it was", fchdir(here) == 0 && exists("sub"));
    close(here);
}

static void symbolic(void)
{
    char target[PATH_MAX + 1] = { 0 };
    CHECK("symlink", symlink("somewhere/else", "soft") == 0);
    CHECK("readlink gives it back", readlink("soft", target, PATH_MAX) == 14 && strcmp(target, "somewhere/else") == 0);
    CHECK("its size is the target's length", size_of("soft") == 14);
    CHECK("it is a symlink with mode 0777", S_ISLNK(stat_of("soft").st_mode) && mode_of("soft") == 0777);
    memset(target, 0, sizeof target);
    CHECK("readlink cuts", readlink("soft", target, 4) == 4 && strcmp(target, "some") == 0);
    FAILS("readlink of a file is EINVAL", EINVAL, readlink("file", target, PATH_MAX));
    FAILS("readlink of nothing is ENOENT", ENOENT, readlink("nothing", target, PATH_MAX));
    FAILS("readlink with no room is EINVAL", EINVAL, readlink("soft", target, 0));
    FAILS("symlink onto a file is EEXIST", EEXIST, symlink("x", "file"));
    FAILS("symlink onto a symlink is EEXIST", EEXIST, symlink("x", "soft"));
    FAILS("empty target is ENOENT", ENOENT, symlink("", "empty"));
    FAILS("symlink in nothing is ENOENT", ENOENT, symlink("x", "nothing/x"));
    FAILS("symlink below a file is ENOTDIR", ENOTDIR, symlink("x", "file/x"));
    char *most = repeat('t', PATH_MAX - 1);
    CHECK("4095 bytes of target", symlink(most, "most") == 0);
    memset(target, 0, sizeof target);
    CHECK("all 4095 come back", readlink("most", target, PATH_MAX) == PATH_MAX - 1 && strcmp(target, most) == 0 && size_of("most") == PATH_MAX - 1);
    FAILS("4096 bytes are ENAMETOOLONG", ENAMETOOLONG, symlink(repeat('t', PATH_MAX), "toomuch"));
    CHECK("1000 bytes of target", symlink(repeat('m', 1000), "medium") == 0 && readlink("medium", target, PATH_MAX) == 1000);
    CHECK("a loop", symlink("loop2", "loop1") == 0 && symlink("loop1", "loop2") == 0);
    FAILS("a loop to open is ELOOP", ELOOP, open("loop1", O_RDONLY));
    FAILS("a loop in the middle is ELOOP", ELOOP, open("loop1/x", O_RDONLY));
    FAILS("a loop to chmod is ELOOP", ELOOP, chmod("loop1", 0600));
    CHECK("a loop unlinks", unlink("loop1") == 0 && unlink("loop2") == 0);
    bool chained = symlink("file", "chain0") == 0;
    for (int i = 1; i < 41; i++) {
        char from[16], to[16];
        snprintf(from, sizeof from, "chain%d", i - 1);
        snprintf(to, sizeof to, "chain%d", i);
        chained &= symlink(from, to) == 0;
    }
    CHECK("a chain of 40 leads on", chained && access("chain39", F_OK) == 0);
    FAILS("a chain of 41 is ELOOP", ELOOP, access("chain40", F_OK));
    CHECK("dir", mkdir("dir", 0755) == 0 && symlink("dir", "todir") == 0);
    CHECK("through a symlink to a directory", make_file("todir/inside", 0600) == 0 && exists("dir/inside"));
    FAILS("rmdir of a symlink to a directory is ENOTDIR", ENOTDIR, rmdir("todir"));
    CHECK("unlink removes the symlink, not the target", unlink("todir") == 0 && exists("dir/inside"));
    CHECK("lchown of a symlink", lchown("soft", ALICE, STAFF) == 0 && stat_of("soft").st_uid == ALICE && stat_of("soft").st_gid == STAFF);
    struct timespec when[2] = { { 1000, 1 }, { 2000, 2 } };
    CHECK("times of a symlink", utimensat(AT_FDCWD, "soft", when, AT_SYMLINK_NOFOLLOW) == 0 && mtime_of("soft") == 2000000000002);
}

void links(void)
{
    CHECK("fixture", put("file", "linked") == 0);
    CHECK("a new file has one link", links_of("file") == 1);
    MOVES("link moves the file's ctime", ctime_of, "file", link("file", "second"));
    CHECK("two links", links_of("file") == 2 && links_of("second") == 2 && inode_of("file") == inode_of("second"));
    CHECK("one file", put("second", "changed") == 0 && holds("file", "changed"));
    CHECK("one mode", chmod("second", 0604) == 0 && mode_of("file") == 0604);
    MOVES("link moves the directory's mtime", mtime_of, ".", link("file", "third"));
    CHECK("unlink counts down", unlink("third") == 0 && links_of("file") == 2);
    MOVES("unlink moves the file's ctime", ctime_of, "second", unlink("file"));
    CHECK("the other name stays", links_of("second") == 1 && holds("second", "changed"));
    CHECK("file again", link("second", "file") == 0);
    FAILS("onto a file is EEXIST", EEXIST, link("file", "second"));
    CHECK("dir2", mkdir("dir2", 0755) == 0);
    FAILS("onto a directory is EEXIST", EEXIST, link("file", "dir2"));
    FAILS("of a directory is EPERM", EPERM, link("dir2", "dir3"));
    FAILS("of nothing is ENOENT", ENOENT, link("nothing", "x"));
    FAILS("into nothing is ENOENT", ENOENT, link("file", "nothing/x"));
    FAILS("below a file is ENOTDIR", ENOTDIR, link("file", "file/x"));
    FAILS("from below a file is ENOTDIR", ENOTDIR, link("file/x", "y"));
    CHECK("into another directory", link("file", "dir2/name") == 0 && links_of("file") == 3);
    CHECK("of a symlink itself", symlink("file", "s") == 0 && link("s", "s2") == 0 && links_of("s") == 2 && S_ISLNK(stat_of("s2").st_mode));
    CHECK("of a symlink's target", linkat(AT_FDCWD, "s", AT_FDCWD, "followed", AT_SYMLINK_FOLLOW) == 0 && inode_of("followed") == inode_of("file"));
    CHECK("of a fifo", mkfifo("fifo", 0600) == 0 && link("fifo", "fifo2") == 0 && links_of("fifo") == 2);
    bool many = true;
    for (int i = 0; i < 300; i++) {
        char name[16];
        snprintf(name, sizeof name, "dir2/l%d", i);
        many &= link("file", name) == 0;
    }
    CHECK("300 links", many && links_of("file") == 304);
    for (int i = 0; i < 300; i++) {
        char name[16];
        snprintf(name, sizeof name, "dir2/l%d", i);
        many &= unlink(name) == 0;
    }
    CHECK("300 unlinks", many && links_of("file") == 4);
    FAILS("unlink of nothing is ENOENT", ENOENT, unlink("nothing"));
    FAILS("unlink of a directory is EISDIR", EISDIR, unlink("dir2"));
    FAILS("unlink below a file is ENOTDIR", ENOTDIR, unlink("file/x"));
    FAILS("unlink with a trailing slash is ENOTDIR", ENOTDIR, unlink("file/"));
    MOVES("unlink moves the directory's mtime", mtime_of, ".", unlink("fifo2"));
    symbolic();
}
