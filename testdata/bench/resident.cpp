// Threads that allocate, keep a part, and wait, so that all of them are alive
// when the process prints its resident memory and the anonymous part of it in
// KiB.
//
//   resident [threads] [allocations per thread]
#include <barrier>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <memory>
#include <string>
#include <thread>
#include <vector>

namespace {

constexpr long kKeptEvery = 64;

std::vector<std::unique_ptr<char[]>> Allocate(long allocations) {
  std::vector<std::unique_ptr<char[]>> kept;
  for (long i = 0; i < allocations; ++i) {
    auto block = std::make_unique<char[]>(16 + i % 1000);
    if (i % kKeptEvery == 0) kept.push_back(std::move(block));
  }
  return kept;
}

long Status(const std::string& key) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.rfind(key + ":", 0) == 0) return std::atol(line.c_str() + key.size() + 1);
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const int threads = argc > 1 ? std::atoi(argv[1]) : 1;
  const long allocations = argc > 2 ? std::atol(argv[2]) : 20000;

  // The main thread works too.
  std::barrier allocated(threads), printed(threads);
  std::vector<std::thread> others;
  for (int i = 1; i < threads; ++i) {
    others.emplace_back([&] {
      const auto kept = Allocate(allocations);
      allocated.arrive_and_wait();
      printed.arrive_and_wait();
    });
  }
  const auto kept = Allocate(allocations);
  allocated.arrive_and_wait();
  std::cout << Status("VmRSS") << ' ' << Status("RssAnon") << '\n';
  printed.arrive_and_wait();
  for (auto& thread : others) thread.join();
}
