// A leak that is spread over short-lived threads, one small block each.
//
//   threads_leak [threads] [bytes per block]
#include <pthread.h>
#include <stdlib.h>

#include "sites.h"

COUNTS(leak_in_thread);

static size_t block_size = 64;

SITE void *leak_in_thread(size_t size) { return keep(malloc(size)); }

static void *thread(void *unused) {
  leak_in_thread(block_size);
  count_allocated(&at_leak_in_thread, block_size);
  return unused;
}

int main(int argc, char **argv) {
  int threads = argc > 1 ? atoi(argv[1]) : 1000;
  if (argc > 2) block_size = (size_t)atol(argv[2]);
  for (int i = 0; i < threads; i++) {
    pthread_t id;
    pthread_create(&id, NULL, thread, NULL);
    pthread_join(id, NULL);
  }
  print_site(&at_leak_in_thread);
}
