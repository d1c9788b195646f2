// A host that does something to the file run.prof of the working directory while it is written.
//
//   lose_file remove|truncate|replace
//
// An exec that fails has the tracer bring its file up to date.
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "sites.h"

COUNTS(allocate);

SITE void *allocate(size_t size) { return keep(malloc(size)); }

static void some(void) {
  for (size_t size = 60; size < 1000; size++) {
    allocate(size);
    count_allocated(&at_allocate, size);
  }
  execl("/nonexistent", "nonexistent", NULL);
}

int main(int argc, char **argv) {
  const char *what = argc > 1 ? argv[1] : "";
  some();
  if (strcmp(what, "truncate") == 0) {
    int fd = open("run.prof", O_WRONLY | O_TRUNC);
    if (fd >= 0) close(fd);
  } else {
    unlink("run.prof");
  }
  if (strcmp(what, "replace") == 0) {
    int fd = open("run.prof", O_WRONLY | O_CREAT | O_EXCL, 0600);
    if (fd < 0 || write(fd, "mine", 4) != 4) return 1;
    close(fd);
  }
  some();
  some();
  print_site(&at_allocate);
  return 3;
}
