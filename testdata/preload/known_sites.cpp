// Five sites that leak a known amount each, in blocks of 16 bytes to 1 MiB, while
// the other threads churn. Each site also frees as many blocks as it leaks.
//
//   known_sites [MiB per site]
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

#include "sites.h"

COUNTS(leak_16);
COUNTS(leak_256);
COUNTS(leak_4k);
COUNTS(leak_64k);
COUNTS(leak_1m);

SITE void* leak_16(std::size_t size) { return keep(std::malloc(size)); }
SITE void* leak_256(std::size_t size) { return keep(std::malloc(size)); }
SITE void* leak_4k(std::size_t size) { return keep(std::malloc(size)); }
SITE void* leak_64k(std::size_t size) { return keep(std::malloc(size)); }
SITE void* leak_1m(std::size_t size) { return keep(std::malloc(size)); }

namespace {

struct Leak {
  site* counts;
  void* (*allocate)(std::size_t);
  std::size_t size;
};

const Leak kLeaks[] = {
    {&at_leak_16, leak_16, 16},          {&at_leak_256, leak_256, 256},
    {&at_leak_4k, leak_4k, 4 << 10},     {&at_leak_64k, leak_64k, 64 << 10},
    {&at_leak_1m, leak_1m, 1 << 20},
};

std::atomic<bool> leaking{true};

[[gnu::noipa]] std::size_t ChurnOnce(unsigned round) {
  std::vector<std::string> parts;
  for (unsigned i = 0; i < 8; ++i) {
    parts.emplace_back(20 + (round * 31 + i * 17) % 400, 'x');
  }
  return parts.back().size();
}

void Churn() {
  for (unsigned round = 0; leaking; ++round) ChurnOnce(round);
}

// Runs once per MiB of every site, so that the sites grow side by side.
void LeakOneMiB(const Leak& leak) {
  for (std::size_t bytes = 0; bytes < 1 << 20; bytes += leak.size) {
    leak.allocate(leak.size);
    count_allocated(leak.counts, leak.size);
    void* temporary = leak.allocate(leak.size);
    count_allocated(leak.counts, leak.size);
    std::free(temporary);
    count_freed(leak.counts, leak.size);
  }
}

}  // namespace

int main(int argc, char** argv) {
  const int mib = argc > 1 ? std::atoi(argv[1]) : 4;
  std::vector<std::thread> churners;
  for (int i = 0; i < 2; ++i) churners.emplace_back(Churn);
  for (int i = 0; i < mib; ++i) {
    for (const Leak& leak : kLeaks) LeakOneMiB(leak);
  }
  leaking = false;
  for (auto& churner : churners) churner.join();
  for (const Leak& leak : kLeaks) print_site(leak.counts);
}
