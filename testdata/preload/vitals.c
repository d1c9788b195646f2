// Threads that hold and have freed memory in arenas of their own, mappings of each kind of memory, and, in files, what the
// kernel and the C library say of the process then.
#define _GNU_SOURCE
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define THREADS 8
#define BLOCKS 8000
#define SIZE 1000

static pthread_barrier_t done;
static char buffer[1 << 16];

static void *hold(void *argument) {
  static __thread void *blocks[BLOCKS];
  for (int i = 0; i < BLOCKS; i++) memset(blocks[i] = malloc(SIZE), 1, SIZE);
  for (int i = 0; i < BLOCKS; i += 2) free(blocks[i]);
  pthread_barrier_wait(&done);
  for (;;) pause();
  return argument;
}

static void touched(size_t bytes, int flags) {
  void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, flags | MAP_ANONYMOUS, -1, 0);
  if (at == MAP_FAILED) abort();
  memset(at, 1, bytes);
}

static void copy(const char *from, const char *to) {
  FILE *in = fopen(from, "r"), *out = fopen(to, "w");
  if (!in || !out) return;
  size_t len = fread(buffer, 1, sizeof buffer, in);
  fwrite(buffer, 1, len, out);
  fclose(out);
  fclose(in);
}

int main(int argc, char **argv) {
  FILE *arenas = fopen("arenas", "w");
  setvbuf(arenas, buffer, _IOFBF, sizeof buffer);
  pthread_barrier_init(&done, NULL, THREADS + 1);
  for (int i = 0; i < THREADS; i++) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, hold, NULL)) abort();
  }
  touched(32 << 20, MAP_PRIVATE);
  touched(6 << 20, MAP_SHARED);
  memset(malloc(5 << 20), 1, 5 << 20);
  pthread_barrier_wait(&done);
  if (argc > 1 && strcmp(argv[1], "chroot") == 0) {
    mkdir("empty", 0700);
    puts(chroot("empty") == 0 && chdir("/") == 0 ? "chroot" : strerror(errno));
  }
  if (argc > 1 && strcmp(argv[1], "wait") == 0) usleep(2300000);
  // Not what closing the file frees.
  malloc_info(0, arenas);
  fflush(arenas);
  copy("/proc/self/status", "status");
  return 0;
}
