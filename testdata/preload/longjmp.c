// Frames that vanish without returning: longjmp out of deep recursion, and
// allocations at other depths afterwards.
#include <setjmp.h>
#include <stdlib.h>

#include "sites.h"

COUNTS(before_jump);
COUNTS(after_jump);

static jmp_buf surface;
static volatile int jump = 1;

SITE void *before_jump(size_t size) { return keep(malloc(size)); }
SITE void *after_jump(size_t size) { return keep(malloc(size)); }

SITE int dive(int frames) {
  volatile char local[64];
  local[0] = (char)frames;
  if (frames == 0) {
    before_jump(24);
    count_allocated(&at_before_jump, 24);
    if (jump) longjmp(surface, 1);
    return 0;
  }
  return dive(frames - 1) + local[0];
}

SITE int climb(int frames) {
  volatile char local[200];
  local[0] = (char)frames;
  if (frames == 0) {
    after_jump(40);
    count_allocated(&at_after_jump, 40);
    return 0;
  }
  return climb(frames - 1) + local[0];
}

int main(void) {
  for (volatile int i = 0; i < 500; i++) {
    if (setjmp(surface) == 0) dive(5 + i % 50);
    climb(i % 17);
  }
  print_site(&at_before_jump);
  print_site(&at_after_jump);
}
