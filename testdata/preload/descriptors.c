// What programs do to their descriptors, their directory, their root and their rights, between one flush and the next.
//
//   descriptors close          closes all but stdout
//   descriptors close_range    the same at once
//   descriptors reuse FILE     has a file of its own under every number there is
//   descriptors exhaust        opens as many as there may be, and counts them
//   descriptors list           lists them
//   descriptors chdir          leaves its directory
//   descriptors chroot FOLDER  leaves its root
//   descriptors drop           becomes somebody else, who may not write where the file is
//   descriptors limit          may not write files of more than 16 KiB, and allocates a lot
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <grp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "sites.h"

// Older headers do not know it.
#ifndef SYS_close_range
#define SYS_close_range 436
#endif

enum { BLOCKS = 200, SIZE = 100, MANY = 1000, NOBODY = 65534 };

COUNTS(before_it);
COUNTS(after_it);

SITE void *before_it(size_t size) { return keep(malloc(size)); }
SITE void *after_it(size_t size) { return keep(malloc(size)); }

static int failed(const char *what) {
  printf("%s: %s\n", what, strerror(errno));
  return 1;
}

static int reuse(const char *path) {
  int file = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
  if (file < 0) return failed(path);
  for (int fd = 3; fd < MANY; fd++) {
    if (fd != file) dup2(file, fd);
  }
  if (write(file, "mine", 4) != 4) return failed(path);
  return 0;
}

static int exhaust(void) {
  int opened = 0;
  while (open("/dev/null", O_RDONLY) >= 0) opened++;
  int error = errno;
  // Room for what the C library may need, but not for more.
  printf("opened %d, then: %s\n", opened, strerror(error));
  return 0;
}

static int list(void) {
  DIR *folder = opendir("/proc/self/fd");
  if (folder == NULL) return failed("/proc/self/fd");
  for (struct dirent *entry; (entry = readdir(folder)) != NULL;) {
    if (atoi(entry->d_name) > 2) printf("%s%s\n", entry->d_name, atoi(entry->d_name) == dirfd(folder) ? " is this" : "");
  }
  closedir(folder);
  for (int fd = 0; fd < MANY; fd++) {
    if (fcntl(fd, F_GETFD) >= 0) printf("%d is open\n", fd);
  }
  return 0;
}

static int drop(void) {
  if (setgroups(0, NULL) != 0 || setgid(NOBODY) != 0 || setuid(NOBODY) != 0) return failed("setuid");
  return 0;
}

static int limit(void) {
  struct rlimit small = {16 << 10, 16 << 10};
  if (setrlimit(RLIMIT_FSIZE, &small) != 0) return failed("setrlimit");
  unsigned size = 1;
  for (int i = 0; i < 200000; i++) {
    size = size * 1664525 + 1013904223;
    void *block = keep(malloc(size >> 20));
    if (i % 10 != 0) free(block);
  }
  usleep(50000);
  return 0;
}

static int act(const char *how, const char *path) {
  if (strcmp(how, "close") == 0) {
    for (int fd = 0; fd < MANY; fd++) {
      if (fd != 1) close(fd);
    }
  }
  if (strcmp(how, "close_range") == 0) {
    syscall(SYS_close_range, 0, 0, 0);
    syscall(SYS_close_range, 2, ~0U, 0);
  }
  if (strcmp(how, "reuse") == 0) return reuse(path);
  if (strcmp(how, "exhaust") == 0) return exhaust();
  if (strcmp(how, "list") == 0) return list();
  if (strcmp(how, "chdir") == 0 && chdir("/") != 0) return failed("chdir");
  if (strcmp(how, "chroot") == 0 && (chroot(path) != 0 || chdir("/") != 0)) return failed("chroot");
  if (strcmp(how, "drop") == 0) return drop();
  if (strcmp(how, "limit") == 0) return limit();
  return 0;
}

int main(int argc, char **argv) {
  struct rlimit few = {MANY, MANY};
  setrlimit(RLIMIT_NOFILE, &few);
  for (int i = 0; i < BLOCKS; i++) {
    before_it(SIZE + i);
    count_allocated(&at_before_it, SIZE + i);
  }
  // Flushes come every ten milliseconds.
  usleep(50000);
  if (argc > 1 && act(argv[1], argc > 2 ? argv[2] : "") != 0) return 1;
  for (int i = 0; i < BLOCKS; i++) {
    after_it(SIZE + i);
    count_allocated(&at_after_it, SIZE + i);
    usleep(500);
  }
  if (argc > 2 && strcmp(argv[1], "reuse") == 0) {
    struct stat status;
    printf("its own file has %d bytes\n", stat(argv[2], &status) == 0 ? (int)status.st_size : -1);
  }
  print_site(&at_before_it);
  print_site(&at_after_it);
}
