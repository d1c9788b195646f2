// Load for the model server: N Predict requests with inputs feature_0 …
// feature_11 from several threads, each on a connection of its own.
//
//   client --target HOST:PORT --requests N [--threads T]
//
// Prints one line of JSON with the rate; fails on the first request that does.

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <grpcpp/grpcpp.h>

#include "prediction_service.grpc.pb.h"

namespace {

using tensorflow::serving::PredictionService;
using tensorflow::serving::PredictRequest;
using tensorflow::serving::PredictResponse;

constexpr int kInputs = 12;
constexpr int kElements = 4;

PredictRequest make_request() {
  PredictRequest request;
  request.mutable_model_spec()->set_name("model");
  for (int i = 0; i < kInputs; ++i) {
    auto& input = (*request.mutable_inputs())["feature_" + std::to_string(i)];
    input.set_dtype(tensorflow::DT_FLOAT);
    input.mutable_tensor_shape()->add_dim()->set_size(kElements);
    for (int j = 0; j < kElements; ++j) input.add_float_val(static_cast<float>(i));
  }
  return request;
}

bool is_right(const PredictResponse& response) {
  const auto sum = response.outputs().find("sum");
  if (sum == response.outputs().end() || sum->second.float_val_size() != kElements) return false;
  for (float value : sum->second.float_val()) {
    if (value != kInputs * (kInputs - 1) / 2) return false;
  }
  return true;
}

// Sends requests while any are left; false once one has failed.
bool work(const std::string& target, std::atomic<long>& left) {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  const auto stub = PredictionService::NewStub(
      grpc::CreateCustomChannel(target, grpc::InsecureChannelCredentials(), arguments));
  const PredictRequest request = make_request();
  while (left.fetch_sub(1) > 0) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(60));
    PredictResponse response;
    const grpc::Status status = stub->Predict(&context, request, &response);
    if (!status.ok() || !is_right(response)) {
      std::fprintf(stderr, "client: %s\n",
                   status.ok() ? "wrong answer" : status.error_message().c_str());
      left = 0;
      return false;
    }
  }
  return true;
}

}  // namespace

int main(int argc, char** argv) {
  std::string target;
  long requests = 0;
  int threads = 4;
  for (int i = 1; i < argc; ++i) {
    const std::string flag = argv[i];
    if (flag == "--target" && i + 1 < argc) {
      target = argv[++i];
    } else if (flag == "--requests" && i + 1 < argc) {
      requests = std::atol(argv[++i]);
    } else if (flag == "--threads" && i + 1 < argc) {
      threads = std::atoi(argv[++i]);
    } else {
      std::fprintf(stderr, "client: unknown or incomplete flag %s\n", argv[i]);
      return 2;
    }
  }
  if (target.empty() || requests < 1 || threads < 1) {
    std::fprintf(stderr, "usage: client --target HOST:PORT --requests N [--threads T]\n");
    return 2;
  }

  std::atomic<long> left{requests};
  std::atomic<bool> ok{true};
  const auto start = std::chrono::steady_clock::now();
  std::vector<std::thread> workers;
  for (int i = 0; i < threads; ++i) {
    workers.emplace_back([&] {
      if (!work(target, left)) ok = false;
    });
  }
  for (std::thread& worker : workers) worker.join();
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
  if (!ok) return 1;
  std::printf("{\"requests\": %ld, \"seconds\": %.3f, \"requests_per_s\": %.1f}\n", requests,
              elapsed.count(), requests / elapsed.count());
}
