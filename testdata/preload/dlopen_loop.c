// Two plugins of different layout take turns at the same address: a rule or a
// name that was remembered for one is wrong for the other.
//
//   dlopen_loop PLUGIN_A PLUGIN_B [rounds [wait]]
//
// With "wait" nothing is allocated by code that has only just been loaded.
#include <dlfcn.h>
#include <stdlib.h>

#include "sites.h"
#include "watcher.h"

COUNTS(a_allocate);
COUNTS(b_allocate);
COUNTS(callback_allocate);

SITE void *callback_allocate(size_t size) { return keep(malloc(size)); }

SITE void callback(void) {
  callback_allocate(88);
  count_allocated(&at_callback_allocate, 88);
}

int main(int argc, char **argv) {
  if (argc < 3) return 2;
  int rounds = argc > 3 ? atoi(argv[3]) : 200, reused = 0;
  void *previous = NULL;
  for (int i = 0; i < rounds; i++) {
    void *library = dlopen(argv[1 + i % 2], RTLD_NOW);
    if (library == NULL) {
      fprintf(stderr, "%s\n", dlerror());
      return 2;
    }
    void (*run)(void (*)(void), size_t);
    void *symbol = *(void **)&run = dlsym(library, "plugin_run");
    reused += symbol == previous;
    previous = symbol;
    if (argc > 4) wait_for_watcher();
    size_t size = 100 + (size_t)i % 10;
    run(callback, size);
    count_allocated(i % 2 == 0 ? &at_a_allocate : &at_b_allocate, size);
    dlclose(library);
  }
  printf("the address was reused: %s\n", reused > rounds / 2 ? "mostly" : "rarely");
  print_site(&at_a_allocate);
  print_site(&at_b_allocate);
  print_site(&at_callback_allocate);
}
