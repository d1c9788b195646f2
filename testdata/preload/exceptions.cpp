// Allocations before, during and after exceptions that unwind many frames.
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <stdexcept>
#include <string>
#include <vector>

#include "sites.h"

namespace {

COUNTS(before_throw);
COUNTS(in_destructor);
COUNTS(in_handler);
COUNTS(after_catch);

void Allocate(site& counts, void* (*function)(std::size_t), std::size_t size) {
  function(size);
  count_allocated(&counts, size);
}

}  // namespace

SITE void* before_throw(std::size_t size) { return keep(std::malloc(size)); }
SITE void* in_destructor(std::size_t size) { return keep(std::malloc(size)); }
SITE void* in_handler(std::size_t size) { return keep(std::malloc(size)); }
SITE void* after_catch(std::size_t size) { return keep(std::malloc(size)); }

namespace {

// Runs while the exception passes, on top of the unwinder's own frames.
struct Cleanup {
  ~Cleanup() { Allocate(at_in_destructor, in_destructor, 48); }
};

[[gnu::noipa]] int Descend(int frames) {
  volatile char local[32];
  local[0] = static_cast<char>(frames);
  if (frames == 0) {
    Allocate(at_before_throw, before_throw, 32);
    throw std::runtime_error("from the bottom of the recursion");
  }
  if (frames % 10 != 0) return Descend(frames - 1) + local[0];
  Cleanup cleanup;
  return Descend(frames - 1) + local[0];
}

[[gnu::noipa]] void Rethrow(int frames) {
  try {
    Descend(frames);
  } catch (const std::exception& error) {
    Allocate(at_in_handler, in_handler, 64);
    std::throw_with_nested(std::logic_error(std::string("met: ") + error.what()));
  }
}

}  // namespace

int main() {
  std::vector<std::exception_ptr> kept;
  for (int i = 0; i < 200; ++i) {
    try {
      Rethrow(20 + i % 30);
    } catch (...) {
      kept.push_back(std::current_exception());
    }
    Allocate(at_after_catch, after_catch, 80);
  }
  std::printf("kept %zu exceptions\n", kept.size());
  print_site(&at_before_throw);
  print_site(&at_in_destructor);
  print_site(&at_in_handler);
  print_site(&at_after_catch);
}
