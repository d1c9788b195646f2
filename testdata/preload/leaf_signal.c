// A signal in the middle of a function that has no frame: on some processors its
// return address is in no memory, only in the interrupted registers.
#define _GNU_SOURCE
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "sites.h"

COUNTS(in_handler);

static char *page;
static long page_size;

SITE void *in_handler(size_t size) { return keep(malloc(size)); }

// Makes the page writable, so that the interrupted instruction succeeds when it
// is run again.
static void handler(int signal) {
  (void)signal;
  mprotect(page, page_size, PROT_READ | PROT_WRITE);
  in_handler(88);
  count_allocated(&at_in_handler, 88);
}

SITE void leaf(char *at) { *(volatile char *)at = 1; }

SITE int calls_leaf(int frames) {
  volatile char local[40];
  local[0] = (char)frames;
  if (frames == 0) {
    leaf(page);
    return 0;
  }
  return calls_leaf(frames - 1) + local[0];
}

int main(void) {
  page_size = sysconf(_SC_PAGESIZE);
  page = mmap(NULL, page_size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  struct sigaction action = {.sa_handler = handler};
  sigaction(SIGSEGV, &action, NULL);
  for (int i = 0; i < 100; i++) {
    mprotect(page, page_size, PROT_NONE);
    calls_leaf(i % 10);
  }
  print_site(&at_in_handler);
}
