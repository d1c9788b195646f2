// Frees blocks while the tracer's file takes nothing.
//
// The file "stalled" says that the disk is to stand still, "resume" that it is to go on; "caught_up", that it has all there
// was. An exec that fails has the tracer bring its file up to date, and waits for that, but not for ever.
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "sites.h"

COUNTS(freed_meanwhile);
COUNTS(stays);

enum { BLOCKS = 1000, WRITTEN = 80000, MANY = 600000, DEPTH = 24 };

SITE void *freed_meanwhile(size_t size) { return keep(malloc(size)); }
SITE void *stays(size_t size) { return keep(malloc(size)); }
SITE void *written(size_t size) { return keep(malloc(size)); }

SITE void *odd(unsigned path, int depth);

// A stack that has little in common with the one before, which takes many bytes to say.
SITE void *even(unsigned path, int depth) {
  if (depth == 0) return keep(malloc(100 + path % 5000));
  return keep(path & 1 ? odd(path >> 1, depth - 1) : even(path >> 1, depth - 1));
}

SITE void *odd(unsigned path, int depth) {
  if (depth == 0) return keep(malloc(100 + path % 5000));
  return keep(path & 1 ? odd(path >> 1, depth - 1) : even(path >> 1, depth - 1));
}

static void touch(const char *path) { close(open(path, O_WRONLY | O_CREAT, 0600)); }

static void flush(void) { execl("/nonexistent", "nonexistent", NULL); }

int main(void) {
  static void *blocks[BLOCKS];
  for (int i = 0; i < BLOCKS; i++) {
    blocks[i] = freed_meanwhile(100 + (size_t)i);
    count_allocated(&at_freed_meanwhile, 100 + (size_t)i);
    stays(100 + (size_t)i);
    count_allocated(&at_stays, 100 + (size_t)i);
  }
  flush();
  touch("stalled");
  // More than a pipe holds, so that the tracer waits for the disk; and then more events than it has room for.
  for (unsigned i = 0; i < WRITTEN; i++) written(100 + (i * 2654435761u >> 20) % 500);
  flush();
  for (unsigned i = 0; i < MANY; i++) free(even((i % 64) * 2654435761u >> 8, DEPTH));
  for (int i = 0; i < BLOCKS; i++) {
    free(blocks[i]);
    count_freed(&at_freed_meanwhile, 100 + (size_t)i);
  }
  touch("resume");
  for (int i = 0; i < 10000 && access("caught_up", F_OK) != 0; i++) usleep(10000);
  print_site(&at_freed_meanwhile);
  print_site(&at_stays);
  return 0;
}
