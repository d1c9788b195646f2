// Executes itself in place, by one way after the other. Every program of the process tells the truth about itself.
//
//   exec [STEP]
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "sites.h"

extern char **environ;

COUNTS(in_this_program);

SITE void *in_this_program(size_t size) { return keep(malloc(size)); }

int main(int argc, char **argv) {
  int step = argc > 1 ? atoi(argv[1]) : 0;
  char next[16], suffix[16];
  snprintf(next, sizeof next, "%d", step + 1);
  snprintf(suffix, sizeof suffix, ":%d", step);
  role_suffix = suffix;
  for (int i = 0; i < 10 + step; i++) {
    keep(in_this_program(70 + i));
    count_allocated(&at_in_this_program, 70 + i);
  }
  // It is not there: the program goes on, and what follows is recorded too.
  execl("/nonexistent/program", "program", NULL);
  keep(in_this_program(1000));
  count_allocated(&at_in_this_program, 1000);
  print_site(&at_in_this_program);
  fflush(stdout);
  const char *self = argv[0], *six = "6";
  char *arguments[] = {argv[0], next, NULL};
  switch (step) {
    case 0: execv(self, arguments); break;
    case 1: execve(self, arguments, environ); break;
    case 2: execvp(self, arguments); break;
    case 3: execvpe(self, arguments, environ); break;
    case 4: execl(self, self, next, "2", "3", "4", "5", six, "7", NULL); break;
    case 5: execlp(self, self, next, "2", "3", "4", "5", six, "7", NULL); break;
    case 6: execle(self, self, next, "2", "3", "4", "5", six, "7", NULL, environ); break;
    case 7: fexecve(open(self, O_RDONLY | O_CLOEXEC), arguments, environ); break;
    default:
      for (int i = 2; i < argc; i++) printf(" %s", argv[i]);
      return 8;
  }
  return 1;
}
