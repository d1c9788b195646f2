// The ways a process can end.
//
//   exit_paths return|exit|_exit|_Exit|quick_exit|abort|kill|term|segv|system_call|thread_exit|thread__exit|last_thread
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "sites.h"

COUNTS(before_end);

SITE void *before_end(size_t size) { return keep(malloc(size)); }

static void *exit_from_thread(void *path) {
  if (strcmp(path, "thread__exit") == 0) _exit(8);
  if (strcmp(path, "thread_exit") == 0) exit(7);
  // The process ends with its last thread.
  return NULL;
}

int main(int argc, char **argv) {
  const char *path = argc > 1 ? argv[1] : "return";
  for (size_t size = 60; size <= 1000; size++) {
    before_end(size);
    count_allocated(&at_before_end, size);
  }
  print_site(&at_before_end);
  fflush(stdout);
  if (strcmp(path, "exit") == 0) exit(3);
  if (strcmp(path, "_exit") == 0) _exit(4);
  if (strcmp(path, "_Exit") == 0) _Exit(4);
  if (strcmp(path, "quick_exit") == 0) quick_exit(5);
  if (strcmp(path, "abort") == 0) abort();
  if (strcmp(path, "kill") == 0) raise(SIGKILL);
  if (strcmp(path, "term") == 0) raise(SIGTERM);
  if (strcmp(path, "segv") == 0) *(volatile int *)NULL = 0;
  if (strcmp(path, "system_call") == 0) syscall(SYS_exit_group, 9);
  if (strstr(path, "thread")) {
    pthread_t thread;
    pthread_create(&thread, NULL, exit_from_thread, (void *)path);
    if (strcmp(path, "last_thread") == 0) pthread_exit(NULL);
    pthread_join(thread, NULL);
  }
  return 6;
}
