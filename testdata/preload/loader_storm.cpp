// Everything at the loader at once: two threads load and unload libraries whose constructors allocate and whose thread-local
// storage is large, while others allocate, list the loaded images, walk their stacks and throw.
//
//   loader_storm LIBRARY LIBRARY [rounds]
#include <dlfcn.h>
#include <execinfo.h>
#include <link.h>

#include <cstdlib>
#include <stdexcept>
#include <thread>
#include <vector>

#include "sites.h"

COUNTS(in_constructor);
COUNTS(in_plugin);
COUNTS(beside);
COUNTS(in_callback);
COUNTS(around_backtrace);
COUNTS(before_throw);

SITE void *in_constructor(size_t size) { return keep(malloc(size)); }
SITE void *in_plugin(size_t size) { return keep(malloc(size)); }
SITE void *beside(size_t size) { return keep(malloc(size)); }
SITE void *in_callback(size_t size) { return keep(malloc(size)); }
SITE void *around_backtrace(size_t size) { return keep(malloc(size)); }
SITE void *before_throw(size_t size) { return keep(malloc(size)); }

enum { SIZE = 100, STAYS = 10 };

// Of ten blocks one stays.
#define USE(site, round)                                          \
  do {                                                            \
    void *block_ = site(SIZE);                                    \
    count_allocated(&at_##site, SIZE);                            \
    if ((round) % STAYS != 0) {                                   \
      free(block_);                                               \
      count_freed(&at_##site, SIZE);                              \
    }                                                             \
  } while (0)

extern "C" void *plugin_begins() {
  count_allocated(&at_in_constructor, SIZE);
  return in_constructor(SIZE);
}

extern "C" void plugin_ends(void *block) {
  free(block);
  count_freed(&at_in_constructor, SIZE);
}

extern "C" void plugin_allocates(int round) { USE(in_plugin, round); }

static void load(const char *path, int rounds) {
  for (int round = 0; round < rounds; round++) {
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) {
      printf("%s\n", dlerror());
      return;
    }
    int (*touch)(int);
    *reinterpret_cast<void **>(&touch) = dlsym(library, "plugin_touch");
    if (touch(round) != round) printf("thread-local storage was not the thread's own\n");
    dlclose(library);
  }
}

static void allocate(int rounds) {
  for (int round = 0; round < rounds * 20; round++) USE(beside, round);
}

static int each(dl_phdr_info *, size_t, void *round) {
  USE(in_callback, *static_cast<int *>(round));
  return 1;
}

static void list(int rounds) {
  for (int round = 0; round < rounds * 5; round++) dl_iterate_phdr(each, &round);
}

static void walk(int rounds) {
  void *frames[32];
  for (int round = 0; round < rounds * 5; round++) {
    USE(around_backtrace, round);
    if (backtrace(frames, 32) < 3) printf("a short stack\n");
  }
}

static void throws(int round) {
  USE(before_throw, round);
  throw std::runtime_error("thrown");
}

static void fail(int rounds) {
  int caught = 0;
  for (int round = 0; round < rounds * 5; round++) {
    try {
      throws(round);
    } catch (const std::runtime_error &) {
      caught++;
    }
  }
  if (caught != rounds * 5) printf("caught %d\n", caught);
}

int main(int argc, char **argv) {
  if (argc < 3) return 2;
  const int rounds = argc > 3 ? atoi(argv[3]) : 200;
  std::vector<std::thread> threads;
  for (int i = 0; i < 2; i++) {
    threads.emplace_back(load, argv[1 + i], rounds);
    threads.emplace_back(allocate, rounds);
  }
  threads.emplace_back(list, rounds);
  threads.emplace_back(walk, rounds);
  threads.emplace_back(fail, rounds);
  for (std::thread &thread : threads) thread.join();
  print_site(&at_in_constructor);
  print_site(&at_in_plugin);
  print_site(&at_beside);
  print_site(&at_in_callback);
  print_site(&at_around_backtrace);
  print_site(&at_before_throw);
}
