// A signal handler that allocates, on a stack of its own, at many depths of the
// interrupted one. raise() is synchronous, so malloc is not interrupted.
#define _GNU_SOURCE
#include <signal.h>
#include <stdlib.h>

#include "sites.h"

COUNTS(in_handler);
COUNTS(interrupted);

static volatile int alternate_stack_used;
static char *alternate_stack;
static const size_t stack_size = 1 << 16;

SITE void *in_handler(size_t size) { return keep(malloc(size)); }
SITE void *interrupted(size_t size) { return keep(malloc(size)); }

SITE int handler_work(int frames) {
  volatile char local[16];
  local[0] = (char)frames;
  if (frames == 0) {
    in_handler(56);
    count_allocated(&at_in_handler, 56);
    return 0;
  }
  return handler_work(frames - 1) + local[0];
}

static void handler(int signal) {
  char local;
  if (&local >= alternate_stack && &local < alternate_stack + stack_size) {
    alternate_stack_used = 1;
  }
  handler_work(signal % 7);
}

SITE int work(int frames) {
  volatile char local[32];
  local[0] = (char)frames;
  if (frames == 0) {
    raise(SIGUSR1);
    interrupted(72);
    count_allocated(&at_interrupted, 72);
    return 0;
  }
  return work(frames - 1) + local[0];
}

int main(void) {
  alternate_stack = malloc(stack_size);
  stack_t stack = {.ss_sp = alternate_stack, .ss_size = stack_size};
  sigaltstack(&stack, NULL);
  struct sigaction action = {.sa_handler = handler, .sa_flags = SA_ONSTACK};
  sigaction(SIGUSR1, &action, NULL);
  for (int i = 0; i < 500; i++) work(i % 40);
  printf("alternate stack: %s\n", alternate_stack_used ? "used" : "not used");
  print_site(&at_in_handler);
  print_site(&at_interrupted);
}
