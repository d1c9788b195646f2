// A library is loaded that looks for what it calls in itself and the C library first, past everything that is preloaded. Its
// blocks are freed by the program, and the program's by it.
//
//   deepbind LIBRARY now|lazy
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

#include "sites.h"
#include "watcher.h"

COUNTS(in_the_program);

SITE void *in_the_program(size_t size) { return keep(malloc(size)); }

int main(int argc, char **argv) {
  int how = (argc > 2 && strcmp(argv[2], "lazy") == 0 ? RTLD_LAZY : RTLD_NOW) | RTLD_LOCAL | RTLD_DEEPBIND;
  void *library = argc > 1 ? dlopen(argv[1], how) : NULL;
  if (library == NULL) {
    printf("%s\n", dlerror());
    return 2;
  }
  char *(*make)(int);
  void (*take)(char *);
  *(void **)&make = dlsym(library, "deep_make");
  *(void **)&take = dlsym(library, "deep_take");
  for (int i = 0; i < 1000; i++) {
    char *theirs = make(i);
    if (strlen(theirs) != (size_t)(i % 100)) printf("not what was made\n");
    free(theirs);
    // Grown by us, and kept.
    if (i % 10 == 0) keep(realloc(make(i), 500));
    void *ours = in_the_program(200);
    count_allocated(&at_in_the_program, 200);
    if (i % 4 == 0) continue;
    free(ours);
    count_freed(&at_in_the_program, 200);
  }
  // What it frees it frees past us: these are not counted.
  take(keep(strdup("ours")));
  // Until it has seen where the library's calls go; in an emulator much of its sleep is the emulator's.
  for (int i = 0; i < 5; i++) wait_for_watcher();
  dlclose(library);
  print_site(&at_in_the_program);
}
