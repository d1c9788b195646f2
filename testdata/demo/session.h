// What holds memory in the demo server: the vocabulary, the buffer pool and the
// session with its executor cache.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "serving.h"

namespace serving {

constexpr std::size_t kVocabularyPages = 8192;
constexpr std::size_t kPoolBuffers = 128;
constexpr char kOutputs[] = "->StatefulPartitionedCall:0";

// All names have the same length, and so have all keys made of them.
inline std::string InputName(std::size_t index) {
  const std::string number = std::to_string(index);
  return "serving_default_feature_" + std::string(2 - number.size(), '0') +
         number + ":0";
}

// Embeddings by page, loaded at the first look-up and kept.
class VocabularyCache {
 public:
  using Page = std::array<float, 2048>;

  VocabularyCache() { pages_.reserve(kVocabularyPages); }

  SERVING_LAYER const Page& Find(std::size_t id) {
    std::lock_guard lock(mutex_);
    auto it = pages_.find(id);
    if (it == pages_.end()) it = pages_.emplace(id, LoadPage(id)).first;
    return *it->second;
  }

  bool full() {
    std::lock_guard lock(mutex_);
    return pages_.size() == kVocabularyPages;
  }

 private:
  SERVING_LAYER static std::unique_ptr<Page> LoadPage(std::size_t id) {
    auto page = std::make_unique<Page>();
    for (std::size_t i = 0; i < page->size(); ++i) {
      (*page)[i] = static_cast<float>((id * 31 + i * 17) % 257) / 128 - 1;
    }
    return page;
  }

  std::mutex mutex_;
  std::unordered_map<std::size_t, std::unique_ptr<Page>> pages_;
};

// Batch buffers, allocated once. Never empty as long as there are fewer
// workers than buffers.
class BufferPool {
 public:
  using Buffer = std::vector<float>;

  SERVING_LAYER BufferPool() {
    free_.reserve(kPoolBuffers);
    for (std::size_t i = 0; i < kPoolBuffers; ++i) {
      free_.emplace_back((256 << 10) / sizeof(float));
    }
  }

  Buffer Acquire() {
    std::lock_guard lock(mutex_);
    Buffer buffer = std::move(free_.back());
    free_.pop_back();
    return buffer;
  }

  void Release(Buffer buffer) {
    std::lock_guard lock(mutex_);
    free_.push_back(std::move(buffer));
  }

 private:
  std::mutex mutex_;
  std::vector<Buffer> free_;
};

// A compiled graph; the entries of the executor cache share one.
class Executors {
 public:
  explicit Executors(std::vector<std::unique_ptr<Kernel>> graph)
      : graph_(std::move(graph)) {}

  SERVING_LAYER Tensor Execute(const Tensor& batch) const {
    return Evaluate(graph_.size(), batch);
  }

 private:
  // The value of the first `node` kernels, one after the other, on the batch.
  SERVING_LAYER Tensor Evaluate(std::size_t node, const Tensor& batch) const {
    if (node == 0) return batch;
    return RunKernel(node, batch);
  }

  SERVING_LAYER Tensor RunKernel(std::size_t node, const Tensor& batch) const {
    const Tensor input = Evaluate(node - 1, batch);
    return graph_[node - 1]->Compute(input);
  }

  std::vector<std::unique_ptr<Kernel>> graph_;
};

class Session final : public Runtime {
 public:
  using ExecutorMap =
      std::unordered_map<std::string, std::shared_ptr<const Executors>>;

  static constexpr std::size_t kNodeBytes =
      sizeof(void*) + sizeof(ExecutorMap::value_type) + sizeof(std::size_t);

  Session(const Model& model, BufferPool& pool, std::size_t expected_entries)
      : model_(model), pool_(pool) {
    executors_.reserve(expected_entries);
  }

  SERVING_LAYER Tensor Run(const Feeds& feeds) override {
    Tensor outputs = RunInternal(feeds);
    runs_.fetch_add(1, std::memory_order_relaxed);
    return outputs;
  }

  static std::size_t KeyLength() {
    return kInputs * (InputName(0).size() + 1) + std::strlen(kOutputs);
  }

  std::size_t cache_entries() {
    std::lock_guard lock(mutex_);
    return executors_.size();
  }

 private:
  SERVING_LAYER Tensor RunInternal(const Feeds& feeds) {
    const auto executors = GetOrCreateExecutors(feeds);
    return executors->Execute(Concatenate(feeds));
  }

  // The bug. Equal sets of inputs share their executors through the sorted
  // key, but each order in which they arrive is remembered under its own key,
  // and nothing is ever evicted.
  SERVING_LAYER std::shared_ptr<const Executors> GetOrCreateExecutors(
      const Feeds& feeds) {
    std::vector<std::string> names;
    for (const auto& [name, values] : feeds) names.push_back(name);
    const std::string key = MakeKey(names);

    std::lock_guard lock(mutex_);
    if (auto it = executors_.find(key); it != executors_.end()) {
      return it->second;
    }
    std::sort(names.begin(), names.end());
    const std::string sorted_key = MakeKey(names);
    auto it = executors_.find(sorted_key);
    if (it == executors_.end()) {
      auto executors = std::make_shared<const Executors>(model_.BuildGraph());
      it = executors_.emplace(sorted_key, executors).first;
    }
    return executors_.emplace(key, it->second).first->second;
  }

  SERVING_LAYER static std::string MakeKey(
      const std::vector<std::string>& names) {
    std::string key;
    key.reserve(KeyLength());
    for (const auto& name : names) key.append(name).push_back(',');
    return key.append(kOutputs);
  }

  SERVING_LAYER Tensor Concatenate(const Feeds& feeds) {
    auto staging = pool_.Acquire();
    std::size_t size = 0;
    for (const auto& [name, values] : feeds) {
      std::copy(values.begin(), values.end(), staging.begin() + size);
      size += values.size();
    }
    Tensor batch(staging.begin(), staging.begin() + size);
    pool_.Release(std::move(staging));
    return batch;
  }

  const Model& model_;
  BufferPool& pool_;
  std::atomic<long> runs_{0};
  std::mutex mutex_;
  ExecutorMap executors_;
};

}  // namespace serving
