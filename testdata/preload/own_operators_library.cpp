// The library of own_operators.cpp.
#include <cstdlib>
#include <new>

static int calls;

int operators_called() { return calls; }

void *operator new(std::size_t size) {
  calls++;
  void *block = std::malloc(size);
  if (block == nullptr) throw std::bad_alloc();
  return block;
}

void *operator new[](std::size_t size) { return operator new(size); }

void operator delete(void *block) noexcept {
  calls++;
  std::free(block);
}

void operator delete(void *block, std::size_t) noexcept { operator delete(block); }
void operator delete[](void *block) noexcept { operator delete(block); }
void operator delete[](void *block, std::size_t) noexcept { operator delete(block); }
