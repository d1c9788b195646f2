// A daemon: forks twice, leaves its session, its directory and all its descriptors, and goes on allocating and freeing.
// Its parents end by the C library's own daemon(), which does not come by anybody's _exit, or at once.
//
//   daemon daemon|double
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sites.h"

enum { BLOCKS = 50, SIZE = 120 };

COUNTS(before_the_daemon);
COUNTS(in_the_daemon);

SITE void *before_the_daemon(size_t size) { return keep(malloc(size)); }
SITE void *in_the_daemon(size_t size) { return keep(malloc(size)); }

int main(int argc, char **argv) {
  void *blocks[BLOCKS];
  for (int i = 0; i < BLOCKS; i++) {
    blocks[i] = before_the_daemon(SIZE + i);
    count_allocated(&at_before_the_daemon, SIZE + i);
  }
  // Whoever runs this waits for its end by a pipe that only the daemon still has, as its stderr.
  int directory = open(".", O_RDONLY | O_DIRECTORY);
  if (argc > 1 && strcmp(argv[1], "daemon") == 0) {
    if (daemon(1, 1) != 0) return 1;
  } else {
    if (fork() != 0) _exit(0);
    setsid();
    if (fork() != 0) _exit(0);
  }
  TAKE_ROLE("daemon");
  umask(077);
  if (chdir("/") != 0) return 1;
  for (int fd = 0; fd < 1024; fd++) {
    if (fd != directory && fd != 1 && fd != 2) close(fd);
  }
  for (int i = 0; i < BLOCKS / 2; i++) {
    free(blocks[i]);
    count_freed(&at_before_the_daemon, SIZE + i);
    keep(in_the_daemon(SIZE + i));
    count_allocated(&at_in_the_daemon, SIZE + i);
  }
  print_site(&at_before_the_daemon);
  print_site(&at_in_the_daemon);
  fflush(stdout);
  return 0;
}
