// A library is asked for by its bare name: which one is found is the caller's affair, whose own path is looked into.
//
// As a library with CALLER it asks for another one, and as one with NAME it says its name.
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

#include "sites.h"

#ifdef NAME

const char *name(void) { return NAME; }

#else

static const char *ask(const char *library) {
  void *handle = dlopen(library, RTLD_NOW | RTLD_LOCAL);
  if (handle == NULL) return "nobody";
  const char *(*name)(void);
  *(void **)&name = dlsym(handle, "name");
  return name != NULL ? name() : "no name";
}

#ifdef CALLER

const char *name(void) { return ask("librpath_inner.so"); }

#else

COUNTS(beside_it);

SITE void *beside_it(size_t size) { return keep(malloc(size)); }

int main(void) {
  beside_it(100);
  count_allocated(&at_beside_it, 100);
  printf("librpath_outer.so is %s\n", ask("librpath_outer.so"));
  printf("librpath_caller.so finds %s\n", ask("librpath_caller.so"));
  print_site(&at_beside_it);
}

#endif
#endif
