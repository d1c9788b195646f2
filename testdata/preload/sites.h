// Known answers for the preload tests.
//
// A site is a function that calls an allocation entry point directly. A program
// counts what it does at its sites and prints, at its end, two lines for each:
//
//   live <function> <bytes> <blocks>        what has not been freed
//   allocated <function> <bytes> <blocks>   what has been allocated, ever
//
// Bytes are those that were asked for. Totals do not depend on scheduling.
#pragma once

#include <stdio.h>

#ifdef __cplusplus
#define SITE extern "C" __attribute__((noipa))
#else
#ifdef __clang__
#define SITE __attribute__((noinline))
#else
#define SITE __attribute__((noipa))
#endif
#endif

struct site {
  const char *function;  // The linkage name of the site.
  long long allocated_bytes, allocated_blocks;
  long long freed_bytes, freed_blocks;
};

// The counts of the site `function`, under the name `at_<function>`.
#define COUNTS(function) static struct site at_##function = {#function, 0, 0, 0, 0}

// Hides a pointer from the optimizer, which may otherwise drop malloc and free.
static inline void *keep(void *block) {
  __asm__ volatile("" : "+r"(block) : : "memory");
  return block;
}

static inline void count_allocated(struct site *site, size_t bytes) {
  __atomic_fetch_add(&site->allocated_bytes, (long long)bytes, __ATOMIC_RELAXED);
  __atomic_fetch_add(&site->allocated_blocks, 1, __ATOMIC_RELAXED);
}

static inline void count_freed(struct site *site, size_t bytes) {
  __atomic_fetch_add(&site->freed_bytes, (long long)bytes, __ATOMIC_RELAXED);
  __atomic_fetch_add(&site->freed_blocks, 1, __ATOMIC_RELAXED);
}

static inline void print_site(const struct site *site) {
  printf("live %s %lld %lld\n", site->function,
         site->allocated_bytes - site->freed_bytes,
         site->allocated_blocks - site->freed_blocks);
  printf("allocated %s %lld %lld\n", site->function, site->allocated_bytes,
         site->allocated_blocks);
}
