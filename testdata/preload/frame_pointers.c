// Frames without unwind information between frames that have it.
#include <alloca.h>
#include <stdlib.h>

#include "sites.h"

COUNTS(behind_relay);

int relay(int frames, int (*next)(int), int argument);

SITE void *behind_relay(size_t size) { return keep(malloc(size)); }

SITE int allocate(int size) {
  behind_relay(size);
  count_allocated(&at_behind_relay, size);
  return 0;
}

// Frames of other sizes, one of which it does not know before.
SITE int allocate_again(int size) {
  volatile char local[200];
  local[0] = 1;
  volatile char *more = alloca(size);
  more[0] = 0;
  return relay(size % 5, allocate, size) + local[0];
}

SITE int from_here(int round) {
  volatile char local[24];
  local[0] = (char)round;
  relay(round % 7, allocate, 16 + round);
  return relay(round % 3, allocate_again, 16 + round) + local[0];
}

int main(void) {
  for (int round = 0; round < 50; round++) from_here(round);
  print_site(&at_behind_relay);
}
