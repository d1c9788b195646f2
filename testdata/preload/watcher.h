// Waits for what the tracer notices only after a moment.
#pragma once

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

// How often a thread has gone to sleep.
static long sleeps_of(int task) {
  char path[64], line[200];
  long sleeps = -1;
  snprintf(path, sizeof path, "/proc/self/task/%d/status", task);
  FILE *file = fopen(path, "r");
  if (file == NULL) return -1;
  while (fgets(line, sizeof line, file)) {
    if (sscanf(line, "voluntary_ctxt_switches: %ld", &sleeps) == 1) break;
  }
  fclose(file);
  return sleeps;
}

// The tracer's thread that watches the loader; 0 if there is none.
static int watcher(void) {
  int found = 0;
  DIR *tasks = opendir("/proc/self/task");
  for (struct dirent *task; (task = readdir(tasks)) != NULL && found == 0;) {
    char path[300], comm[32] = "";
    snprintf(path, sizeof path, "/proc/self/task/%s/comm", task->d_name);
    FILE *file = fopen(path, "r");
    if (file == NULL) continue;
    if (fgets(comm, sizeof comm, file) && strcmp(comm, "libtrace-loader\n") == 0) found = atoi(task->d_name);
    fclose(file);
  }
  closedir(tasks);
  return found;
}

// Where a tracer is preloaded, waits until its watcher has gone to sleep ten
// times more. It looks each time that it wakes up, unless that was a lock's
// doing.
static void wait_for_watcher(void) {
  if (getenv("LD_PRELOAD") == NULL) return;
  int task;
  while ((task = watcher()) == 0) usleep(1000);
  long before = sleeps_of(task);
  while (sleeps_of(task) < before + 10) usleep(1000);
}
