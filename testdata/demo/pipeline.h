// The chain of stages that every call runs through.
#pragma once

#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <map>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "serving.h"
#include "session.h"

namespace serving {

using Clock = std::chrono::steady_clock;

struct Request {
  std::size_t sequence;
  std::string body;  // "name=token token …;name=…", tokens in hexadecimal.
};

struct Call {
  const Request& request;
  std::map<std::string, std::vector<unsigned>> tokens;
  std::vector<std::string> order;
  Feeds feeds;
  std::string response;
};

// One link of the chain that every call runs through; those that only wrap the
// call are called interceptors.
class Stage {
 public:
  explicit Stage(const Stage* next) : next_(next) {}
  virtual ~Stage() = default;
  virtual void Process(Call& call) const = 0;

 protected:
  SERVING_LAYER void Continue(Call& call) const {
    if (next_ != nullptr) next_->Process(call);
  }

 private:
  const Stage* next_;
};

class QuotaInterceptor final : public Stage {
 public:
  using Stage::Stage;

  SERVING_LAYER void Process(Call& call) const override {
    constexpr std::size_t kMaxBody = 64 << 10;
    if (call.request.body.size() > kMaxBody) {
      throw std::length_error("request body over quota");
    }
    Continue(call);
  }
};

class AuthInterceptor final : public Stage {
 public:
  using Stage::Stage;

  SERVING_LAYER void Process(Call& call) const override {
    const std::string token =
        "bearer-of-demo-client-" + std::to_string(call.request.sequence);
    if (token.find("-demo-") == std::string::npos) {
      throw std::invalid_argument("unknown client: " + token);
    }
    Continue(call);
  }
};

class TracingInterceptor final : public Stage {
 public:
  using Stage::Stage;

  SERVING_LAYER void Process(Call& call) const override {
    const std::string span = "/serving.PredictionService/Predict#" +
                             std::to_string(call.request.sequence);
    Continue(call);
    if (call.response.empty()) throw std::logic_error("no response: " + span);
  }
};

class DeadlineInterceptor final : public Stage {
 public:
  using Stage::Stage;

  SERVING_LAYER void Process(Call& call) const override {
    constexpr auto kDeadline = std::chrono::milliseconds(250);
    const auto start = Clock::now();
    Continue(call);
    if (Clock::now() - start > kDeadline) {
      late_.fetch_add(1, std::memory_order_relaxed);
    }
  }

  long late() const { return late_; }

 private:
  mutable std::atomic<long> late_{0};
};

class DecodeStage final : public Stage {
 public:
  using Stage::Stage;

  SERVING_LAYER void Process(Call& call) const override {
    const std::string& body = call.request.body;
    for (std::size_t begin = 0; begin < body.size();) {
      const std::size_t end = body.find(';', begin);
      DecodeInput(body.substr(begin, end - begin), call);
      begin = end + 1;
    }
    Continue(call);
  }

 private:
  SERVING_LAYER static void DecodeInput(const std::string& text, Call& call) {
    const std::size_t equals = text.find('=');
    std::vector<unsigned> tokens;
    const char* cursor = text.c_str() + equals + 1;
    while (*cursor != '\0') {
      char* end;
      tokens.push_back(static_cast<unsigned>(std::strtoul(cursor, &end, 16)));
      cursor = end;
    }
    call.order.push_back(text.substr(0, equals));
    call.tokens.emplace(call.order.back(), std::move(tokens));
  }
};

class ValidateStage final : public Stage {
 public:
  using Stage::Stage;

  SERVING_LAYER void Process(Call& call) const override {
    for (std::size_t i = 0; i < kInputs; ++i) {
      const auto it = call.tokens.find(InputName(i));
      if (it == call.tokens.end() || it->second.size() != kTokensPerInput) {
        throw std::invalid_argument("malformed input " + InputName(i));
      }
    }
    Continue(call);
  }
};

class EmbedStage final : public Stage {
 public:
  EmbedStage(VocabularyCache& vocabulary, const Stage* next)
      : Stage(next), vocabulary_(vocabulary) {}

  SERVING_LAYER void Process(Call& call) const override {
    const auto& page =
        vocabulary_.Find(call.request.sequence % kVocabularyPages);
    for (const auto& name : call.order) {
      Tensor embedding;
      for (unsigned token : call.tokens[name]) {
        embedding.push_back(page[token % page.size()]);
      }
      call.feeds.emplace_back(name, std::move(embedding));
    }
    Continue(call);
  }

 private:
  VocabularyCache& vocabulary_;
};

class NormalizeStage final : public Stage {
 public:
  using Stage::Stage;

  SERVING_LAYER void Process(Call& call) const override {
    for (auto& [name, values] : call.feeds) {
      float norm = 1e-5f;
      for (float x : values) norm += x * x;
      for (float& x : values) x /= std::sqrt(norm);
    }
    Continue(call);
  }
};

class InferStage final : public Stage {
 public:
  InferStage(const Model& model, Runtime& runtime)
      : Stage(nullptr), model_(model), runtime_(runtime) {}

  SERVING_LAYER void Process(Call& call) const override {
    call.response = model_.Predict(call.feeds, runtime_);
  }

 private:
  const Model& model_;
  Runtime& runtime_;
};

}  // namespace serving
