// Every C entry point: results, errno, alignment, zeroing, NULL and failure.
// The transcript has to be the same with and without the tracer.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <malloc.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "sites.h"

COUNTS(by_malloc);
COUNTS(by_calloc);
COUNTS(by_realloc);
COUNTS(by_reallocarray);
COUNTS(by_posix_memalign);
COUNTS(by_aligned_alloc);
COUNTS(by_memalign);
COUNTS(by_valloc);
COUNTS(by_pvalloc);

SITE void *by_malloc(size_t size) { return keep(malloc(size)); }
SITE void *by_calloc(size_t count, size_t size) { return keep(calloc(count, size)); }
SITE void *by_realloc(void *old, size_t size) { return keep(realloc(old, size)); }
SITE void *by_reallocarray(void *old, size_t count, size_t size) {
  return keep(reallocarray(old, count, size));
}
SITE int by_posix_memalign(void **block, size_t alignment, size_t size) {
  int result = posix_memalign(block, alignment, size);
  keep(*block);
  return result;
}
SITE void *by_aligned_alloc(size_t alignment, size_t size) {
  return keep(aligned_alloc(alignment, size));
}
SITE void *by_memalign(size_t alignment, size_t size) {
  return keep(memalign(alignment, size));
}
SITE void *by_valloc(size_t size) { return keep(valloc(size)); }
SITE void *by_pvalloc(size_t size) { return keep(pvalloc(size)); }

// Out of the optimizer's sight, so that absurd sizes reach the allocator.
static volatile size_t size_max = SIZE_MAX;
static volatile size_t over_ptrdiff = (size_t)PTRDIFF_MAX + 1;

static int aligned_to(const void *block, size_t alignment) {
  return (uintptr_t)block % alignment == 0;
}

static int all(const void *block, int byte, size_t size) {
  for (size_t i = 0; i < size; i++) {
    if (((const unsigned char *)block)[i] != byte) return 0;
  }
  return 1;
}

// One line of the transcript; every call starts with errno 77.
#define CALL(what, expression)                                           \
  do {                                                                   \
    errno = 77;                                                          \
    int result_ = (expression);                                          \
    int errno_ = errno;                                                  \
    printf("%s: result %d errno %d\n", what, result_, errno_);           \
  } while (0)

// What is not kept to the end is freed through here.
static void discard(const char *what, struct site *site, void *block, size_t size) {
  errno = 77;
  free(block);
  int errno_after = errno;
  printf("free after %s: errno %d\n", what, errno_after);
  if (site != NULL) count_freed(site, size);
}

static void test_malloc(void) {
  void *kept, *gone, *zero, *failed;
  CALL("malloc", (kept = by_malloc(1000)) != NULL);
  count_allocated(&at_by_malloc, 1000);
  CALL("malloc alignment", aligned_to(kept, 16));
  CALL("malloc_usable_size", malloc_usable_size(kept) >= 1000);
  CALL("malloc_usable_size(NULL)", (int)malloc_usable_size(NULL));
  CALL("malloc large", (gone = by_malloc(1 << 20)) != NULL);
  count_allocated(&at_by_malloc, 1 << 20);
  discard("malloc large", &at_by_malloc, gone, 1 << 20);
  CALL("malloc(0)", (zero = by_malloc(0)) != NULL);
  count_allocated(&at_by_malloc, 0);
  discard("malloc(0)", &at_by_malloc, zero, 0);
  discard("nothing", NULL, NULL, 0);
  CALL("malloc(SIZE_MAX)", (failed = by_malloc(size_max)) != NULL);
  CALL("malloc(PTRDIFF_MAX + 1)", (failed = by_malloc(over_ptrdiff)) != NULL);
}

static void test_calloc(void) {
  void *kept, *failed;
  CALL("calloc", (kept = by_calloc(10, 30)) != NULL);
  count_allocated(&at_by_calloc, 300);
  CALL("calloc zeroes", all(kept, 0, 300));
  for (size_t size = 24; size <= 1 << 19; size *= 3) {
    unsigned char *used = by_malloc(size);
    count_allocated(&at_by_malloc, size);
    memset(used, 0xa5, size);
    free(used);
    count_freed(&at_by_malloc, size);
    void *recycled;
    CALL("calloc after free", (recycled = by_calloc(1, size)) != NULL);
    count_allocated(&at_by_calloc, size);
    CALL("calloc zeroes recycled", all(recycled, 0, size));
    discard("calloc", &at_by_calloc, recycled, size);
  }
  CALL("calloc overflow", (failed = by_calloc(size_max / 2, 3)) != NULL);
  CALL("calloc(1, SIZE_MAX)", (failed = by_calloc(1, size_max)) != NULL);
}

static void test_realloc(void) {
  unsigned char *block, *failed;
  CALL("realloc(NULL)", (block = by_realloc(NULL, 100)) != NULL);
  count_allocated(&at_by_realloc, 100);
  memset(block, 0x5a, 100);
  CALL("realloc grow", (block = by_realloc(block, 100000)) != NULL);
  count_freed(&at_by_realloc, 100);
  count_allocated(&at_by_realloc, 100000);
  CALL("realloc keeps contents", all(block, 0x5a, 100));
  CALL("realloc shrink", (block = by_realloc(block, 50)) != NULL);
  count_freed(&at_by_realloc, 100000);
  count_allocated(&at_by_realloc, 50);
  CALL("realloc keeps contents", all(block, 0x5a, 50));
  CALL("realloc failure", (failed = by_realloc(block, size_max)) != NULL);
  CALL("realloc failure", (failed = by_realloc(block, over_ptrdiff)) != NULL);
  CALL("realloc failure keeps the block", all(block, 0x5a, 50));
  CALL("realloc to zero", (failed = by_realloc(block, 0)) != NULL);
  count_freed(&at_by_realloc, 50);
  // glibc's returns null; others make an empty block.
  free(failed);
  CALL("realloc(NULL, 0)", (block = by_realloc(NULL, 0)) != NULL);
  count_allocated(&at_by_realloc, 0);
  discard("realloc(NULL, 0)", &at_by_realloc, block, 0);
  CALL("realloc of malloc", (block = by_realloc(by_malloc(64), 640)) != NULL);
  count_allocated(&at_by_malloc, 64);
  count_freed(&at_by_malloc, 64);
  count_allocated(&at_by_realloc, 640);
}

static void test_reallocarray(void) {
  unsigned char *block, *failed;
  CALL("reallocarray(NULL)", (block = by_reallocarray(NULL, 7, 11)) != NULL);
  count_allocated(&at_by_reallocarray, 77);
  memset(block, 0x3c, 77);
  CALL("reallocarray grow", (block = by_reallocarray(block, 70, 11)) != NULL);
  count_freed(&at_by_reallocarray, 77);
  count_allocated(&at_by_reallocarray, 770);
  CALL("reallocarray overflow",
       (failed = by_reallocarray(block, size_max / 2, 3)) != NULL);
  CALL("reallocarray failure keeps the block", all(block, 0x3c, 77));
}

static void test_posix_memalign(void) {
  char untouched;
  void *block = &untouched;
  CALL("posix_memalign alignment 0", by_posix_memalign(&block, 0, 64));
  CALL("posix_memalign alignment 4", by_posix_memalign(&block, 4, 64));
  CALL("posix_memalign alignment 24", by_posix_memalign(&block, 24, 64));
  CALL("posix_memalign SIZE_MAX", by_posix_memalign(&block, 64, size_max));
  CALL("posix_memalign failure leaves the pointer", block == &untouched);
  CALL("posix_memalign alignment 8", by_posix_memalign(&block, 8, 40));
  count_allocated(&at_by_posix_memalign, 40);
  discard("posix_memalign", &at_by_posix_memalign, block, 40);
  for (size_t alignment = 16; alignment <= 1 << 16; alignment *= 8) {
    CALL("posix_memalign", by_posix_memalign(&block, alignment, 3 * alignment));
    count_allocated(&at_by_posix_memalign, 3 * alignment);
    CALL("posix_memalign alignment", aligned_to(block, alignment));
  }
  CALL("realloc of posix_memalign", (block = by_realloc(block, 99)) != NULL);
  count_freed(&at_by_posix_memalign, 3 << 16);
  count_allocated(&at_by_realloc, 99);
}

static void test_aligned(void) {
  void *block;
  CALL("aligned_alloc", (block = by_aligned_alloc(64, 640)) != NULL);
  count_allocated(&at_by_aligned_alloc, 640);
  CALL("aligned_alloc alignment", aligned_to(block, 64));
  CALL("aligned_alloc SIZE_MAX", by_aligned_alloc(64, size_max) != NULL);
  CALL("memalign", (block = by_memalign(256, 1280)) != NULL);
  count_allocated(&at_by_memalign, 1280);
  CALL("memalign alignment", aligned_to(block, 256));
  CALL("memalign SIZE_MAX", by_memalign(256, size_max) != NULL);
  CALL("valloc", (block = by_valloc(5000)) != NULL);
  count_allocated(&at_by_valloc, 5000);
  CALL("valloc alignment", aligned_to(block, 4096));
  CALL("valloc SIZE_MAX", by_valloc(size_max) != NULL);
  CALL("pvalloc", (block = by_pvalloc(8192)) != NULL);
  count_allocated(&at_by_pvalloc, 8192);
  CALL("pvalloc alignment", aligned_to(block, 4096));
  // tcmalloc rounds it up to nothing, and succeeds.
  CALL("pvalloc SIZE_MAX", (block = by_pvalloc(size_max)) != NULL);
  free(block);
}

// Entry points that only some versions of glibc have; free stands in for them.
static void test_optional(void) {
  void (*cfree_)(void *);
  void (*free_sized_)(void *, size_t);
  void (*free_aligned_sized_)(void *, size_t, size_t);
  *(void **)&cfree_ = dlsym(RTLD_DEFAULT, "cfree");
  *(void **)&free_sized_ = dlsym(RTLD_DEFAULT, "free_sized");
  *(void **)&free_aligned_sized_ = dlsym(RTLD_DEFAULT, "free_aligned_sized");

  void *block = by_malloc(111);
  count_allocated(&at_by_malloc, 111);
  errno = 77;
  if (cfree_ != NULL) {
    cfree_(block);
  } else {
    free(block);
  }
  CALL("cfree", 0);
  count_freed(&at_by_malloc, 111);

  block = by_malloc(222);
  count_allocated(&at_by_malloc, 222);
  if (free_sized_ != NULL) {
    free_sized_(block, 222);
  } else {
    free(block);
  }
  CALL("free_sized", 0);
  count_freed(&at_by_malloc, 222);

  block = by_aligned_alloc(128, 384);
  count_allocated(&at_by_aligned_alloc, 384);
  if (free_aligned_sized_ != NULL) {
    free_aligned_sized_(block, 128, 384);
  } else {
    free(block);
  }
  CALL("free_aligned_sized", 0);
  count_freed(&at_by_aligned_alloc, 384);
}

int main(void) {
  // Some allocators set errno in their first call.
  free(keep(malloc(1)));
  test_malloc();
  test_calloc();
  test_realloc();
  test_reallocarray();
  test_posix_memalign();
  test_aligned();
  test_optional();
  print_site(&at_by_malloc);
  print_site(&at_by_calloc);
  print_site(&at_by_realloc);
  print_site(&at_by_reallocarray);
  print_site(&at_by_posix_memalign);
  print_site(&at_by_aligned_alloc);
  print_site(&at_by_memalign);
  print_site(&at_by_valloc);
  print_site(&at_by_pvalloc);
}
