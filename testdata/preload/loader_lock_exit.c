// A thread takes the loader's lock and never gives it back; meanwhile the
// process forks, allocates more than buffers hold, and ends.
#define _GNU_SOURCE
#include <link.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sites.h"

COUNTS(while_locked);

static sem_t locked;

SITE void *while_locked(size_t size) { return keep(malloc(size)); }

static int callback(struct dl_phdr_info *info, size_t size, void *unused) {
  (void)info;
  (void)size;
  (void)unused;
  sem_post(&locked);
  for (;;) pause();
}

static void *holder(void *unused) {
  dl_iterate_phdr(callback, NULL);
  return unused;
}

int main(void) {
  sem_init(&locked, 0, 0);
  pthread_t thread;
  pthread_create(&thread, NULL, holder, NULL);
  sem_wait(&locked);
  // Whoever looks at the loader now and then is stuck by the end of this.
  usleep(200000);
  pid_t child = fork();
  if (child == 0) _exit(7);
  int status = 0;
  waitpid(child, &status, 0);
  printf("the child returned %d\n", WEXITSTATUS(status));
  for (int i = 0; i < 1000000; i++) {
    void *block = while_locked(24);
    count_allocated(&at_while_locked, 24);
    if (i % 1000 == 0) continue;
    free(block);
    count_freed(&at_while_locked, 24);
  }
  print_site(&at_while_locked);
}
