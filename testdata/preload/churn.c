// Millions of blocks that die at once, and a few thousand that stay.
//
//   churn [millions]
#include <stdlib.h>

#include "sites.h"

enum { SURVIVOR_EVERY = 1000, WINDOW = 64 };

COUNTS(churn_away);
COUNTS(survive);

SITE void *churn_away(size_t size) { return keep(malloc(size)); }
SITE void *survive(size_t size) { return keep(malloc(size)); }

int main(int argc, char **argv) {
  long rounds = (argc > 1 ? atol(argv[1]) : 2) * 1000000;
  void *window[WINDOW] = {0};
  size_t sizes[WINDOW] = {0};
  for (long i = 0; i < rounds; i++) {
    int slot = i % WINDOW;
    if (window[slot] != NULL) {
      free(window[slot]);
      count_freed(&at_churn_away, sizes[slot]);
    }
    sizes[slot] = 8 + (size_t)i % 500;
    window[slot] = churn_away(sizes[slot]);
    count_allocated(&at_churn_away, sizes[slot]);
    if (i % SURVIVOR_EVERY == 0) {
      survive(100 + (size_t)(i / SURVIVOR_EVERY) % 50);
      count_allocated(&at_survive, 100 + (size_t)(i / SURVIVOR_EVERY) % 50);
    }
  }
  print_site(&at_churn_away);
  print_site(&at_survive);
}
