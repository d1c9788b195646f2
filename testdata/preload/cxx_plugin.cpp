// Every operator new that can fail, in a library that a program without a C++ runtime loads: failures throw and are
// caught here, handlers are called, and what is allocated is freed by the operators that belong to it.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <new>
#include <string>
#include <unordered_map>

#include "sites.h"

namespace {

constexpr std::size_t kTooMuch = std::size_t{1} << 62;
constexpr std::align_val_t kAligned{128};
int handled;

void Handler() {
  ++handled;
  std::set_new_handler(nullptr);
}

template <typename Allocate>
int Fails(Allocate allocate) {
  try {
    keep(allocate());
    return 0;
  } catch (const std::bad_alloc &) {
    return 1;
  }
}

}  // namespace

COUNTS(leak);

SITE void *leak(std::size_t size) { return keep(operator new(size)); }

extern "C" void run(int last) {
  std::unordered_map<std::string, std::string> map;
  for (int i = 0; i < 1000; i++) map.emplace(std::string(40, 'k') + std::to_string(i), std::string(100, 'v'));

  void *aligned = keep(operator new(1000, kAligned));
  bool is_aligned = reinterpret_cast<std::uintptr_t>(aligned) % 128 == 0;
  operator delete(aligned, kAligned);
  void *empty = keep(operator new(0));
  bool is_distinct = empty != nullptr;
  operator delete(empty);

  handled = 0;
  std::set_new_handler(Handler);
  int failures = Fails([] { return operator new(kTooMuch); });
  failures += Fails([] { return operator new[](kTooMuch); });
  failures += Fails([] { return operator new(kTooMuch, kAligned); });
  bool is_null = keep(operator new(kTooMuch, std::nothrow)) == nullptr;

  leak(321);
  count_allocated(&at_leak, 321);
  std::printf("%zu entries, aligned %d, distinct %d, thrown %d, handled %d, null %d\n", map.size(), is_aligned,
              is_distinct, failures, handled, is_null);
  if (last) print_site(&at_leak);
}
