// What an inference server does to its heap: eight threads, requests with
// temporaries, some forty frames of layers above every allocation, real
// arithmetic between them, and a cache under the order of a request's inputs,
// which now and then is a new one.
//
//   server [threads] [requests per thread] [passes over the weights]
#include <array>
#include <cstdint>
#include <cstdlib>
#include <cstdio>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

namespace {

constexpr int kLayers = 32;       // frames between a request and its work
constexpr int kInputs = 6;
constexpr std::size_t kWidth = 128;
constexpr std::size_t kShards = 8;
constexpr int kNewOrderEvery = 8;  // requests

class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed) {}
  std::uint64_t operator()() {
    state_ ^= state_ << 13;
    state_ ^= state_ >> 7;
    state_ ^= state_ << 17;
    return state_;
  }

 private:
  std::uint64_t state_;
};

struct Plan {
  std::string signature;
  std::vector<float> constants;
};

// Never evicted, as the executor caches of such servers are.
class PlanCache {
 public:
  const Plan& FindOrCreate(const std::string& key, std::uint64_t seed) {
    Shard& shard = shards_[std::hash<std::string>{}(key) % kShards];
    std::lock_guard lock(shard.mutex);
    auto found = shard.plans.find(key);
    if (found == shard.plans.end()) {
      auto plan = std::make_unique<Plan>();
      plan->signature = "serving_default/" + key;
      plan->constants.resize(16 + seed % 16);
      found = shard.plans.emplace(key, std::move(plan)).first;
    }
    return *found->second;
  }

  std::size_t Size() const {
    std::size_t size = 0;
    for (const Shard& shard : shards_) size += shard.plans.size();
    return size;
  }

 private:
  struct Shard {
    std::mutex mutex;
    std::unordered_map<std::string, std::unique_ptr<Plan>> plans;
  };
  std::array<Shard, kShards> shards_;
};

struct Server {
  PlanCache cache;
  std::vector<float> weights = std::vector<float>(kWidth * kWidth, 0.25f);
  int passes = 1;
};

struct Request {
  Server& server;
  Random random;
  long number;
  float answer = 0;
};

__attribute__((noinline)) float Multiply(const std::vector<float>& weights,
                                         const std::vector<float>& inputs, int passes) {
  float sum = 0;
  for (int pass = 0; pass < passes; ++pass) {
    for (std::size_t row = 0; row < kWidth; ++row) {
      const float* weight = &weights[row * kWidth];
      float dot = 0;
      for (std::size_t i = 0; i < kWidth; ++i) dot += weight[i] * inputs[i];
      sum += dot > 0 ? dot : 0;
    }
  }
  return sum;
}

template <int Kind>
__attribute__((noinline)) std::string CacheKey(Request& request) {
  const bool is_new = request.number % kNewOrderEvery == 0;
  std::vector<std::string> names;
  for (int i = 0; i < kInputs; ++i) names.push_back("input_tensor_name_" + std::to_string(i));
  if (is_new) names.push_back("order_" + std::to_string(request.random()));
  std::string key = "model_" + std::to_string(Kind);
  for (const std::string& name : names) key += "," + name;
  return key;
}

template <int Kind>
__attribute__((noinline)) void Execute(Request& request) {
  const Plan& plan = request.server.cache.FindOrCreate(CacheKey<Kind>(request), request.number);
  std::map<std::string, std::vector<float>> feeds;
  for (int i = 0; i < 4; ++i) {
    feeds.emplace("placeholder_of_input_" + std::to_string(i),
                  std::vector<float>(kWidth, float(request.random() % 7)));
  }
  for (const auto& [name, values] : feeds) {
    request.answer += Multiply(request.server.weights, values, request.server.passes);
  }
  request.answer += plan.constants.size();
}

// One frame each; every eighth holds a string while the rest runs.
template <int Depth, int Kind>
__attribute__((noinline)) void Layer(Request& request) {
  if constexpr (Depth == 0) {
    Execute<Kind>(request);
  } else if constexpr (Depth % 8 == 0) {
    const std::string held(24 + Depth, 'x');
    Layer<Depth - 1, Kind>(request);
    request.answer += held[Depth];
  } else {
    Layer<Depth - 1, Kind>(request);
    request.answer += Depth;
  }
}

using Model = void (*)(Request&);

template <int... Kinds>
constexpr std::array<Model, sizeof...(Kinds)> Models(std::integer_sequence<int, Kinds...>) {
  return {Layer<kLayers, Kinds>...};
}

constexpr auto kModels = Models(std::make_integer_sequence<int, 12>());

float Work(Server& server, int worker, long requests) {
  Request request{server, Random(0x9e3779b97f4a7c15u * (worker + 1)), 0};
  for (; request.number < requests; ++request.number) {
    kModels[request.random() % kModels.size()](request);
  }
  return request.answer;
}

}  // namespace

int main(int argc, char** argv) {
  const int threads = argc > 1 ? std::atoi(argv[1]) : 8;
  const long requests = argc > 2 ? std::atol(argv[2]) : 1000;
  Server server;
  if (argc > 3) server.passes = std::atoi(argv[3]);

  std::vector<float> answers(threads);
  std::vector<std::thread> workers;
  for (int i = 0; i < threads; ++i) {
    workers.emplace_back([&, i] { answers[i] = Work(server, i, requests); });
  }
  for (auto& worker : workers) worker.join();
  float sum = 0;
  for (float answer : answers) sum += answer;
  std::printf("%zu plans, answer %g\n", server.cache.Size(), sum);
}
