// Children that come without fork: by clone on a stack of their own, sharing memory or not, and by the system call. Those
// that have a copy of the memory also have a copy of whatever a library keeps in it.
#define _GNU_SOURCE
#include <sched.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sites.h"

enum { STACK = 256 << 10, SIZE = 110, MANY = 20000 };

COUNTS(in_the_parent);
COUNTS(in_a_shared_child);

SITE void *in_the_parent(size_t size) { return keep(malloc(size)); }
SITE void *in_a_shared_child(size_t size) { return keep(malloc(size)); }

static int sharing(void *unused) {
  (void)unused;
  for (int i = 0; i < 30; i++) {
    keep(in_a_shared_child(SIZE));
    count_allocated(&at_in_a_shared_child, SIZE);
  }
  _exit(21);
}

// Enough for a buffer to fill where every allocation is recorded.
static int copied(void *unused) {
  (void)unused;
  for (int i = 0; i < MANY; i++) free(keep(malloc(SIZE)));
  keep(malloc(SIZE));
  return 22;
}

static void run(const char *how, pid_t child) {
  int status = 0;
  waitpid(child, &status, __WALL);
  printf("%s: %d\n", how, WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status));
  fflush(stdout);
  keep(in_the_parent(SIZE));
  count_allocated(&at_in_the_parent, SIZE);
}

int main(void) {
  keep(in_the_parent(SIZE));
  count_allocated(&at_in_the_parent, SIZE);
  char *top = (char *)malloc(STACK) + STACK;
  fflush(stdout);
  run("shared", clone(sharing, top, CLONE_VM | CLONE_VFORK | SIGCHLD, NULL));
  run("copied", clone(copied, top, SIGCHLD, NULL));
  pid_t child = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
  if (child == 0) exit(copied(NULL) + 1);
  run("system call, exit", child);
  child = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
  if (child == 0) _exit(copied(NULL) + 2);
  run("system call, _exit", child);
  child = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
  if (child == 0) {
    run("fork in it", fork() == 0 ? (_exit(copied(NULL)), 0) : -1);
    _exit(25);
  }
  run("system call, fork", child);
  print_site(&at_in_the_parent);
  print_site(&at_in_a_shared_child);
  return 0;
}
