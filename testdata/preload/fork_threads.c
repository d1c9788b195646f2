// Forks in a loop while other threads allocate, free, start and end. The threads are not in the children: whatever they
// were at, the children go on. The last child tells the truth about what it inherited and did.
//
//   fork_threads CHILDREN
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sites.h"

enum { THREADS = 4, KEPT = 64, SIZE = 200 };

COUNTS(of_the_main_thread);
COUNTS(of_a_child);

SITE void *of_the_main_thread(size_t size) { return keep(malloc(size)); }
SITE void *of_a_child(size_t size) { return keep(malloc(size)); }
SITE void *of_a_thread(size_t size) { return keep(malloc(size)); }

static int over;

static void *short_lived(void *unused) {
  (void)unused;
  free(of_a_thread(80));
  return NULL;
}

static void *allocating(void *argument) {
  void *kept[KEPT] = {0};
  unsigned random = (unsigned)(size_t)argument;
  while (!__atomic_load_n(&over, __ATOMIC_RELAXED)) {
    // Leaves some of the machine to the processes that are forked, and the writer time to read: what it has not read is
    // for each child to read, megabytes of it on a busy machine.
    if ((random >> 8 & 3) == 0) usleep(200);
    random = random * 1103515245 + 12345;
    void **slot = &kept[random >> 16 & (KEPT - 1)];
    if (random >> 30 == 0 && *slot) {
      *slot = realloc(*slot, 64 + (random & 1023));
    } else {
      free(*slot);
      *slot = of_a_thread(64 + (random >> 8 & 1023));
    }
    if (random >> 20 == 0) {
      pthread_t thread;
      if (pthread_create(&thread, NULL, short_lived, NULL) == 0) pthread_join(thread, NULL);
    }
  }
  for (int i = 0; i < KEPT; i++) free(kept[i]);
  return NULL;
}

int main(int argc, char **argv) {
  int children = argc > 1 ? atoi(argv[1]) : 100, failed = 0;
  void *inherited[KEPT];
  pthread_t threads[THREADS];
  for (size_t i = 0; i < THREADS; i++) pthread_create(&threads[i], NULL, allocating, (void *)(i + 1));
  for (int child = 0; child < children; child++) {
    for (int i = 0; i < KEPT; i++) {
      inherited[i] = of_the_main_thread(SIZE);
      count_allocated(&at_of_the_main_thread, SIZE);
    }
    pid_t pid = fork();
    if (pid == 0) {
      // Some children do nothing, some record, some use threads.
      if (child % 4 == 0) _exit(0);
      if (child == children - 1) TAKE_ROLE("child");
      for (int i = 0; i < KEPT / 2; i++) {
        free(inherited[i]);
        count_freed(&at_of_the_main_thread, SIZE);
        keep(of_a_child(SIZE + i));
        count_allocated(&at_of_a_child, SIZE + i);
      }
      if (child % 4 == 2) {
        pthread_t thread;
        pthread_create(&thread, NULL, short_lived, NULL);
        pthread_join(thread, NULL);
      }
      if (child == children - 1) {
        print_site(&at_of_the_main_thread);
        print_site(&at_of_a_child);
        fflush(stdout);
      }
      _exit(0);
    }
    int status = 1;
    waitpid(pid, &status, 0);
    failed += status != 0;
    for (int i = 1; i < KEPT; i++) {
      free(inherited[i]);
      count_freed(&at_of_the_main_thread, SIZE);
    }
  }
  __atomic_store_n(&over, 1, __ATOMIC_RELAXED);
  for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
  printf("%d of %d children failed\n", failed, children);
  print_site(&at_of_the_main_thread);
  return 0;
}
