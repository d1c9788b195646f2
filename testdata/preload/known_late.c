// A plugin calls back as soon as it is loaded, and once more, from the same
// frames, when the tracer has had time to learn of it.
//
//   known_late PLUGIN
#include <dlfcn.h>
#include <stdlib.h>

#include "sites.h"
#include "watcher.h"

COUNTS(at_once);
COUNTS(later);

SITE void *at_once(size_t size) { return keep(malloc(size)); }

SITE void *later(size_t size) { return keep(malloc(size)); }

SITE void callback(void) {
  at_once(64);
  count_allocated(&at_at_once, 64);
  wait_for_watcher();
  later(72);
  count_allocated(&at_later, 72);
}

int main(int argc, char **argv) {
  if (argc < 2) return 2;
  void *plugin = dlopen(argv[1], RTLD_NOW);
  void (*run)(void (*)(void), size_t) = NULL;
  if (plugin != NULL) *(void **)&run = dlsym(plugin, "plugin_run");
  if (run == NULL) {
    fprintf(stderr, "%s\n", dlerror());
    return 2;
  }
  run(callback, 100);
  print_site(&at_at_once);
  print_site(&at_later);
}
