// Functions that create threads and mappings, and the truth about what each of them has acquired, how many of that it has
// released, and the bytes that are left.
#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define SITE __attribute__((noinline, noclone))
#define CHECK(condition) do { if (!(condition)) { perror(#condition); exit(3); } } while (0)

static size_t page;
static pthread_barrier_t begun;

static void *end_at_once(void *argument) { return argument; }

static void *wait_for_the_end(void *argument) {
  pthread_barrier_wait(&begun);
  for (;;) pause();
  return argument;
}

static void create(int count, size_t stack, void *(*function)(void *), int joins) {
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  if (stack) CHECK(pthread_attr_setstacksize(&attributes, stack) == 0);
  for (int i = 0; i < count; i++) {
    pthread_t thread;
    CHECK(pthread_create(&thread, &attributes, function, NULL) == 0);
    if (joins) CHECK(pthread_join(thread, NULL) == 0);
  }
  pthread_attr_destroy(&attributes);
}

SITE void threads_that_end(void) { create(100, 256 << 10, end_at_once, 1); __asm__ volatile(""); }
SITE void threads_that_stay(void) { create(7, 1 << 20, wait_for_the_end, 0); __asm__ volatile(""); }

static void *map(void *at, size_t pages, int protection, int flags) {
  void *mapped = mmap(at, pages * page, protection, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);
  CHECK(mapped != MAP_FAILED);
  return mapped;
}

#define RW (PROT_READ | PROT_WRITE)

SITE void mapped_for_ever(void) { for (int i = 0; i < 10; i++) map(NULL, 256, RW, 0); __asm__ volatile(""); }
SITE void mapped_and_unmapped(void) { for (int i = 0; i < 5; i++) CHECK(munmap(map(NULL, 16, RW, 0), 16 * page) == 0); __asm__ volatile(""); }

// 64 pages less 16 in the middle and 8 at the end.
SITE void mapped_and_cut(void) {
  char *at = map(NULL, 64, RW, 0);
  CHECK(munmap(at + 8 * page, 16 * page) == 0);
  CHECK(munmap(at + 56 * page, 8 * page) == 0);
  CHECK(munmap(at + 1, page) != 0);
}

// Two mappings under the third: of the one nothing is left, of the other ten pages.
SITE char *mapped_below(void) {
  char *at = map(NULL, 30, PROT_NONE, 0);
  map(at, 10, RW, MAP_FIXED);
  return at;
}
SITE void mapped_over(char *at) { map(at, 20, RW, MAP_FIXED); __asm__ volatile(""); }

// 1 GiB of addresses, of which 20 pages can be accessed in the end.
SITE void reserved(void) {
  char *at = map(NULL, (1 << 30) / page, PROT_NONE, 0);
  CHECK(mprotect(at + 4 * page, 32 * page, RW) == 0);
  CHECK(mprotect(at + 6 * page, 4 * page, PROT_NONE) == 0);
  CHECK(mprotect(at, 8 * page, PROT_NONE) == 0);
  CHECK(mprotect(at + 8 * page, page, PROT_READ) == 0);
  CHECK(mprotect(at + 31 * page, 5 * page, PROT_NONE) == 0);
  CHECK(mprotect(at + 9 * page, 21 * page, PROT_NONE) == 0);
  CHECK(mprotect(at + 10 * page, 18 * page, RW) == 0);
}

SITE char *mapped_to_grow(void) { char *at = map(NULL, 4, RW, 0); memset(at, 7, 4 * page); return at; }
SITE char *grown(char *at) {
  at = mremap(at, 4 * page, 400 * page, MREMAP_MAYMOVE);
  CHECK(at != MAP_FAILED && at[4 * page - 1] == 7);
  return at;
}
SITE void shrunk(char *at) { CHECK(mremap(at, 400 * page, 100 * page, 0) == at); }

// There is no room to grow: what was to grow is still there, to be unmapped.
SITE void refused(void) {
  char *at = map(NULL, 20, RW, 0);
  map(at + 10 * page, 10, PROT_READ, MAP_FIXED);
  CHECK(mremap(at, 10 * page, 11 * page, 0) == MAP_FAILED);
  CHECK(munmap(at, 10 * page) == 0);
}

SITE void file(void) {
  int self = fileno(fopen("/proc/self/exe", "r"));
  CHECK(mmap(NULL, page, PROT_READ, MAP_PRIVATE, self, 0) != MAP_FAILED);
}

static void say(const char *role, const char *resource, const char *site, int acquired, int released, size_t bytes) {
  printf("%s%s %s %d %d %zu\n", role, resource, site, acquired, released, bytes);
}

static void be_child(void) {
  FILE *pid = fopen("pid.child", "w");
  fprintf(pid, "%d", getpid());
  fclose(pid);
  free(malloc(100));
  mapped_and_unmapped();
  threads_that_end();
  say("child:", "thread", "threads_that_end", 100, 100, 0);
  say("child:", "mapping", "mapped_for_ever", 10, 0, 10 * 256 * page);
  say("child:", "mapping", "mapped_and_unmapped", 5, 5, 0);
  say("child:", "mapping", "shrunk", 1, 0, 100 * page);
  fflush(stdout);
  exit(0);
}

int main(int argc, char **argv) {
  free(malloc(100));
  page = sysconf(_SC_PAGESIZE);
  pthread_barrier_init(&begun, NULL, 8);
  mapped_for_ever();
  mapped_and_unmapped();
  mapped_and_cut();
  mapped_over(mapped_below());
  reserved();
  shrunk(grown(mapped_to_grow()));
  refused();
  file();
  threads_that_end();
  threads_that_stay();
  pthread_barrier_wait(&begun);
  say("", "thread", "threads_that_end", 100, 100, 0);
  say("", "thread", "threads_that_stay", 7, 0, 7 << 20);
  say("", "mapping", "mapped_for_ever", 10, 0, 10 * 256 * page);
  say("", "mapping", "mapped_and_unmapped", 5, 5, 0);
  say("", "mapping", "mapped_and_cut", 1, 0, 40 * page);
  // 30 pages that cannot be accessed, and the 10 over their beginning.
  say("", "mapping", "mapped_below", 2, 1, 0);
  say("", "mapping", "mapped_over", 1, 0, 20 * page);
  say("", "mapping", "reserved", 1, 0, 20 * page);
  say("", "mapping", "mapped_to_grow", 1, 1, 0);
  say("", "mapping", "grown", 1, 1, 0);
  say("", "mapping", "shrunk", 1, 0, 100 * page);
  say("", "mapping", "refused", 2, 1, 10 * page);
  fflush(stdout);
  if (argc > 1 && strcmp(argv[1], "fork") == 0) {
    pid_t child = fork();
    if (child == 0) be_child();
    int status;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
  }
  return 0;
}
