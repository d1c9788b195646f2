// A program with an allocator of its own, as glibc allows: malloc, calloc, realloc and free, and nothing else. What stands
// beside these in a C library has to find its way back to them.
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SIZE = 1 << 24, HEADER = 16 };

static _Alignas(16) char heap[SIZE];
static size_t used;

static int is_own(const void *block) { return (char *)block >= heap && (char *)block < heap + SIZE; }

void *malloc(size_t size) {
  size_t whole = (size + HEADER + 15) & ~(size_t)15;
  size_t at = __atomic_fetch_add(&used, whole, __ATOMIC_RELAXED);
  if (size > SIZE || at + whole > SIZE) return NULL;
  *(size_t *)(void *)(heap + at) = size;
  return heap + at + HEADER;
}

void free(void *block) {
  if (block != NULL && !is_own(block)) abort();
}

void *calloc(size_t count, size_t size) { return malloc(count * size); }

void *realloc(void *old, size_t size) {
  void *block = malloc(size);
  if (old == NULL || block == NULL) return block;
  size_t before = *(size_t *)(void *)((char *)old - HEADER);
  return memcpy(block, old, before < size ? before : size);
}

int main(void) {
  char *block = malloc(10);
  strcpy(block, "kept");
  block = reallocarray(block, 100, 10);
  printf("%s, %s\n", block, is_own(block) ? "its own" : "another's");
  char *copy = strdup(block);
  printf("strdup: %s\n", is_own(copy) ? "its own" : "another's");
  for (int i = 0; i < 1000; i++) free(malloc(i));
  free(copy);
  free(block);
}
