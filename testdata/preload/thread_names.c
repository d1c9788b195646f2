// Threads with names, given to them by others and by themselves, some after they have allocated.
#define _GNU_SOURCE
#include <pthread.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "sites.h"

COUNTS(in_named);

SITE void *in_named(size_t size) { return keep(malloc(size)); }

static void allocate(void) {
  in_named(700);
  count_allocated(&at_in_named, 700);
}

static void *named_at_once(void *name) {
  prctl(PR_SET_NAME, name);
  allocate();
  return name;
}

static void *named_later(void *name) {
  allocate();
  pthread_setname_np(pthread_self(), name);
  // Until somebody has looked.
  usleep(100000);
  allocate();
  return name;
}

int main(void) {
  pthread_t first, second;
  pthread_create(&first, NULL, named_at_once, "at-once");
  pthread_create(&second, NULL, named_later, "later");
  pthread_join(first, NULL);
  pthread_join(second, NULL);
  print_site(&at_in_named);
}
