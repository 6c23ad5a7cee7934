/* What every file of the POSIX checks uses. A check prints one line; a group of checks is one function
 * that runs as root in a process and an empty directory of its own. */
#ifndef CHECKS_H
#define CHECKS_H
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

/* The last user and group are nobody's; root is not a member of any. */
enum { ALICE = 1000, BOB = 1001, STAFF = 2000, GUESTS = 2001 };

void report(bool good, int error, const char *name);
void report_failure_as(const char *name, long result, int error, int expected);
void skip(const char *name, const char *why);

/* CHECK: the expression is true. FAILS: it is -1 with this errno. */
#define CHECK(name, expression) do { errno = 0; bool good_ = (expression); report(good_, errno, name); } while (0)
#define FAILS(name, expected, expression) \
    do { errno = 0; long result_ = (long)(expression); report_failure_as(name, result_, errno, expected); } while (0)
/* The same as another user, who is in no other group. */
#define CHECK_AS(user, group, name, expression) \
    do { become(user, group); errno = 0; bool good_ = (expression); int error_ = errno; become_root(); report(good_, error_, name); } while (0)
#define FAILS_AS(user, group, name, expected, expression) \
    do { become(user, group); errno = 0; long result_ = (long)(expression); int error_ = errno; become_root(); \
         report_failure_as(name, result_, error_, expected); } while (0)
/* The expression succeeds and moves the time stamp (ctime_of, mtime_of) of path on, or leaves it. */
#define MOVES(name, stamp, path, expression) \
    do { int64_t before_ = stamp(path); tick(); errno = 0; bool good_ = (expression) == 0; report(good_ && stamp(path) > before_, errno, name); } while (0)
#define KEEPS(name, stamp, path, expression) \
    do { int64_t before_ = stamp(path); tick(); (void)!(expression); report(stamp(path) == before_, 0, name); } while (0)

void become(uid_t user, gid_t group);
void become_root(void);
void tick(void);

int make_file(const char *path, mode_t mode);             /* empty; 0 or -1 */
int put(const char *path, const char *text);              /* creates or truncates; 0 or -1 */
bool holds(const char *path, const char *text);
bool holds_at(int file, off_t offset, const void *bytes, size_t count);
bool zero_at(int file, off_t offset, size_t count);
int close_all(int file);                                  /* close that passes -1 through, for FAILS(open) */
bool exists(const char *path);                            /* symlinks are not followed */
struct stat stat_of(const char *path);                    /* all ones when there is none */
int64_t size_of(const char *path);
int mode_of(const char *path);                            /* 07777 bits */
int links_of(const char *path);
ino_t inode_of(const char *path);
int64_t ctime_of(const char *path);
int64_t mtime_of(const char *path);
int64_t atime_of(const char *path);
void fill(void *bytes, size_t count, unsigned seed);      /* deterministic noise */
char *repeat(char what, int count);                       /* a string, never freed */
bool kernel_at_least(int major, int minor);

void opens(void);
void directories(void);
void many_entries(void);
void names(void);
void links(void);
void renames(void);
void nodes(void);
void permissions(void);
void set_id_bits(void);
void access_lists(void);
void data(void);
void space(void);
void mappings(void);
void attributes(void);
void times(void);
void lifetimes(void);
void locks(void);
void whole_system(void);
void inode_flags(void);
void overlays(void);
void streams(void);
#endif
