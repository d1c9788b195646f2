// glibc unloads a character set's module by itself, without dlclose; then a
// plugin takes its place in the address space.
//
//   gconv_unload FOLDER MODULE PLUGIN [wait]
//
// FOLDER has a gconv-modules file: of it MODULE is the character set ROUND-A,
// and there is another one, ROUND-C. With "wait" nothing is allocated by code
// that has only just been loaded.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <gconv.h>
#include <iconv.h>
#include <stdlib.h>

#include "sites.h"
#include "watcher.h"

COUNTS(a_allocate);
COUNTS(b_allocate);

static struct site *runs;
static void *code;
static int patient;

void module_begins(void) {
  if (patient) wait_for_watcher();
}

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

int main(int argc, char **argv) {
  if (argc < 4) return 2;
  patient = argc > 4;
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
    wait_for_watcher();
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
