/* RELEASE, FORGET: what happens to files and directories that are deleted while in use. File handles. */
#include "checks.h"

void lifetimes(void)
{
    struct stat found;
    char path[PATH_MAX];
    CHECK("fixture", put("f", "still here") == 0);
    int file = open("f", O_RDWR);
    CHECK("unlink while open", unlink("f") == 0 && !exists("f"));
    CHECK("it has no links left", fstat(file, &found) == 0 && found.st_nlink == 0);
    CHECK("it still reads", holds_at(file, 0, "still here", 10));
    CHECK("it still writes", pwrite(file, "more", 4, 10) == 4 && holds_at(file, 0, "still heremore", 14));
    CHECK("it still truncates", ftruncate(file, 5) == 0 && fstat(file, &found) == 0 && found.st_size == 5);
    CHECK("it still syncs", fsync(file) == 0);
    CHECK("it still chmods", fchmod(file, 0640) == 0 && fstat(file, &found) == 0 && (found.st_mode & 07777) == 0640);
    CHECK("it still has xattrs", fsetxattr(file, "user.x", "1", 1, 0) == 0 || errno == EOPNOTSUPP);
    CHECK("its times can be set", futimens(file, (struct timespec[2]){ { 5, 5 }, { 6, 6 } }) == 0 && fstat(file, &found) == 0 && found.st_mtim.tv_sec == 6);
    CHECK("the name is free for another", put("f", "another") == 0 && holds("f", "another") && holds_at(file, 0, "still", 5));
    snprintf(path, sizeof path, "/proc/self/fd/%d", file);
    FAILS("it cannot be linked back", ENOENT, linkat(AT_FDCWD, path, AT_FDCWD, "back", AT_SYMLINK_FOLLOW));
    int second = open(path, O_RDONLY);
    CHECK("it can be opened again through /proc", second >= 0 ? holds_at(second, 0, "still", 5) : errno == ENOENT);
    if (second >= 0) { close(second); }
    close(file);

    bool churn = true;
    for (int i = 0; i < 200; i++) {
        file = open("churn", O_RDWR | O_CREAT | O_EXCL, 0600);
        churn &= file >= 0 && unlink("churn") == 0 && write(file, "12345", 5) == 5 && holds_at(file, 0, "12345", 5) && close(file) == 0;
    }
    CHECK("200 times create, unlink, write, close", churn);
    churn = true;
    for (int i = 0; i < 200; i++) { churn &= put("again", "abc") == 0 && holds("again", "abc") && unlink("again") == 0; }
    CHECK("200 times the same name", churn);

    CHECK("a directory to lose", mkdir("d", 0755) == 0);
    int directory = open("d", O_RDONLY), here = open(".", O_RDONLY);
    CHECK("rmdir of the working directory", chdir("d") == 0 && rmdir("../d") == 0);
    FAILS("create in it is ENOENT", ENOENT, open("x", O_CREAT | O_RDWR, 0600));
    FAILS("mkdir in it is ENOENT", ENOENT, mkdir("x", 0700));
    FAILS("symlink in it is ENOENT", ENOENT, symlink("a", "x"));
    FAILS("link into it is ENOENT", ENOENT, linkat(here, "f", AT_FDCWD, "x", 0));
    FAILS("rename into it is ENOENT", ENOENT, renameat(here, "f", AT_FDCWD, "x"));
    FAILS("lookup in it is ENOENT", ENOENT, access("x", F_OK));
    FAILS("getcwd is ENOENT", ENOENT, getcwd(path, sizeof path) == NULL ? -1 : 0);
    CHECK("stat of it works", fstat(directory, &found) == 0 && S_ISDIR(found.st_mode) && found.st_nlink < 2);
    DIR *stream = fdopendir(directory);
    int entries = 0;
    struct dirent *entry;
    while (stream != NULL && (entry = readdir(stream)) != NULL) { entries += entry->d_name[0] != '.'; }
    CHECK("it lists nothing", entries == 0);
    if (stream != NULL) { closedir(stream); }
    CHECK("back", fchdir(here) == 0);
    close(here);

    union { struct file_handle handle; char room[sizeof(struct file_handle) + MAX_HANDLE_SZ]; } space;
    memset(&space, 0, sizeof space);
    space.handle.handle_bytes = MAX_HANDLE_SZ;
    int mount_id;
    if (name_to_handle_at(AT_FDCWD, "f", &space.handle, &mount_id, 0) != 0) {
        skip("file handles", errno == EOPNOTSUPP ? "not exported" : strerror(errno));
        return;
    }
    here = open(".", O_RDONLY);
    file = open_by_handle_at(here, &space.handle, O_RDONLY);
    CHECK("open_by_handle_at", file >= 0 && holds_at(file, 0, "another", 7));
    if (file >= 0) { close(file); }
    CHECK("the handle survives a rename", rename("f", "renamed") == 0 && (file = open_by_handle_at(here, &space.handle, O_RDONLY)) >= 0 && holds_at(file, 0, "another", 7));
    close(file);
    int dropper = open("/proc/sys/vm/drop_caches", O_WRONLY);
    if (dropper >= 0) { (void)!write(dropper, "2", 1); close(dropper); }
    CHECK("and being forgotten", (file = open_by_handle_at(here, &space.handle, O_RDONLY)) >= 0 && holds_at(file, 0, "another", 7));
    close(file);
    CHECK("unlinked", unlink("renamed") == 0);
    /* A FUSE kernel sends the RELEASE of the close above without waiting, and keeps the inode until it is answered. */
    for (int tries = 0; tries < 100 && (file = open_by_handle_at(here, &space.handle, O_RDONLY)) >= 0; tries++) { close(file); tick(); }
    FAILS("then the handle is ESTALE", ESTALE, open_by_handle_at(here, &space.handle, O_RDONLY));
    bool reused = true;
    for (int i = 0; i < 50; i++) { char name[16]; snprintf(name, sizeof name, "new%d", i); reused &= make_file(name, 0600) == 0; }
    FAILS("also when its inode number may be in use again", ESTALE, reused ? open_by_handle_at(here, &space.handle, O_RDONLY) : 0);
    close(here);
}
