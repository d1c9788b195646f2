// Blocks that grow, shrink and move, each through several threads in turn.
//
//   realloc_chain [chains]
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "sites.h"

enum { THREADS = 4, STEPS = 24 };

COUNTS(chain_start);
COUNTS(chain_grow);
COUNTS(chain_shrink);

struct chain {
  unsigned char *block;
  size_t size;
  struct site *origin;
  unsigned number;
};

static struct chain *chains;
static int chain_count;
static pthread_barrier_t handed_on;
static int damaged;

SITE void *chain_start(size_t size) { return keep(malloc(size)); }
SITE void *chain_grow(void *old, size_t size) { return keep(realloc(old, size)); }
SITE void *chain_shrink(void *old, size_t size) { return keep(realloc(old, size)); }

static void begin(struct chain *chain) {
  chain->size = 16 + chain->number % 100;
  chain->block = chain_start(chain->size);
  chain->origin = &at_chain_start;
  count_allocated(chain->origin, chain->size);
  memset(chain->block, (int)chain->number, chain->size);
}

// Two steps up, one step down; the longest chains leave the arena for mappings
// of their own.
static void advance(struct chain *chain, int step) {
  int shrink = step % 3 == 2;
  size_t size = shrink ? chain->size / 3 : chain->size * 3 + chain->number % 5;
  count_freed(chain->origin, chain->size);
  chain->origin = shrink ? &at_chain_shrink : &at_chain_grow;
  chain->block = shrink ? chain_shrink(chain->block, size) : chain_grow(chain->block, size);
  chain->size = size;
  count_allocated(chain->origin, size);
  if (chain->block[0] != (unsigned char)chain->number) {
    __atomic_store_n(&damaged, 1, __ATOMIC_RELAXED);
  }
}

static void *work(void *argument) {
  int self = *(int *)argument;
  for (int step = 0; step < STEPS; step++) {
    for (int i = (self + step) % THREADS; i < chain_count; i += THREADS) {
      if (step == 0) {
        begin(&chains[i]);
      } else if (i % STEPS >= step) {
        advance(&chains[i], step);
      } else if (i % STEPS == step - 1 && i % 2 == 0) {
        free(chains[i].block);
        count_freed(chains[i].origin, chains[i].size);
      }
    }
    pthread_barrier_wait(&handed_on);
  }
  return NULL;
}

int main(int argc, char **argv) {
  chain_count = argc > 1 ? atoi(argv[1]) : 2000;
  chains = calloc((size_t)chain_count, sizeof *chains);
  for (int i = 0; i < chain_count; i++) chains[i].number = (unsigned)i;
  pthread_barrier_init(&handed_on, NULL, THREADS);
  pthread_t threads[THREADS];
  int numbers[THREADS];
  for (int i = 0; i < THREADS; i++) {
    numbers[i] = i;
    pthread_create(&threads[i], NULL, work, &numbers[i]);
  }
  for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
  printf("contents: %s\n", damaged ? "damaged" : "kept");
  print_site(&at_chain_start);
  print_site(&at_chain_grow);
  print_site(&at_chain_shrink);
}
