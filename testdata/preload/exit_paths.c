// The ways a process can end.
//
//   exit_paths return|exit|_exit|quick_exit|abort|kill|thread_exit
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "sites.h"

COUNTS(before_end);

SITE void *before_end(size_t size) { return keep(malloc(size)); }

static void *exit_from_thread(void *unused) {
  (void)unused;
  exit(7);
}

int main(int argc, char **argv) {
  const char *path = argc > 1 ? argv[1] : "return";
  for (size_t size = 1; size <= 1000; size++) {
    before_end(size);
    count_allocated(&at_before_end, size);
  }
  print_site(&at_before_end);
  fflush(stdout);
  if (strcmp(path, "exit") == 0) exit(3);
  if (strcmp(path, "_exit") == 0) _exit(4);
  if (strcmp(path, "quick_exit") == 0) quick_exit(5);
  if (strcmp(path, "abort") == 0) abort();
  if (strcmp(path, "kill") == 0) raise(SIGKILL);
  if (strcmp(path, "thread_exit") == 0) {
    pthread_t thread;
    pthread_create(&thread, NULL, exit_from_thread, NULL);
    pthread_join(thread, NULL);
  }
  return 6;
}
