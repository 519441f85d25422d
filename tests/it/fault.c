/* A disk that fails: preloaded into docket, it counts the calls that write, sync, shorten or remove a file whose name
 * contains FAULT_FILE, and at number FAULT_AT it ends the process (FAULT_KIND=kill) or answers an error (eio, enospc),
 * FAULT_TIMES times in a row. The count so far stands in the file FAULT_COUNT, if one is named. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static atomic_long calls;

static int concerns(const char *path) {
    const char *wanted = getenv("FAULT_FILE");
    return wanted && strstr(path, wanted) != NULL;
}

/* 1 where this call is to fail, with errno set. */
static int fails(void) {
    const char *at = getenv("FAULT_AT"), *kind = getenv("FAULT_KIND"), *times = getenv("FAULT_TIMES");
    const char *tally = getenv("FAULT_COUNT");
    long number = atomic_fetch_add(&calls, 1) + 1;
    if (tally) {
        FILE *file = fopen(tally, "w");
        if (file) {
            fprintf(file, "%ld", number);
            fclose(file);
        }
    }
    if (!at || !kind || number < atol(at) || number >= atol(at) + (times ? atol(times) : 1)) return 0;
    if (strcmp(kind, "kill") == 0) kill(getpid(), SIGKILL);
    errno = strcmp(kind, "enospc") == 0 ? ENOSPC : EIO;
    return 1;
}

static int fd_fails(int fd) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return concerns(path) && fails();
}

#define REAL(name) static __typeof__(&name) real; if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

ssize_t pwrite(int fd, const void *bytes, size_t length, off_t at) {
    REAL(pwrite);
    return fd_fails(fd) ? -1 : real(fd, bytes, length, at);
}
ssize_t pwrite64(int fd, const void *bytes, size_t length, off64_t at) {
    REAL(pwrite64);
    return fd_fails(fd) ? -1 : real(fd, bytes, length, at);
}
ssize_t write(int fd, const void *bytes, size_t length) {
    REAL(write);
    return fd_fails(fd) ? -1 : real(fd, bytes, length);
}
int fsync(int fd) {
    REAL(fsync);
    return fd_fails(fd) ? -1 : real(fd);
}
int fdatasync(int fd) {
    REAL(fdatasync);
    return fd_fails(fd) ? -1 : real(fd);
}
int ftruncate(int fd, off_t length) {
    REAL(ftruncate);
    return fd_fails(fd) ? -1 : real(fd, length);
}
int ftruncate64(int fd, off64_t length) {
    REAL(ftruncate64);
    return fd_fails(fd) ? -1 : real(fd, length);
}
int unlink(const char *path) {
    REAL(unlink);
    return concerns(path) && fails() ? -1 : real(path);
}
int rename(const char *from, const char *to) {
    REAL(rename);
    return (concerns(from) || concerns(to)) && fails() ? -1 : real(from, to);
}
