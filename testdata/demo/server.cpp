// A small inference server that leaks on purpose: what `scripts/demo` traces.
//
// Worker threads serve generated requests at a bounded rate. Four things hold
// memory, and a leak hunter has to tell them apart:
//
//   Session's executor cache  keyed by the order of a request's inputs, which
//                             differs in every request: grows for ever
//   VocabularyCache           64 MiB, filled by the first 8,192 requests, stays
//   BufferPool                32 MiB, allocated at the start, then reused
//   everything else           dies with its request; 90 times the leak by volume
//
// The growth is known exactly. A new cache entry is two blocks, both allocated
// in the emplace: the hash node (next pointer, pair, cached hash code) and the
// heap buffer of the node's copy of the key (length + 1; all keys have the same
// length). The bucket array is reserved at the start.
//
//   leaked bytes = new entries * (kNodeBytes + KeyLength() + 1) = 788 each

#include <dlfcn.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "pipeline.h"
#include "serving.h"
#include "session.h"

namespace serving {

struct Options {
  int threads = 4;
  int seconds = 30;
  long requests = 0;  // Stop after so many; 0: no limit.
  int rate = 5000;    // Requests per second, all threads together.
  bool sorted = false;
  std::string plugin;
};

struct Progress {
  double uptime_s = 0;
  long requests = 0;
  std::size_t entries = 0;
};

const Clock::time_point process_start = Clock::now();

double Uptime() {
  return std::chrono::duration<double>(Clock::now() - process_start).count();
}

class Server {
 public:
  Server(const Options& options, const Model& model)
      : options_(options),
        session_(model, pool_, ExpectedEntries(options)),
        infer_(model, session_),
        normalize_(&infer_),
        embed_(vocabulary_, &normalize_),
        validate_(&embed_),
        decode_(&validate_),
        quota_(&decode_),
        auth_(&quota_),
        tracing_(&auth_),
        deadline_(&tracing_) {}

  SERVING_LAYER void HandleRequest(const Request& request) {
    Call call{request, {}, {}, {}, {}};
    deadline_.Process(call);
    served_.fetch_add(1, std::memory_order_relaxed);
  }

  // A body with the inputs in an order of its own, as protobuf's maps have it.
  SERVING_LAYER Request NextRequest(std::mt19937& random) {
    std::array<std::size_t, kInputs> order;
    for (std::size_t i = 0; i < kInputs; ++i) order[i] = i;
    if (!options_.sorted) std::shuffle(order.begin(), order.end(), random);
    std::string body;
    for (std::size_t index : order) {
      body += InputName(index) + '=';
      for (std::size_t i = 0; i < kTokensPerInput; ++i) {
        char token[8];
        std::snprintf(token, sizeof token, "%04x ", unsigned(random() & 0x7ff));
        body += token;
      }
      body.back() = ';';
    }
    return {generated_.fetch_add(1, std::memory_order_relaxed),
            std::move(body)};
  }

  // Serves one tick's share of the rate at a time until stopped.
  SERVING_LAYER void Work(unsigned seed) {
    constexpr auto kTick = std::chrono::milliseconds(10);
    constexpr int kTicksPerSecond = 100;
    const int workers = options_.threads * kTicksPerSecond;
    std::mt19937 random(seed);
    long due = 0;  // In requests * workers, so that no share is rounded away.
    for (auto tick = Clock::now(); !WaitUntilStopped(tick); tick += kTick) {
      for (due += options_.rate; due >= workers; due -= workers) {
        ServeOne(random);
      }
    }
  }

  // Returns whether the server was stopped before then.
  bool WaitUntilStopped(Clock::time_point when) {
    std::unique_lock lock(mutex_);
    return stop_changed_.wait_until(lock, when, [this] { return stopped_; });
  }

  void Stop() {
    std::lock_guard lock(mutex_);
    stopped_ = true;
    stop_changed_.notify_all();
  }

  // What had been done when the vocabulary was complete; read when stopped.
  Progress warm_progress() const { return warm_; }
  Progress progress() {
    return {Uptime(), served_.load(), session_.cache_entries()};
  }
  long late() const { return deadline_.late(); }

 private:
  static std::size_t ExpectedEntries(const Options& options) {
    const auto by_time = static_cast<std::size_t>(options.rate) *
                         static_cast<std::size_t>(options.seconds);
    return by_time + kVocabularyPages;
  }

  SERVING_LAYER void ServeOne(std::mt19937& random) {
    HandleRequest(NextRequest(random));
    if (!warmed_ && vocabulary_.full()) {
      std::call_once(warm_once_, [this] { AnnounceWarm(); });
    }
    if (options_.requests != 0 && served_ >= options_.requests) Stop();
  }

  void AnnounceWarm() {
    warm_ = progress();
    std::printf("warm uptime_s=%.3f requests=%ld\n", warm_.uptime_s,
                warm_.requests);
    std::fflush(stdout);
    warmed_ = true;
  }

  Options options_;
  VocabularyCache vocabulary_;
  BufferPool pool_;
  Session session_;
  InferStage infer_;
  NormalizeStage normalize_;
  EmbedStage embed_;
  ValidateStage validate_;
  DecodeStage decode_;
  QuotaInterceptor quota_;
  AuthInterceptor auth_;
  TracingInterceptor tracing_;
  DeadlineInterceptor deadline_;
  std::atomic<std::size_t> generated_{0};
  std::atomic<long> served_{0};
  std::atomic<bool> warmed_{false};
  std::once_flag warm_once_;
  Progress warm_;
  std::mutex mutex_;
  std::condition_variable stop_changed_;
  bool stopped_ = false;
};

}  // namespace serving

namespace {

using namespace serving;

[[noreturn]] void Fail(const std::string& message) {
  std::fprintf(stderr, "demo-server: %s\n", message.c_str());
  std::exit(2);
}

long Number(const char* option, const char* text) {
  char* end;
  const long value = std::strtol(text, &end, 10);
  if (*text == '\0' || *end != '\0' || value < 0) {
    Fail(std::string(option) + " wants a number, not '" + text + "'");
  }
  return value;
}

Options Parse(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string option = argv[i];
    const char* value = i + 1 < argc ? argv[i + 1] : "";
    if (option == "--sorted") {
      options.sorted = true;
      continue;
    }
    if (option == "--threads") {
      options.threads = static_cast<int>(Number("--threads", value));
    } else if (option == "--seconds") {
      options.seconds = static_cast<int>(Number("--seconds", value));
    } else if (option == "--requests") {
      options.requests = Number("--requests", value);
    } else if (option == "--rate") {
      options.rate = static_cast<int>(Number("--rate", value));
    } else if (option == "--plugin") {
      options.plugin = value;
    } else {
      Fail("usage: demo-server [--threads N] [--seconds N] [--requests N] "
           "[--rate N] [--sorted] [--plugin FILE]");
    }
    ++i;
  }
  if (options.plugin.empty()) {
    char self[4096];
    const ssize_t length = readlink("/proc/self/exe", self, sizeof self);
    const std::string path(self, length > 0 ? length : 0);
    options.plugin = path.substr(0, path.rfind('/') + 1) + "plugin.so";
  }
  return options;
}

std::unique_ptr<Model> LoadModel(const std::string& path) {
  void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) Fail(dlerror());
  const auto create =
      reinterpret_cast<CreateModelFn>(dlsym(library, kCreateModel));
  if (create == nullptr) Fail(dlerror());
  return std::unique_ptr<Model>(create());
}

void Summarize(const char* phase, Progress from, Progress to) {
  const std::size_t entries = to.entries - from.entries;
  const std::size_t bytes =
      entries * (Session::kNodeBytes + Session::KeyLength() + 1);
  const double seconds = to.uptime_s - from.uptime_s;
  std::printf(
      "summary phase=%s seconds=%.3f requests=%ld leaked_blocks=%zu "
      "leaked_bytes=%zu leaked_bytes_per_s=%.0f\n",
      phase, seconds, to.requests - from.requests, 2 * entries, bytes,
      static_cast<double>(bytes) / seconds);
}

}  // namespace

int main(int argc, char** argv) {
  const Options options = Parse(argc, argv);

  // Only the thread below takes these; every thread inherits the mask.
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);

  const auto model = LoadModel(options.plugin);
  // Never destroyed: what it holds at exit is what a long run would hold.
  Server& server = *new Server(options, *model);
  std::printf("demo-server pid=%d threads=%d rate=%d order=%s\n", getpid(),
              options.threads, options.rate,
              options.sorted ? "sorted" : "permuted");
  std::fflush(stdout);

  std::thread stopper([&] {
    int signal;
    sigwait(&signals, &signal);
    server.Stop();
  });
  std::vector<std::thread> workers;
  for (int i = 0; i < options.threads; ++i) {
    workers.emplace_back(&Server::Work, &server, i + 1);
  }
  server.WaitUntilStopped(process_start +
                          std::chrono::seconds(options.seconds));
  server.Stop();
  for (auto& worker : workers) worker.join();
  pthread_kill(stopper.native_handle(), SIGTERM);
  stopper.join();

  const Progress warm = server.warm_progress();
  const Progress end = server.progress();
  if (warm.requests != 0) Summarize("warm-up", {}, warm);
  Summarize("serving", warm, end);
  std::printf("late_responses=%ld\n", server.late());
}
