// The demo server's model: a ranking network that is loaded with dlopen, calls
// back into the server to run its graph, and brings the kernels for it.

#include <algorithm>
#include <cmath>
#include <functional>

#include "serving.h"

namespace ranking {
namespace {

using serving::Feeds;
using serving::Kernel;
using serving::Runtime;
using serving::Tensor;

constexpr int kBlocks = 3;

class Conv1D final : public Kernel {
 public:
  explicit Conv1D(int seed) {
    for (std::size_t i = 0; i < kWidth; ++i) {
      weights_.push_back(0.1f * static_cast<float>((seed + i) % 5) - 0.15f);
    }
  }

  SERVING_LAYER Tensor Compute(const Tensor& input) const override {
    const Tensor padded = Pad(input);
    Tensor output(input.size());
    for (std::size_t i = 0; i < output.size(); ++i) {
      for (std::size_t k = 0; k < kWidth; ++k) {
        output[i] += padded[i + k] * weights_[k];
      }
    }
    return output;
  }

 private:
  static constexpr std::size_t kWidth = 5;

  SERVING_LAYER static Tensor Pad(const Tensor& input) {
    Tensor padded(input.size() + kWidth - 1);
    std::copy(input.begin(), input.end(), padded.begin() + kWidth / 2);
    return padded;
  }

  Tensor weights_;
};

class LayerNorm final : public Kernel {
 public:
  SERVING_LAYER Tensor Compute(const Tensor& input) const override {
    float mean = 0, variance = 0;
    for (float x : input) mean += x;
    mean /= static_cast<float>(input.size());
    for (float x : input) variance += (x - mean) * (x - mean);
    const float scale =
        1 / std::sqrt(variance / static_cast<float>(input.size()) + 1e-5f);
    Tensor output(input);
    for (float& x : output) x = (x - mean) * scale;
    return output;
  }
};

class Relu final : public Kernel {
 public:
  SERVING_LAYER Tensor Compute(const Tensor& input) const override {
    Tensor output(input);
    for (float& x : output) x = std::max(x, 0.0f);
    return output;
  }
};

class RankingModel final : public serving::Model {
 public:
  SERVING_LAYER std::vector<std::unique_ptr<Kernel>> BuildGraph()
      const override {
    std::vector<std::unique_ptr<Kernel>> graph;
    for (int block = 0; block < kBlocks; ++block) {
      graph.push_back(std::make_unique<Conv1D>(block));
      graph.push_back(std::make_unique<LayerNorm>());
      graph.push_back(std::make_unique<Relu>());
    }
    return graph;
  }

  SERVING_LAYER std::string Predict(const Feeds& feeds,
                                    Runtime& runtime) const override {
    const Tensor scores = RunSignature(feeds, runtime);
    return RankScores(scores);
  }

 private:
  SERVING_LAYER static Tensor RunSignature(const Feeds& feeds,
                                           Runtime& runtime) {
    return runtime.Run(ClipFeatures(feeds));
  }

  SERVING_LAYER static Feeds ClipFeatures(const Feeds& feeds) {
    Feeds clipped(feeds);
    for (auto& [name, values] : clipped) {
      for (float& x : values) x = std::clamp(x, -1.0f, 1.0f);
    }
    return clipped;
  }

  SERVING_LAYER static std::string RankScores(const Tensor& scores) {
    constexpr std::size_t kTop = 8;
    std::vector<std::pair<float, std::size_t>> ranked;
    for (std::size_t i = 0; i < scores.size(); ++i) {
      ranked.emplace_back(scores[i], i);
    }
    std::partial_sort(ranked.begin(), ranked.begin() + kTop, ranked.end(),
                      std::greater<>());
    std::string response;
    for (std::size_t i = 0; i < kTop; ++i) {
      response += "item_" + std::to_string(ranked[i].second) + ' ';
    }
    return response;
  }
};

}  // namespace
}  // namespace ranking

extern "C" serving::Model* CreateModel() { return new ranking::RankingModel; }
