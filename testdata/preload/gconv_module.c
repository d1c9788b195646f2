// A character set's module for gconv_unload.c, built with one NAME and FRAME as
// a module and with another as a plugin, so that one can take the other's place
// in the address space. It allocates when it is loaded, and never converts.
#include <gconv.h>
#include <stddef.h>

#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)
#define SITE __attribute__((noipa))

void *malloc(size_t size);

// The program's.
void module_begins(void);
void module_runs(void *code, size_t size);

SITE void *JOIN(NAME, _allocate)(size_t size) {
  void *block = malloc(size);
  __asm__ volatile("" : "+r"(block) : : "memory");
  return block;
}

SITE int JOIN(NAME, _layer)(int frames, size_t size) {
  volatile char local[FRAME];
  local[0] = (char)frames;
  if (frames > 0) {
    JOIN(NAME, _layer)(frames - 1, size);
  } else {
    JOIN(NAME, _allocate)(size);
    module_runs((void *)JOIN(NAME, _allocate), size);
  }
  return local[0];
}

int gconv_init(struct __gconv_step *step) {
  step->__min_needed_from = step->__max_needed_from = 1;
  step->__min_needed_to = step->__max_needed_to = 4;
  step->__stateful = 0;
  module_begins();
  JOIN(NAME, _layer)(5, 100);
  return __GCONV_OK;
}

int gconv(void) { return __GCONV_OK; }
