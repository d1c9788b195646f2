// Blocks are allocated in one thread and freed in another: producers fill
// batches, consumers empty them, through a bounded queue.
//
//   handover [producers, and as many consumers] [batches per producer]
#include <array>
#include <condition_variable>
#include <cstdlib>
#include <deque>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace {

constexpr std::size_t kBatch = 4096;
constexpr std::size_t kQueued = 16;
using Batch = std::array<void*, kBatch>;

class Queue {
 public:
  void Push(std::unique_ptr<Batch> batch) {
    std::unique_lock lock(mutex_);
    has_room_.wait(lock, [this] { return batches_.size() < kQueued; });
    batches_.push_back(std::move(batch));
    has_batch_.notify_one();
  }

  // Null once the queue is closed and empty.
  std::unique_ptr<Batch> Pop() {
    std::unique_lock lock(mutex_);
    has_batch_.wait(lock, [this] { return closed_ || !batches_.empty(); });
    if (batches_.empty()) return nullptr;
    auto batch = std::move(batches_.front());
    batches_.pop_front();
    has_room_.notify_one();
    return batch;
  }

  void Close() {
    std::lock_guard lock(mutex_);
    closed_ = true;
    has_batch_.notify_all();
  }

 private:
  std::mutex mutex_;
  std::condition_variable has_room_, has_batch_;
  std::deque<std::unique_ptr<Batch>> batches_;
  bool closed_ = false;
};

void Produce(Queue& queue, long batches) {
  for (long i = 0; i < batches; ++i) {
    auto batch = std::make_unique<Batch>();
    for (void*& block : *batch) {
      block = std::malloc(64);
      *static_cast<volatile char*>(block) = 1;
    }
    queue.Push(std::move(batch));
  }
}

void Consume(Queue& queue) {
  while (auto batch = queue.Pop()) {
    for (void* block : *batch) std::free(block);
  }
}

}  // namespace

int main(int argc, char** argv) {
  const int pairs = argc > 1 ? std::atoi(argv[1]) : 2;
  const long batches = argc > 2 ? std::atol(argv[2]) : 500;

  Queue queue;
  std::vector<std::thread> producers, consumers;
  for (int i = 0; i < pairs; ++i) {
    producers.emplace_back(Produce, std::ref(queue), batches);
    consumers.emplace_back(Consume, std::ref(queue));
  }
  for (auto& thread : producers) thread.join();
  queue.Close();
  for (auto& thread : consumers) thread.join();
}
