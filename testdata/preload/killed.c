// Leaks blocks of known sizes in a known order until it is killed, and has others that live for a while.
//
// The file "flushed" says how many the tracer has certainly written: an exec that fails has it bring its file up to
// date. Its first eight bytes are the number.
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include "sites.h"

SITE void *leak(size_t size) { return keep(malloc(size)); }
SITE void *hold(size_t size) { return keep(malloc(size)); }

enum { HELD = 2000 };

int main(void) {
  static void *held[HELD];
  int fd = open("flushed", O_WRONLY | O_CREAT | O_TRUNC, 0600);
  for (uint64_t count = 0; count < 100000;) {
    // Of itself the tracer brings its file up to date where nobody has done so for a while.
    if (count % 500 == 0) usleep(30000);
    for (int i = 0; i < 100; i++, count++) {
      leak(100 + count % 1000);
      for (int j = 0; j < 10; j++) {
        void **block = &held[(count * 10 + (uint64_t)j) % HELD];
        free(*block);
        *block = hold(64 + (size_t)j);
      }
    }
    execl("/nonexistent", "nonexistent", NULL);
    if (pwrite(fd, &count, sizeof count, 0) != sizeof count) return 1;
  }
  return 0;
}
