// Allocations before main: in .preinit_array, which no library precedes, in a
// linked library's constructor and in one of the program's own; and after it.
#include <stdlib.h>

#include "sites.h"

COUNTS(before_constructors);
COUNTS(program_constructor);
COUNTS(in_main);
COUNTS(in_exit_handler);

void print_library_site(void);

SITE void *before_constructors(size_t size) { return keep(malloc(size)); }
SITE void *program_constructor(size_t size) { return keep(malloc(size)); }
SITE void *in_main(size_t size) { return keep(malloc(size)); }
SITE void *in_exit_handler(size_t size) { return keep(malloc(size)); }

static void preinit(void) {
  before_constructors(30);
  count_allocated(&at_before_constructors, 30);
}
__attribute__((section(".preinit_array"), used)) static void (*preinit_entry)(void) = preinit;

__attribute__((constructor)) static void construct(void) {
  program_constructor(40);
  count_allocated(&at_program_constructor, 40);
}

static void last_words(void) {
  in_exit_handler(60);
  count_allocated(&at_in_exit_handler, 60);
  print_library_site();
  print_site(&at_before_constructors);
  print_site(&at_program_constructor);
  print_site(&at_in_main);
  print_site(&at_in_exit_handler);
}

int main(void) {
  atexit(last_words);
  in_main(50);
  count_allocated(&at_in_main, 50);
}
