// The library of loader_storm.cpp: allocates in its constructor, with the loader's lock held, and has more thread-local
// storage than a thread's static block has room for, so that the first touch of it allocates too.
#include <string.h>

void *plugin_begins(void);
void plugin_ends(void *block);
void plugin_allocates(int round);

static __thread char large[64 << 10];
static __thread int last;
static void *block;

__attribute__((constructor)) static void begin(void) { block = plugin_begins(); }
__attribute__((destructor)) static void end(void) { plugin_ends(block); }

int plugin_touch(int round) {
  memset(large, round, sizeof large);
  last = round;
  plugin_allocates(round);
  return large[round % (int)sizeof large] == (char)round ? last : -1;
}
