// Known answers for the preload tests.
//
// A site is a function that calls an allocation entry point directly. A program
// counts what it does at its sites and prints, at its end, two lines for each:
//
//   live <function> <bytes> <blocks>        what has not been freed
//   allocated <function> <bytes> <blocks>   what has been allocated, ever
//
// Bytes are those that were asked for. Totals do not depend on scheduling.
//
// A process that the program makes takes a role before it prints: its lines then begin with live:<role> and
// allocated:<role>, and its id stands in the file pid.<role>.
#pragma once

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

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

// Behind "live" and "allocated".
static const char *role_suffix = "";

#define TAKE_ROLE(role) take_role("pid." role, ":" role)

static inline void take_role(const char *file, const char *suffix) {
  int fd = open(file, O_WRONLY | O_CREAT | O_TRUNC, 0600);
  dprintf(fd, "%d", (int)getpid());
  close(fd);
  role_suffix = suffix;
}

static inline void print_site(const struct site *site) {
  printf("live%s %s %lld %lld\n", role_suffix, site->function,
         site->allocated_bytes - site->freed_bytes,
         site->allocated_blocks - site->freed_blocks);
  printf("allocated%s %s %lld %lld\n", role_suffix, site->function,
         site->allocated_bytes, site->allocated_blocks);
}
