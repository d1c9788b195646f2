// Threads that are cancelled while they allocate: their frames are unwound, and their handlers free what they had.
#include <pthread.h>
#include <semaphore.h>
#include <stdlib.h>
#include <unistd.h>

#include "sites.h"

enum { THREADS = 100, SIZE = 150 };

COUNTS(until_cancelled);
COUNTS(in_clean_up);

static sem_t begun;

SITE void *until_cancelled(size_t size) { return keep(malloc(size)); }
SITE void *in_clean_up(size_t size) { return keep(malloc(size)); }

static void clean_up(void *block) {
  free(block);
  count_freed(&at_until_cancelled, SIZE);
  in_clean_up(SIZE);
  count_allocated(&at_in_clean_up, SIZE);
}

SITE int nested(int frames, int waits) {
  volatile char local[32];
  local[0] = (char)frames;
  if (frames > 0) return nested(frames - 1, waits) + local[0];
  void *block = until_cancelled(SIZE);
  count_allocated(&at_until_cancelled, SIZE);
  pthread_cleanup_push(clean_up, block);
  sem_post(&begun);
  // A cancellation point that blocks, or one that is come by again and again.
  while (waits) pause();
  for (;;) {
    free(keep(malloc(SIZE)));
    pthread_testcancel();
  }
  pthread_cleanup_pop(0);
  return local[0];
}

static void *run(void *number) {
  nested((int)(size_t)number % 20, (size_t)number % 2 == 0);
  return number;
}

int main(void) {
  sem_init(&begun, 0, 0);
  int cancelled = 0;
  for (size_t i = 0; i < THREADS; i++) {
    pthread_t thread;
    void *result = NULL;
    pthread_create(&thread, NULL, run, (void *)i);
    sem_wait(&begun);
    pthread_cancel(thread);
    pthread_join(thread, &result);
    cancelled += result == PTHREAD_CANCELED;
  }
  printf("%d of %d were cancelled\n", cancelled, THREADS);
  print_site(&at_until_cancelled);
  print_site(&at_in_clean_up);
}
