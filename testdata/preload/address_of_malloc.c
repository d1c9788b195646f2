// A program that is loaded where it was linked and takes the address of malloc: it gets one of its own, which leads there.
#include <stdint.h>
#include <stdlib.h>

#include "sites.h"

COUNTS(by_pointer);

static void *(*allocate)(size_t);

SITE void *by_pointer(size_t size) { return keep(allocate(size)); }

extern char __executable_start, end;

int main(void) {
  // Kept from the optimizer, which would call malloc by its name.
  allocate = malloc;
  __asm__ volatile("" : "+m"(allocate));
  int is_own = (uintptr_t)allocate >= (uintptr_t)&__executable_start && (uintptr_t)allocate < (uintptr_t)&end;
  printf("malloc is %s\n", is_own ? "the program's" : "the C library's");
  for (int i = 0; i < 100; i++) {
    by_pointer(100 + i);
    count_allocated(&at_by_pointer, 100 + i);
  }
  print_site(&at_by_pointer);
}
