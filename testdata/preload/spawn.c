// Children that share their parent's memory until they execute a program: vfork, posix_spawn, system, popen. The programs
// they execute are this one.
//
//   spawn                 makes them
//   spawn child NUMBER    is one: allocates, and ends with NUMBER
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sites.h"

extern char **environ;

enum { SIZE = 90 };

COUNTS(in_the_parent);
COUNTS(in_a_vfork);

SITE void *in_the_parent(size_t size) { return keep(malloc(size)); }
SITE void *in_a_vfork(size_t size) { return keep(malloc(size)); }

static void allocate(void) {
  keep(in_the_parent(SIZE));
  count_allocated(&at_in_the_parent, SIZE);
}

static void ended(const char *how, int status) {
  printf("%s: %d\n", how, WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status));
  fflush(stdout);
  allocate();
}

int main(int argc, char **argv) {
  if (argc > 2) {
    for (int i = 0; i < 100; i++) keep(malloc(SIZE));
    return atoi(argv[2]);
  }
  int status = 0;
  allocate();
  char *arguments[] = {argv[0], "child", "11", NULL};
  pid_t child = vfork();
  if (child == 0) {
    execv(argv[0], arguments);
    _exit(1);
  }
  waitpid(child, &status, 0);
  ended("vfork", status);
  // The memory is one: what this child allocates is its parent's.
  for (volatile int i = 0; i < 20; i++) {
    child = vfork();
    if (child == 0) {
      keep(in_a_vfork(SIZE));
      count_allocated(&at_in_a_vfork, SIZE);
      execl("/nonexistent/program", "program", NULL);
      execlp("nonexistent-program", "program", NULL);
      _exit(12);
    }
    waitpid(child, &status, 0);
  }
  ended("vfork without exec", status);
  arguments[2] = "13";
  posix_spawn(&child, argv[0], NULL, NULL, arguments, environ);
  waitpid(child, &status, 0);
  ended("posix_spawn", status);
  char command[4096];
  snprintf(command, sizeof command, "'%s' child 14; exit $?", argv[0]);
  ended("system", system(command));
  snprintf(command, sizeof command, "'%s' child 15; echo $?", argv[0]);
  FILE *pipe = popen(command, "r");
  char line[64] = "";
  if (!fgets(line, sizeof line, pipe)) return 1;
  printf("popen: %s", line);
  ended("popen", pclose(pipe));
  print_site(&at_in_the_parent);
  print_site(&at_in_a_vfork);
  return 0;
}
