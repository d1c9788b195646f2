// Blocks are allocated in one thread and freed in the next, through queues. What
// stays is decided by number, not by timing.
//
//   threads [blocks per thread]
#include <condition_variable>
#include <cstdlib>
#include <deque>
#include <mutex>
#include <thread>
#include <vector>

#include "sites.h"

namespace {

constexpr int kThreads = 4;

COUNTS(produce_small);
COUNTS(produce_large);
COUNTS(regrow);

struct Block {
  void* address;
  std::size_t size;
  site* origin;
  int number;
};

class Queue {
 public:
  void Push(Block block) {
    std::lock_guard lock(mutex_);
    blocks_.push_back(block);
    changed_.notify_one();
  }

  Block Pop() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return !blocks_.empty(); });
    const Block block = blocks_.front();
    blocks_.pop_front();
    return block;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Block> blocks_;
};

Queue queues[kThreads];

}  // namespace

SITE void* produce_small(std::size_t size) { return keep(std::malloc(size)); }
SITE void* produce_large(std::size_t size) { return keep(std::malloc(size)); }
SITE void* regrow(void* old, std::size_t size) {
  return keep(std::realloc(old, size));
}

namespace {

Block Produce(int number) {
  const bool large = number % 100 < 5;
  const std::size_t size = large ? 10000 + number % 7 : 16 + number % 240;
  site* origin = large ? &at_produce_large : &at_produce_small;
  void* address = large ? produce_large(size) : produce_small(size);
  count_allocated(origin, size);
  return {address, size, origin, number};
}

// Of ten blocks one stays, one is regrown and stays, and eight are freed.
void Consume(const Block& block) {
  if (block.number % 10 == 3) return;
  if (block.number % 10 == 4) {
    regrow(block.address, 2 * block.size);
    count_allocated(&at_regrow, 2 * block.size);
  } else {
    std::free(block.address);
  }
  count_freed(block.origin, block.size);
}

void Work(int self, int blocks) {
  Queue& next = queues[(self + 1) % kThreads];
  for (int i = 0; i < blocks; ++i) {
    next.Push(Produce(i));
    if (i % 2 == 1) {
      Consume(queues[self].Pop());
      Consume(queues[self].Pop());
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  const int blocks = argc > 1 ? std::atoi(argv[1]) : 20000;
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) threads.emplace_back(Work, i, blocks);
  for (auto& thread : threads) thread.join();
  print_site(&at_produce_small);
  print_site(&at_produce_large);
  print_site(&at_regrow);
}
