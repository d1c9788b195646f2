// What the demo server and its model plugin agree on.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <utility>
#include <vector>

// Every layer of a request keeps a frame of its own at -O2: never inlined,
// cloned or folded. Tail calls are turned off by the compiler flag
// -fno-optimize-sibling-calls, which has no attribute.
#define SERVING_LAYER [[gnu::noipa]]

namespace serving {

using Tensor = std::vector<float>;

// The named inputs of one request, in the order in which they arrived.
using Feeds = std::vector<std::pair<std::string, Tensor>>;

inline constexpr std::size_t kInputs = 24;
inline constexpr std::size_t kTokensPerInput = 16;

// One operation of a model's graph.
class Kernel {
 public:
  virtual ~Kernel() = default;
  virtual Tensor Compute(const Tensor& input) const = 0;
};

// The server's side, as a model sees it.
class Runtime {
 public:
  virtual ~Runtime() = default;
  virtual Tensor Run(const Feeds& feeds) = 0;
};

// The plugin's side: a model and the kernels of its graph, in order.
class Model {
 public:
  virtual ~Model() = default;
  virtual std::vector<std::unique_ptr<Kernel>> BuildGraph() const = 0;
  virtual std::string Predict(const Feeds& feeds, Runtime& runtime) const = 0;
};

// The plugin's one exported symbol.
inline constexpr char kCreateModel[] = "CreateModel";
using CreateModelFn = Model* (*)();

}  // namespace serving
