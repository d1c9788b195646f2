// The library of early.c: its constructor runs before that of anything that is
// preloaded.
#include <stdlib.h>

#include "sites.h"

COUNTS(library_constructor);

SITE void *library_constructor(size_t size) { return keep(malloc(size)); }

__attribute__((constructor)) static void construct(void) {
  for (size_t size = 10; size < 20; size++) {
    library_constructor(size);
    count_allocated(&at_library_constructor, size);
  }
}

void print_library_site(void) { print_site(&at_library_constructor); }
