// Linked statically: there is no loader that could preload anything.
#include <stdio.h>
#include <stdlib.h>

#include "sites.h"

int main(void) {
  free(keep(malloc(100)));
  puts("done");
  return 4;
}
