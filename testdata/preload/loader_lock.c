// One thread holds the loader's lock, inside a dl_iterate_phdr callback, and
// waits for another one that allocates from code no one has unwound yet.
#define _GNU_SOURCE
#include <errno.h>
#include <link.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdlib.h>
#include <time.h>

#include "sites.h"

COUNTS(while_locked);

static sem_t locked, allocated;

SITE void *while_locked(size_t size) { return keep(malloc(size)); }

SITE int approach(int frames) {
  volatile char local[32];
  local[0] = (char)frames;
  if (frames == 0) {
    while_locked(120);
    count_allocated(&at_while_locked, 120);
    return 0;
  }
  return approach(frames - 1) + local[0];
}

static void *allocator(void *unused) {
  sem_wait(&locked);
  for (int frames = 0; frames < 50; frames++) approach(frames);
  sem_post(&allocated);
  return unused;
}

static int callback(struct dl_phdr_info *info, size_t size, void *blocked) {
  (void)info;
  (void)size;
  sem_post(&locked);
  struct timespec limit;
  clock_gettime(CLOCK_REALTIME, &limit);
  limit.tv_sec += 10;
  int waited;
  do {
    waited = sem_timedwait(&allocated, &limit);
  } while (waited != 0 && errno == EINTR);
  *(int *)blocked = waited != 0;
  return 1;
}

int main(void) {
  int blocked = 0;
  sem_init(&locked, 0, 0);
  sem_init(&allocated, 0, 0);
  pthread_t thread;
  pthread_create(&thread, NULL, allocator, NULL);
  dl_iterate_phdr(callback, &blocked);
  pthread_join(thread, NULL);
  printf("malloc %s the loader lock\n", blocked ? "waited for" : "did not need");
  print_site(&at_while_locked);
}
