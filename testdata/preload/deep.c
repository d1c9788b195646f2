// Allocations under 100, 900 and 1,500 frames of recursion.
#include <stdlib.h>

#include "sites.h"

COUNTS(under_100);
COUNTS(under_900);
COUNTS(under_1500);

SITE void *under_100(size_t size) { return keep(malloc(size)); }
SITE void *under_900(size_t size) { return keep(malloc(size)); }
SITE void *under_1500(size_t size) { return keep(malloc(size)); }

// Frames differ in size, so that no fixed stride finds the next one.
SITE int descend(int frames, void *(*site)(size_t), size_t size) {
  volatile char local[1 + 8 * (frames % 40)];
  local[0] = (char)frames;
  if (frames == 0) {
    site(size);
  } else {
    descend(frames - 1, site, size);
  }
  return local[0];
}

static void exercise(struct site *counts, int frames, void *(*site)(size_t)) {
  for (size_t size = 100; size < 110; size++) {
    descend(frames, site, size);
    count_allocated(counts, size);
  }
}

int main(void) {
  exercise(&at_under_100, 100, under_100);
  exercise(&at_under_900, 900, under_900);
  exercise(&at_under_1500, 1500, under_1500);
  print_site(&at_under_100);
  print_site(&at_under_900);
  print_site(&at_under_1500);
}
