// Blocks that outlive the files in which their births stand.
//
//   segments [fork]      with fork, a child does as its parent does after it, in files of its own
//
// Where run.prof is written in the working directory, the program copies it to a.prof between its two phases, and in
// both goes on until the tracer has begun other files. An exec that fails has the tracer bring its file up to date.
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sites.h"

COUNTS(early);
COUNTS(late);
COUNTS(in_thread);

enum { BLOCKS = 300, MANY = 4000 };

SITE void *early(size_t size) { return keep(malloc(size)); }
SITE void *late(size_t size) { return keep(malloc(size)); }
SITE void *in_thread(size_t size) { return keep(malloc(size)); }

static void *early_blocks[BLOCKS];

static char file[64] = "run.prof";

static size_t size_of(int i) { return 100 + (size_t)i; }

static void flush(void) { execl("/nonexistent", "nonexistent", NULL); }

static void copy(const char *from, const char *to) {
  char buffer[65536];
  ssize_t len;
  int in = open(from, O_RDONLY);
  if (in < 0) return;
  int out = open(to, O_WRONLY | O_CREAT | O_TRUNC, 0600);
  while ((len = read(in, buffer, sizeof buffer)) > 0) {
    if (write(out, buffer, (size_t)len) != len) abort();
  }
  close(in);
  close(out);
}

// Fills the file until another takes its name; gives up after some seconds.
static void fill_file(void) {
  static void *blocks[MANY];
  struct stat before, now;
  if (stat(file, &before) != 0) return;
  for (int round = 0; round < 1000; round++) {
    for (int i = 0; i < MANY; i++) blocks[i] = keep(malloc(64 + (size_t)i % 700));
    flush();
    for (int i = 0; i < MANY; i++) free(blocks[i]);
    flush();
    usleep(20000);
    if (stat(file, &now) == 0 && now.st_ino != before.st_ino) return;
  }
}

static void *thread(void *unused) {
  pthread_setname_np(pthread_self(), "loader");
  for (int i = 0; i < 50; i++) {
    in_thread(size_of(i));
    count_allocated(&at_in_thread, size_of(i));
  }
  return unused;
}

int main(int argc, char **argv) {
  pthread_t loader;
  pthread_create(&loader, NULL, thread, NULL);
  pthread_join(loader, NULL);
  for (int i = 0; i < BLOCKS; i++) {
    early_blocks[i] = early(size_of(i));
    count_allocated(&at_early, size_of(i));
  }
  flush();
  copy(file, "a.prof");
  pid_t child = argc > 1 && strcmp(argv[1], "fork") == 0 ? fork() : -1;
  if (child > 0) waitpid(child, NULL, 0);
  if (child == 0) {
    snprintf(file, sizeof file, "run.%d.prof", (int)getpid());
    free(keep(malloc(100)));
    flush();
  }
  for (int files = 0; files < 3; files++) {
    fill_file();
    for (int i = 0; i < 100; i++) {
      late(size_of(i));
      count_allocated(&at_late, size_of(i));
    }
    for (int i = files * 50; i < (files + 1) * 50; i++) {
      free(early_blocks[i]);
      count_freed(&at_early, size_of(i));
    }
  }
  if (child == 0) {
    TAKE_ROLE("child");
  } else {
    TAKE_ROLE("end");
  }
  print_site(&at_early);
  print_site(&at_late);
  print_site(&at_in_thread);
  return 0;
}
