// A process that is forked, and one that is forked from that. Each goes on with what it inherited: it frees and
// reallocates blocks of its parents, and they free theirs.
//
//   fork return|exit|_exit|quick_exit    how the children end
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sites.h"

enum { BLOCKS = 60, SIZE = 100 };

COUNTS(at_first);
COUNTS(at_second);
COUNTS(at_third);

SITE void *at_first(size_t size) { return keep(malloc(size)); }
SITE void *at_second(size_t size) { return keep(malloc(size)); }
SITE void *at_third(void *old, size_t size) { return keep(realloc(old, size)); }

static void *first[BLOCKS], *second[BLOCKS];

static void free_all(void **blocks, int from, int to, struct site *site) {
  for (int i = from; i < to; i++) {
    free(blocks[i]);
    count_freed(site, SIZE + i);
  }
}

static void print(void) {
  print_site(&at_at_first);
  print_site(&at_at_second);
  print_site(&at_at_third);
  fflush(stdout);
}

static int end(const char *path, int code) {
  if (strcmp(path, "exit") == 0) exit(code);
  if (strcmp(path, "_exit") == 0) _exit(code);
  if (strcmp(path, "quick_exit") == 0) quick_exit(code);
  return code;
}

static int wait_for(pid_t child) {
  int status = 0;
  waitpid(child, &status, 0);
  printf("a child ended with %d\n", WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status));
  return 0;
}

int main(int argc, char **argv) {
  const char *path = argc > 1 ? argv[1] : "return";
  for (int i = 0; i < BLOCKS; i++) {
    first[i] = at_first(SIZE + i);
    count_allocated(&at_at_first, SIZE + i);
  }
  free_all(first, 0, 10, &at_at_first);
  fflush(stdout);
  pid_t child = fork();
  if (child == 0) {
    TAKE_ROLE("child");
    free_all(first, 10, 20, &at_at_first);
    for (int i = 0; i < BLOCKS; i++) {
      second[i] = at_second(SIZE + i);
      count_allocated(&at_at_second, SIZE + i);
    }
    pid_t grandchild = fork();
    if (grandchild == 0) {
      TAKE_ROLE("grandchild");
      free_all(first, 20, 30, &at_at_first);
      free_all(second, 0, 20, &at_at_second);
      for (int i = 40; i < BLOCKS; i++) {
        keep(at_third(first[i], 2 * SIZE));
        count_freed(&at_at_first, SIZE + i);
        count_allocated(&at_at_third, 2 * SIZE);
      }
      print();
      return end(path, 5);
    }
    free_all(second, 30, 60, &at_at_second);
    wait_for(grandchild);
    print();
    return end(path, 4);
  }
  free_all(first, 30, 60, &at_at_first);
  wait_for(child);
  print();
  return 3;
}
