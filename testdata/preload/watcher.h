// Waits for what the tracer notices only after a moment.
#pragma once

#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

// How often a thread has gone to sleep.
static long sleeps_of(const char *task) {
  char path[300], line[200];
  long sleeps = -1;
  snprintf(path, sizeof path, "/proc/self/task/%s/status", task);
  FILE *file = fopen(path, "r");
  if (file == NULL) return -1;
  while (fgets(line, sizeof line, file)) {
    if (sscanf(line, "voluntary_ctxt_switches: %ld", &sleeps) == 1) break;
  }
  fclose(file);
  return sleeps;
}

// Waits until the tracer's thread that watches the loader, if there is one, has
// gone to sleep three times more: in between it was awake.
static void wait_for_watcher(void) {
  DIR *tasks = opendir("/proc/self/task");
  for (struct dirent *task; (task = readdir(tasks)) != NULL;) {
    char path[300], comm[32] = "";
    snprintf(path, sizeof path, "/proc/self/task/%s/comm", task->d_name);
    FILE *file = fopen(path, "r");
    if (file == NULL) continue;
    if (fgets(comm, sizeof comm, file)) comm[strcspn(comm, "\n")] = 0;
    fclose(file);
    if (strcmp(comm, "libtrace-loader") != 0) continue;
    long before = sleeps_of(task->d_name);
    while (sleeps_of(task->d_name) < before + 3) usleep(1000);
  }
  closedir(tasks);
}
