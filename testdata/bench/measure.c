// Runs a command and writes what it used: one line with exit status, seconds
// of CPU (user and system, of all that it started), seconds of wall time, and
// the largest resident set of one process in KiB.
//
//   measure REPORT [NAME=VALUE]... COMMAND [ARGUMENT]...
//
// A process's peak starts with the size of the one that forked it, so the
// forking is done by something this small. The settings are the command's only.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec + time.tv_nsec * 1e-9;
}

static double seconds(struct timeval time) {
  return time.tv_sec + time.tv_usec * 1e-6;
}

int main(int argc, char **argv) {
  char **command = argv + 2;
  while (argc > 2 && *command != NULL && strchr(*command, '=') != NULL)
    command++;
  if (argc < 3 || *command == NULL) {
    fputs("usage: measure REPORT [NAME=VALUE]... COMMAND [ARGUMENT]...\n", stderr);
    return 2;
  }
  double start = now();
  pid_t child = fork();
  if (child == 0) {
    for (char **setting = argv + 2; setting < command; setting++)
      putenv(*setting);
    execvp(*command, command);
    perror(*command);
    _exit(127);
  }
  int status;
  struct rusage used;
  if (child < 0 || wait4(child, &status, 0, &used) != child) {
    perror("measure");
    return 2;
  }
  double wall = now() - start;

  FILE *report = fopen(argv[1], "w");
  if (report == NULL) {
    perror(argv[1]);
    return 2;
  }
  fprintf(report, "%d %.6f %.6f %ld\n",
          WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status),
          seconds(used.ru_utime) + seconds(used.ru_stime), wall,
          used.ru_maxrss);
  return fclose(report) == 0 ? 0 : 2;
}
