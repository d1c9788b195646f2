// One behaviour for each verdict of `analyzer report`, named by the argument. What it does, it does at ticks of 50 ms from its
// start, whatever has held it up meanwhile, and it ends with the truth about it:
//
//   live, allocated   as in sites.h
//   peak <function> <bytes> <blocks>      live of a site when most was
//   thread <function> <bytes> <count>     stacks of threads that a function has created, as asked for
//   mapping <function> <bytes> <count>    mapped by a function
//   ticks <function> <first> <last>       between which a function was at work; of a sawtooth, from one peak to the next
//
// Where it says "waiting" it goes on with the next line of its input, and counts ticks anew.
#define _GNU_SOURCE
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "sites.h"

#define KIB 1024
#define MIB (1024 * KIB)
#define CHECK(condition) do { if (!(condition)) { perror(#condition); exit(3); } } while (0)

enum { TICK_MS = 50, MOST = 20000 };

static struct timespec start;

static void begin(void) { clock_gettime(CLOCK_MONOTONIC, &start); }

static void until(int tick) {
  struct timespec due = start;
  due.tv_nsec += tick % (1000 / TICK_MS) * TICK_MS * 1000000L;
  due.tv_sec += tick / (1000 / TICK_MS) + due.tv_nsec / 1000000000L;
  due.tv_nsec %= 1000000000L;
  while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &due, NULL) != 0) {
  }
}

static void wait_for_a_line(void) {
  puts("waiting");
  fflush(stdout);
  while (getchar() != '\n') {
  }
  begin();
}

static void *touched(void *block, size_t bytes) {
  CHECK(block != NULL);
  return keep(memset(block, 1, bytes));
}

static void say(const char *kind, const char *function, long long first, long long second) {
  printf("%s%s %s %lld %lld\n", kind, role_suffix, function, first, second);
}

// Blocks of one site.
struct blocks {
  size_t count, size;
  char *all[MOST];
};

COUNTS(request);
SITE void *request(size_t size) { count_allocated(&at_request, size); return keep(malloc(size)); }

static struct blocks requests;

// What every server does: as many blocks go as come.
static void serve(void) {
  for (size_t i = 0; i < requests.count; i++) {
    free(requests.all[i]);
    count_freed(&at_request, 3000);
  }
  requests.count = 20;
  for (size_t i = 0; i < requests.count; i++) requests.all[i] = touched(request(3000), 3000);
}

static void serve_until(int tick, int end) {
  for (; tick <= end; tick++) {
    until(tick);
    serve();
  }
}

// 60 MB in 100 ticks, never freed.
COUNTS(leak);
SITE void *leak(size_t size) { count_allocated(&at_leak, size); return keep(malloc(size)); }

static void live_leak(void) {
  for (int tick = 1; tick <= 100; tick++) {
    until(tick);
    serve();
    for (int i = 0; i < 100; i++) touched(leak(6000), 6000);
  }
  until(101);
  print_site(&at_leak);
  say("ticks", "leak", 1, 100);
}

// The same, and all of it is freed before the end, as of a session that is closed.
static void closed(void) {
  static struct blocks session;
  for (int tick = 1; tick <= 100; tick++) {
    until(tick);
    serve();
    for (int i = 0; i < 100; i++) session.all[session.count++] = touched(leak(6000), 6000);
  }
  print_site(&at_leak);
  say("ticks", "leak", 1, 100);
  until(103);
  while (session.count > 0) free(session.all[--session.count]);
}

// 64 threads have 64 MB at once, free it, and stay. A block at the end of each arena keeps it from being cut.
enum { THREADS = 64 };
COUNTS(work);
COUNTS(pin);
SITE void *work(size_t size) { count_allocated(&at_work, size); return keep(malloc(size)); }
SITE void *pin(size_t size) { count_allocated(&at_pin, size); return keep(malloc(size)); }

static pthread_barrier_t together;

static void *work_and_stay(void *argument) {
  void *blocks[1000];
  pthread_barrier_wait(&together);
  for (int i = 0; i < 1000; i++) blocks[i] = touched(work(1000), 1000);
  touched(pin(1000), 1000);
  pthread_barrier_wait(&together);
  // Most is live for a while.
  pthread_barrier_wait(&together);
  for (int i = 0; i < 1000; i++) {
    free(blocks[i]);
    count_freed(&at_work, 1000);
  }
  pthread_barrier_wait(&together);
  for (;;) pause();
  return argument;
}

SITE void create_servers(void) {
  for (int i = 0; i < THREADS; i++) {
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, work_and_stay, NULL) == 0);
  }
  __asm__ volatile("");
}

static void arenas(void) {
  pthread_barrier_init(&together, NULL, THREADS + 1);
  serve_until(1, 20);
  create_servers();
  pthread_barrier_wait(&together);
  pthread_barrier_wait(&together);
  until(40);
  pthread_barrier_wait(&together);
  pthread_barrier_wait(&together);
  serve_until(41, 100);
  print_site(&at_pin);
  say("peak", "work", at_work.allocated_bytes, at_work.allocated_blocks);
}

// glibc raises the size from which it maps blocks to that of a mapped block that is freed: what is smaller comes from the heap
// from then on, and stays there below a small block.
COUNTS(batch);
SITE void *batch(size_t size) { count_allocated(&at_batch, size); return keep(malloc(size)); }

static void threshold(void) {
  enum { BATCHES = 8, SIZE = 8 * MIB };
  void *batches[BATCHES];
  serve_until(1, 10);
  free(touched(batch(2 * SIZE), 2 * SIZE));
  count_freed(&at_batch, 2 * SIZE);
  serve_until(11, 30);
  for (int i = 0; i < BATCHES; i++) batches[i] = touched(batch(SIZE), SIZE);
  touched(pin(5000), 5000);
  until(50);
  for (int i = 0; i < BATCHES; i++) {
    free(batches[i]);
    count_freed(&at_batch, SIZE);
  }
  serve_until(51, 100);
  print_site(&at_pin);
  say("peak", "batch", BATCHES * SIZE, BATCHES);
}

// 64 threads, one a tick, use half a mebibyte of their stacks each.
static void *use_stack(void *argument) {
  char room[512 * KIB];
  touched(room, sizeof room);
  for (;;) pause();
  return argument;
}

SITE void create_worker(void) {
  pthread_attr_t attributes;
  pthread_t thread;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, MIB);
  CHECK(pthread_create(&thread, &attributes, use_stack, NULL) == 0);
  pthread_attr_destroy(&attributes);
}

static void threads(void) {
  for (int tick = 1; tick <= THREADS; tick++) {
    until(tick);
    serve();
    create_worker();
  }
  serve_until(THREADS + 1, THREADS + 36);
  say("thread", "create_worker", (long long)THREADS * MIB, THREADS);
}

// 40 MiB mapped one by one, and never unmapped.
SITE void map_more(void) {
  void *at = mmap(NULL, 512 * KIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  CHECK(at != MAP_FAILED);
  touched(at, 512 * KIB);
}

static void mappings(void) {
  for (int tick = 1; tick <= 80; tick++) {
    until(tick);
    serve();
    map_more();
  }
  until(81);
  say("mapping", "map_more", 80LL * 512 * KIB, 80);
}

// A cache that is full after 20 ticks of 100.
COUNTS(fill);
SITE void *fill(size_t size) { count_allocated(&at_fill, size); return keep(malloc(size)); }

static void warm_up(void) {
  for (int tick = 1; tick <= 20; tick++) {
    until(tick);
    serve();
    for (int i = 0; i < 400; i++) touched(fill(5000), 5000);
  }
  serve_until(21, 100);
  print_site(&at_fill);
  say("ticks", "fill", 1, 20);
}

// 16 ticks of 24 add four mebibytes each; then it is all there for four, and nothing for four. The last tooth ends half-way.
COUNTS(buffer);
SITE void *buffer(size_t size) { count_allocated(&at_buffer, size); return keep(malloc(size)); }

static void sawtooth(void) {
  enum { PERIOD = 24, RISE = 16, FALL = 20, BLOCKS = 512, SIZE = 8 * KIB };
  static struct blocks buffers;
  for (int tick = 1; tick <= 5 * PERIOD + 10; tick++) {
    until(tick);
    int phase = tick % PERIOD;
    if (phase == FALL) {
      for (size_t i = 0; i < buffers.count; i++) {
        free(buffers.all[i]);
        count_freed(&at_buffer, SIZE);
      }
      buffers.count = 0;
    }
    if (phase >= RISE) continue;
    for (int i = 0; i < BLOCKS; i++) buffers.all[buffers.count++] = touched(buffer(SIZE), SIZE);
  }
  until(5 * PERIOD + 11);
  print_site(&at_buffer);
  say("peak", "buffer", (long long)RISE * BLOCKS * SIZE, RISE * BLOCKS);
  say("ticks", "buffer", 0, PERIOD);
}

// Half-way, 32 MiB at once.
COUNTS(load);
SITE void *load(size_t size) { count_allocated(&at_load, size); return keep(malloc(size)); }

static void step(void) {
  serve_until(1, 70);
  wait_for_a_line();
  touched(load(32 * MIB), 32 * MIB);
  serve_until(1, 70);
  print_site(&at_load);
}

// A child writes to each page of the 48 MB that it has inherited, and allocates nothing that stays.
COUNTS(prepare);
SITE void *prepare(size_t size) { count_allocated(&at_prepare, size); return keep(malloc(size)); }

static void copy_on_write(void) {
  enum { BLOCKS = 8000, SIZE = 6000, TICKS = 80 };
  static struct blocks data;
  for (int i = 0; i < BLOCKS; i++) data.all[i] = touched(prepare(SIZE), SIZE);
  fflush(stdout);
  pid_t child = fork();
  CHECK(child >= 0);
  if (child > 0) {
    int status;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    return;
  }
  TAKE_ROLE("child");
  // A child of which nothing is recorded has no file: one of these is, at any interval.
  for (int i = 0; i < 16 * KIB; i++) free(keep(malloc(64 * KIB)));
  wait_for_a_line();
  for (int tick = 1; tick <= TICKS; tick++) {
    until(tick);
    serve();
    for (int i = BLOCKS / TICKS * (tick - 1); i < BLOCKS / TICKS * tick; i++) memset(data.all[i], 2, SIZE);
  }
  until(TICKS + 1);
  print_site(&at_prepare);
}

// Blocks come and go.
static void nothing(void) {
  serve_until(1, 80);
}

int main(int argc, char **argv) {
  static const struct {
    const char *name;
    void (*run)(void);
  } classes[] = {
      {"leak", live_leak}, {"arenas", arenas},     {"threshold", threshold}, {"threads", threads},
      {"mappings", mappings}, {"warm-up", warm_up}, {"sawtooth", sawtooth},   {"step", step},
      {"copy-on-write", copy_on_write}, {"nothing", nothing}, {"closed", closed},
  };
  begin();
  serve();
  for (size_t i = 0; argc > 1 && i < sizeof classes / sizeof *classes; i++) {
    if (strcmp(argv[1], classes[i].name) != 0) continue;
    classes[i].run();
    return 0;
  }
  fprintf(stderr, "no such behaviour\n");
  return 2;
}
