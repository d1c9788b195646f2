// One thread that does little else than malloc and free: short-lived blocks,
// and a window in which every fourth block takes an old one's place.
//
//   churn [thousands of rounds]
#include <stdint.h>
#include <stdlib.h>

enum { WINDOW = 256 };

static char *window[WINDOW];

static uint32_t next_random(uint32_t *state) {
  *state ^= *state << 13;
  *state ^= *state >> 17;
  *state ^= *state << 5;
  return *state;
}

// Written to, so that the compiler keeps the pair.
__attribute__((noinline)) static void use_once(size_t size) {
  volatile char *block = malloc(size);
  if (block == NULL)
    abort();
  block[0] = 1;
  free((void *)block);
}

__attribute__((noinline)) static void replace(uint32_t slot, size_t size) {
  free(window[slot]);
  window[slot] = malloc(size);
  if (window[slot] == NULL)
    abort();
  window[slot][0] = 1;
}

int main(int argc, char **argv) {
  long rounds = (argc > 1 ? atol(argv[1]) : 1000) * 1000;
  uint32_t state = 2463534242;
  for (long round = 0; round < rounds; round++) {
    uint32_t random = next_random(&state);
    use_once(16 + random % 240);
    if (round % 4 == 0)
      replace((random >> 8) % WINDOW, 32 + (random >> 16) % 480);
  }
  for (int slot = 0; slot < WINDOW; slot++)
    free(window[slot]);
}
