// After Larson's benchmark: workers replace random slots of tables, and new
// ones go on with each other's tables, so most blocks are freed by another
// thread than the one that allocated them, and threads come and go.
//
//   slots [tables] [generations] [thousands of replacements per generation]
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <thread>
#include <vector>

namespace {

constexpr std::size_t kSlots = 4096;
using Table = std::vector<std::unique_ptr<char[]>>;

std::uint64_t NextRandom(std::uint64_t& state) {
  state ^= state << 13;
  state ^= state >> 7;
  state ^= state << 17;
  return state;
}

void Replace(Table& table, std::uint64_t seed, long replacements) {
  for (long i = 0; i < replacements; ++i) {
    const std::uint64_t random = NextRandom(seed);
    auto& slot = table[random % kSlots];
    slot.reset();
    slot.reset(new char[8 + (random >> 32) % 1000]);
    slot[0] = 1;
  }
}

long Argument(int argc, char** argv, int index, long otherwise) {
  return argc > index ? std::atol(argv[index]) : otherwise;
}

}  // namespace

int main(int argc, char** argv) {
  const long tables = Argument(argc, argv, 1, 2);
  const int generations = Argument(argc, argv, 2, 10);
  const long replacements = Argument(argc, argv, 3, 50) * 1000;

  std::vector<Table> all(tables);
  for (Table& table : all) table.resize(kSlots);
  for (int generation = 0; generation < generations; ++generation) {
    std::vector<std::thread> workers;
    for (long i = 0; i < tables; ++i) {
      Table& table = all[(i + generation) % tables];
      workers.emplace_back(Replace, std::ref(table), 88172645463325252u + 977 * generation + i,
                           replacements);
    }
    for (auto& worker : workers) worker.join();
  }
}
