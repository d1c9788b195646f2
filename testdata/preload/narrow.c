// A 32-bit program: the loader cannot load the library, says so, and goes on.
#include <stdio.h>
#include <stdlib.h>

int main(void) {
  void *volatile block = malloc(1000);
  printf("%zu bytes an address\n", sizeof block);
  free(block);
  return 5;
}
