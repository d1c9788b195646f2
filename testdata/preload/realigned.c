// Functions that realign their stack, as compilers do for wide vectors: a block on the stack at a multiple of 64 and
// another whose size is known at run time make GCC keep the CFA in memory on x86-64. The stack pointer at their entry differs
// by 16 from call to call, which the realigned one does not show.
#include <alloca.h>
#include <stdlib.h>

#include "sites.h"

COUNTS(in_realigned);

static void *blocks[4096];
static int count;

SITE void *in_realigned(size_t size) { return keep(malloc(size)); }

__attribute__((noipa)) static long realigned(int depth, int arguments, ...);

// A frame of 16 bytes more where `odd`.
__attribute__((noipa)) static long between(int depth, int odd) {
  volatile long filler[2];
  filler[0] = depth;
  if (odd) return realigned(depth, 2, 1L, 2L, 3L, 4L, 5L, 6L, 7L) + filler[0];
  return realigned(depth, 0) + filler[0];
}

__attribute__((noipa)) static long realigned(int depth, int arguments, ...) {
  _Alignas(64) volatile char aligned[64];
  volatile char *sized = alloca((size_t)depth * 8 + 8);
  aligned[0] = (char)arguments;
  sized[0] = 1;
  if (depth > 0) {
    long below = between(depth - 1, depth % 2);
    // Once more with the same frames further out: incremental unwinding compares them.
    return below + between(depth - 1, arguments == 0) + aligned[0] + sized[0];
  }
  blocks[count++] = in_realigned(100);
  count_allocated(&at_in_realigned, 100);
  if (count % 2) {
    free(blocks[--count]);
    count_freed(&at_in_realigned, 100);
    blocks[count++] = in_realigned(50);
    count_allocated(&at_in_realigned, 50);
  }
  return aligned[0] + sized[0];
}

int main(void) {
  long sum = 0;
  for (int depth = 1; depth <= 6; depth++) sum += between(depth, depth % 3 == 0);
  print_site(&at_in_realigned);
  return sum == 0;
}
