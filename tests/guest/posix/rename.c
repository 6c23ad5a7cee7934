/* RENAME and RENAME2. */
#include "checks.h"

static int rename_with(const char *from, const char *to, unsigned flags) { return renameat2(AT_FDCWD, from, AT_FDCWD, to, flags); }

void renames(void)
{
    CHECK("fixture", put("a", "first") == 0 && put("b", "second") == 0 && mkdir("d", 0755) == 0 && mkdir("e", 0755) == 0);
    ino_t a = inode_of("a");
    MOVES("rename moves the file's ctime", ctime_of, "b", rename("b", "b2") || rename("b2", "b"));
    KEEPS("rename leaves the file's mtime", mtime_of, "b", rename("b", "b2") || rename("b2", "b"));
    CHECK("to a new name", rename("a", "c") == 0 && !exists("a") && inode_of("c") == a && holds("c", "first"));
    CHECK("over a file", rename("c", "b") == 0 && !exists("c") && inode_of("b") == a && holds("b", "first"));
    CHECK("to itself", rename("b", "b") == 0 && holds("b", "first"));
    CHECK("to another link of the same file leaves both", link("b", "b3") == 0 && rename("b", "b3") == 0 && exists("b") && exists("b3") && unlink("b3") == 0);
    MOVES("moves the source directory's mtime", mtime_of, "d", make_file("d/x", 0600) || rename("d/x", "e/x"));
    MOVES("moves the target directory's mtime", mtime_of, "d", rename("e/x", "d/x"));
    CHECK("into another directory", exists("d/x") && !exists("e/x"));
    FAILS("a file onto a directory is EISDIR", EISDIR, rename("b", "e"));
    FAILS("a directory onto a file is ENOTDIR", ENOTDIR, rename("e", "b"));
    FAILS("onto a full directory is ENOTEMPTY", ENOTEMPTY, rename("e", "d"));
    CHECK("onto an empty directory", rename("d", "e") == 0 && !exists("d") && exists("e/x"));
    FAILS("into its own subtree is EINVAL", EINVAL, rename("e", "e/sub"));
    CHECK("deeper", mkdir("e/s", 0755) == 0 && mkdir("e/s/t", 0755) == 0);
    FAILS("into its own subtree, deeper, is EINVAL", EINVAL, rename("e", "e/s/t/u"));
    FAILS("onto its own ancestor is ENOTEMPTY", ENOTEMPTY, rename("e/s/t", "e"));
    FAILS("of nothing is ENOENT", ENOENT, rename("nothing", "x"));
    FAILS("into nothing is ENOENT", ENOENT, rename("b", "nothing/x"));
    FAILS("from below a file is ENOTDIR", ENOTDIR, rename("b/x", "y"));
    FAILS("to below a file is ENOTDIR", ENOTDIR, rename("e", "b/x"));
    CHECK("of .", rename(".", "x") == -1 && (errno == EBUSY || errno == EINVAL));
    CHECK("a symlink, not its target", symlink("b", "soft") == 0 && rename("soft", "e/soft") == 0 && S_ISLNK(stat_of("e/soft").st_mode) && exists("b"));
    CHECK("over a symlink, not its target", make_file("plain", 0600) == 0 && rename("plain", "e/soft") == 0 && S_ISREG(stat_of("e/soft").st_mode) && holds("b", "first"));
    int file = open("e/soft", O_RDONLY);
    struct stat found;
    CHECK("what is renamed over lives on while open", put("over", "over") == 0 && rename("over", "e/soft") == 0 && fstat(file, &found) == 0 && found.st_nlink == 0);
    close(file);
    CHECK("a directory keeps its content", rename("e", "f") == 0 && exists("f/s/t") && exists("f/x"));
    CHECK("255 bytes to 255 bytes", make_file(repeat('p', 255), 0600) == 0 && rename(repeat('p', 255), repeat('q', 255)) == 0 && exists(repeat('q', 255)));

    FAILS("NOREPLACE onto a file is EEXIST", EEXIST, rename_with("b", "f/x", RENAME_NOREPLACE));
    FAILS("NOREPLACE onto itself is EEXIST", EEXIST, rename_with("b", "b", RENAME_NOREPLACE));
    CHECK("NOREPLACE to a new name", rename_with("b", "n", RENAME_NOREPLACE) == 0 && exists("n") && !exists("b"));
    CHECK("fixture for EXCHANGE", put("one", "1") == 0 && put("two", "22") == 0 && mkdir("dir", 0755) == 0 && put("dir/in", "in") == 0);
    CHECK("EXCHANGE two files", rename_with("one", "two", RENAME_EXCHANGE) == 0 && holds("one", "22") && holds("two", "1"));
    int links = links_of(".");
    CHECK("EXCHANGE a file and a directory", rename_with("one", "dir", RENAME_EXCHANGE) == 0 && holds("dir", "22") && holds("one/in", "in") && links_of(".") == links);
    CHECK("EXCHANGE between directories", rename_with("one", "f/x", RENAME_EXCHANGE) == 0 && exists("f/x/in") && S_ISREG(stat_of("one").st_mode));
    CHECK("EXCHANGE moved the link count along", links_of(".") == links - 1 && links_of("f") == 4);
    FAILS("EXCHANGE with nothing is ENOENT", ENOENT, rename_with("one", "nothing", RENAME_EXCHANGE));
    FAILS("EXCHANGE with an own descendant is EINVAL", EINVAL, rename_with("f", "f/s/t", RENAME_EXCHANGE));
    FAILS("EXCHANGE with NOREPLACE is EINVAL", EINVAL, rename_with("one", "two", RENAME_EXCHANGE | RENAME_NOREPLACE));
    FAILS("an unknown flag is EINVAL", EINVAL, rename_with("one", "two", 1u << 30));
    bool whiteout = rename_with("two", "moved", RENAME_WHITEOUT) == 0;
    struct stat left = stat_of("two");
    CHECK("WHITEOUT leaves a 0:0 character device", whiteout && holds("moved", "1") && S_ISCHR(left.st_mode) && left.st_rdev == makedev(0, 0));
    CHECK("a whiteout unlinks", unlink("two") == 0);
}
