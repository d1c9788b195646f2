// A plugin for dlopen_loop.c, built twice: with another NAME and another frame
// size, but with the same file size, so that one can take the other's place in
// the address space.
#include <stddef.h>

#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)
#define SITE __attribute__((noipa))

void *malloc(size_t size);

SITE void *JOIN(NAME, _allocate)(size_t size) {
  void *block = malloc(size);
  __asm__ volatile("" : "+r"(block) : : "memory");
  return block;
}

SITE int JOIN(NAME, _layer)(int frames, void (*callback)(void), size_t size) {
  volatile char local[FRAME];
  local[0] = (char)frames;
  if (frames > 0) {
    JOIN(NAME, _layer)(frames - 1, callback, size);
  } else {
    JOIN(NAME, _allocate)(size);
    callback();
  }
  return local[0];
}

// The one entry of both.
void plugin_run(void (*callback)(void), size_t size) {
  JOIN(NAME, _layer)(5, callback, size);
  callback();
}
