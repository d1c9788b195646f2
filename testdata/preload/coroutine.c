// Coroutines on stacks that the C library knows nothing about, interleaved.
#include <stdlib.h>
#include <sys/mman.h>
#include <ucontext.h>

#include "sites.h"

enum { COROUTINES = 8, ROUNDS = 100, STACK_SIZE = 1 << 16 };

COUNTS(in_coroutine);
COUNTS(in_scheduler);

static ucontext_t scheduler, coroutines[COROUTINES];
static int running;

SITE void *in_coroutine(size_t size) { return keep(malloc(size)); }
SITE void *in_scheduler(size_t size) { return keep(malloc(size)); }

// Allocates, yields from the bottom of the recursion, and allocates again.
SITE int step(int frames) {
  volatile char local[48];
  local[0] = (char)frames;
  if (frames == 0) {
    in_coroutine(96);
    count_allocated(&at_in_coroutine, 96);
    swapcontext(&coroutines[running], &scheduler);
    in_coroutine(104);
    count_allocated(&at_in_coroutine, 104);
    return 0;
  }
  return step(frames - 1) + local[0];
}

static void coroutine(void) {
  for (int round = 0; round < ROUNDS; round++) step(3 + (running + round) % 11);
}

int main(void) {
  // Even ones live on the heap, odd ones in mappings of their own.
  for (int i = 0; i < COROUTINES; i++) {
    void *stack = i % 2 == 0 ? malloc(STACK_SIZE)
                             : mmap(NULL, STACK_SIZE, PROT_READ | PROT_WRITE,
                                    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    getcontext(&coroutines[i]);
    coroutines[i].uc_stack.ss_sp = stack;
    coroutines[i].uc_stack.ss_size = STACK_SIZE;
    coroutines[i].uc_link = &scheduler;
    makecontext(&coroutines[i], coroutine, 0);
  }
  // One resumption more than there are rounds lets each run to its end.
  for (int round = 0; round <= ROUNDS; round++) {
    for (running = 0; running < COROUTINES; running++) {
      swapcontext(&scheduler, &coroutines[running]);
      in_scheduler(112);
      count_allocated(&at_in_scheduler, 112);
    }
  }
  print_site(&at_in_coroutine);
  print_site(&at_in_scheduler);
}
