// glibc unloads a character set's module by itself, without dlclose; then a
// plugin takes its place in the address space.
//
//   gconv_unload FOLDER MODULE PLUGIN
//
// FOLDER has a gconv-modules file: of it MODULE is the character set ROUND-A,
// and there is another one, ROUND-C.
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <gconv.h>
#include <iconv.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "sites.h"

COUNTS(a_allocate);
COUNTS(b_allocate);

static struct site *runs;
static void *code;

void module_runs(void *at, size_t size) {
  if (runs == NULL) return;
  count_allocated(runs, size);
  code = at;
}

static iconv_t open_set(const char *name) {
  iconv_t set = iconv_open("UTF-8", name);
  if (set == (iconv_t)-1) {
    perror(name);
    exit(2);
  }
  return set;
}

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

// Waits until the thread of this name, if there is one, has gone to sleep three
// times more: in between it was awake.
static void wait_for(const char *name) {
  DIR *tasks = opendir("/proc/self/task");
  for (struct dirent *task; (task = readdir(tasks)) != NULL;) {
    char path[300], comm[32] = "";
    snprintf(path, sizeof path, "/proc/self/task/%s/comm", task->d_name);
    FILE *file = fopen(path, "r");
    if (file == NULL) continue;
    if (fgets(comm, sizeof comm, file)) comm[strcspn(comm, "\n")] = 0;
    fclose(file);
    if (strcmp(comm, name) != 0) continue;
    long before = sleeps_of(task->d_name);
    while (sleeps_of(task->d_name) < before + 3) usleep(1000);
  }
  closedir(tasks);
}

int main(int argc, char **argv) {
  if (argc < 4) return 2;
  setenv("GCONV_PATH", argv[1], 1);
  iconv_close(open_set("ROUND-C"));
  int unloaded = 0, reused = 0;
  for (int round = 0; round < 5; round++) {
    runs = &at_a_allocate;
    iconv_t set = open_set("ROUND-A");
    runs = NULL;
    iconv_close(set);
    // A module goes when others have gone out of use a few times since.
    for (int i = 0; i < 5; i++) iconv_close(open_set("ROUND-C"));
    void *still = dlopen(argv[2], RTLD_NOW | RTLD_NOLOAD);
    unloaded += still == NULL;
    wait_for("libtrace-loader");
    void *was = code;
    void *plugin = dlopen(argv[3], RTLD_NOW);
    int (*run)(struct __gconv_step *) = NULL;
    if (plugin != NULL) *(void **)&run = dlsym(plugin, "gconv_init");
    if (run == NULL) {
      fprintf(stderr, "%s\n", dlerror());
      return 2;
    }
    runs = &at_b_allocate;
    struct __gconv_step step;
    run(&step);
    reused += code == was;
    dlclose(plugin);
  }
  printf("unloaded: %d of 5; its place was reused: %s\n", unloaded, reused > 2 ? "mostly" : "rarely");
  print_site(&at_a_allocate);
  print_site(&at_b_allocate);
}
