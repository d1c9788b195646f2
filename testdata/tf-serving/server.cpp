// A model server in the shape of TensorFlow Serving: a synchronous gRPC service
// that feeds TF_SessionRun with the inputs of a PredictRequest.
//
//   server --tensorflow PATH/libtensorflow_cc.so.2 [--sorted] [--address HOST:PORT]
//
// The inputs are a protobuf map, whose iteration order differs from one map to
// the next. DirectSession caches executors under a key that spells the feeds in
// the order given, so a new order is a new entry that is never removed.
// --sorted feeds the inputs by name, which leaves one key.
//
// The port is printed on stdout once requests are accepted. SIGTERM and SIGINT
// stop the server; it then prints the number of requests it answered.

#include <dlfcn.h>
#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <exception>
#include <memory>
#include <stdexcept>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include <grpcpp/grpcpp.h>

#include "prediction_service.grpc.pb.h"

namespace {

// TensorFlow's C API, as far as it is used here. TensorFlow exports a protobuf
// of its own, so it is loaded into a scope that the server does not share.
struct TF_Graph;
struct TF_Operation;
struct TF_OperationDescription;
struct TF_Session;
struct TF_SessionOptions;
struct TF_Status;
struct TF_Tensor;
struct TF_Output {
  TF_Operation* oper;
  int index;
};

constexpr int kFloat = 1;  // TF_FLOAT
constexpr int kInputs = 12;

struct TensorFlow {
  explicit TensorFlow(const char* path) : library(dlopen(path, RTLD_NOW | RTLD_LOCAL)) {
    if (library == nullptr) throw std::runtime_error(dlerror());
#define TF_FUNCTION(name) find(#name, &name)
    TF_FUNCTION(TF_NewGraph);
    TF_FUNCTION(TF_NewOperation);
    TF_FUNCTION(TF_SetAttrType);
    TF_FUNCTION(TF_AddInputList);
    TF_FUNCTION(TF_FinishOperation);
    TF_FUNCTION(TF_NewSessionOptions);
    TF_FUNCTION(TF_DeleteSessionOptions);
    TF_FUNCTION(TF_SetConfig);
    TF_FUNCTION(TF_NewSession);
    TF_FUNCTION(TF_SessionRun);
    TF_FUNCTION(TF_CloseSession);
    TF_FUNCTION(TF_DeleteSession);
    TF_FUNCTION(TF_DeleteGraph);
    TF_FUNCTION(TF_AllocateTensor);
    TF_FUNCTION(TF_TensorData);
    TF_FUNCTION(TF_TensorByteSize);
    TF_FUNCTION(TF_NumDims);
    TF_FUNCTION(TF_Dim);
    TF_FUNCTION(TF_DeleteTensor);
    TF_FUNCTION(TF_NewStatus);
    TF_FUNCTION(TF_DeleteStatus);
    TF_FUNCTION(TF_GetCode);
    TF_FUNCTION(TF_Message);
#undef TF_FUNCTION
  }

  TF_Graph* (*TF_NewGraph)();
  TF_OperationDescription* (*TF_NewOperation)(TF_Graph*, const char* type, const char* name);
  void (*TF_SetAttrType)(TF_OperationDescription*, const char* attribute, int type);
  void (*TF_AddInputList)(TF_OperationDescription*, const TF_Output* inputs, int count);
  TF_Operation* (*TF_FinishOperation)(TF_OperationDescription*, TF_Status*);
  TF_SessionOptions* (*TF_NewSessionOptions)();
  void (*TF_DeleteSessionOptions)(TF_SessionOptions*);
  void (*TF_SetConfig)(TF_SessionOptions*, const void* proto, size_t size, TF_Status*);
  TF_Session* (*TF_NewSession)(TF_Graph*, const TF_SessionOptions*, TF_Status*);
  void (*TF_SessionRun)(TF_Session*, const void* run_options, const TF_Output* inputs,
                        TF_Tensor* const* input_values, int input_count, const TF_Output* outputs,
                        TF_Tensor** output_values, int output_count,
                        const TF_Operation* const* targets, int target_count, void* run_metadata,
                        TF_Status*);
  void (*TF_CloseSession)(TF_Session*, TF_Status*);
  void (*TF_DeleteSession)(TF_Session*, TF_Status*);
  void (*TF_DeleteGraph)(TF_Graph*);
  TF_Tensor* (*TF_AllocateTensor)(int type, const int64_t* dims, int dim_count, size_t size);
  void* (*TF_TensorData)(const TF_Tensor*);
  size_t (*TF_TensorByteSize)(const TF_Tensor*);
  int (*TF_NumDims)(const TF_Tensor*);
  int64_t (*TF_Dim)(const TF_Tensor*, int index);
  void (*TF_DeleteTensor)(TF_Tensor*);
  TF_Status* (*TF_NewStatus)();
  void (*TF_DeleteStatus)(TF_Status*);
  int (*TF_GetCode)(const TF_Status*);
  const char* (*TF_Message)(const TF_Status*);

 private:
  template <typename Function>
  void find(const char* name, Function** function) {
    *function = reinterpret_cast<Function*>(dlsym(library, name));
    if (*function == nullptr) throw std::runtime_error(dlerror());
  }

  void* library;
};

class Status {
 public:
  explicit Status(const TensorFlow& tf) : tf_(tf), status_(tf.TF_NewStatus()) {}
  ~Status() { tf_.TF_DeleteStatus(status_); }
  Status(const Status&) = delete;
  Status& operator=(const Status&) = delete;

  operator TF_Status*() { return status_; }
  bool ok() const { return tf_.TF_GetCode(status_) == 0; }
  std::string message() const { return tf_.TF_Message(status_); }
  void check() const {
    if (!ok()) throw std::runtime_error(message());
  }

 private:
  const TensorFlow& tf_;
  TF_Status* status_;
};

// Tensors of one run, deleted together.
class Tensors {
 public:
  explicit Tensors(const TensorFlow& tf) : tf_(tf) {}
  ~Tensors() {
    for (TF_Tensor* tensor : tensors_) tf_.TF_DeleteTensor(tensor);
  }
  Tensors(const Tensors&) = delete;
  Tensors& operator=(const Tensors&) = delete;

  void add(TF_Tensor* tensor) { tensors_.push_back(tensor); }
  TF_Tensor* const* data() const { return tensors_.data(); }

 private:
  const TensorFlow& tf_;
  std::vector<TF_Tensor*> tensors_;
};

// feature_0 … feature_11 are placeholders; `sum` adds them element by element.
class Model {
 public:
  explicit Model(const TensorFlow& tf) : tf_(tf), graph_(tf.TF_NewGraph()) {
    Status status(tf_);
    std::vector<TF_Output> features;
    for (int i = 0; i < kInputs; ++i) {
      std::string name = "feature_" + std::to_string(i);
      TF_OperationDescription* placeholder =
          tf_.TF_NewOperation(graph_, "Placeholder", name.c_str());
      tf_.TF_SetAttrType(placeholder, "dtype", kFloat);
      TF_Output output{tf_.TF_FinishOperation(placeholder, status), 0};
      status.check();
      features.push_back(output);
      inputs_.emplace(std::move(name), output);
    }
    TF_OperationDescription* sum = tf_.TF_NewOperation(graph_, "AddN", "sum");
    tf_.TF_AddInputList(sum, features.data(), kInputs);
    sum_ = {tf_.TF_FinishOperation(sum, status), 0};
    status.check();

    // ConfigProto { intra_op_parallelism_threads: 1, inter_op_parallelism_threads: 1 }
    constexpr char kConfig[] = {0x10, 1, 0x28, 1};
    TF_SessionOptions* options = tf_.TF_NewSessionOptions();
    tf_.TF_SetConfig(options, kConfig, sizeof kConfig, status);
    status.check();
    session_ = tf_.TF_NewSession(graph_, options, status);
    tf_.TF_DeleteSessionOptions(options);
    status.check();
  }

  ~Model() {
    Status status(tf_);
    tf_.TF_CloseSession(session_, status);
    tf_.TF_DeleteSession(session_, status);
    tf_.TF_DeleteGraph(graph_);
  }
  Model(const Model&) = delete;
  Model& operator=(const Model&) = delete;

  // The placeholder of an input, or nullptr.
  const TF_Output* input(const std::string& name) const {
    auto found = inputs_.find(name);
    return found == inputs_.end() ? nullptr : &found->second;
  }

  TF_Tensor* run(const std::vector<TF_Output>& feeds, const Tensors& values, Status& status) const {
    TF_Tensor* result = nullptr;
    tf_.TF_SessionRun(session_, nullptr, feeds.data(), values.data(),
                      static_cast<int>(feeds.size()), &sum_, &result, 1, nullptr, 0, nullptr,
                      status);
    return result;
  }

 private:
  const TensorFlow& tf_;
  TF_Graph* graph_;
  TF_Session* session_;
  std::unordered_map<std::string, TF_Output> inputs_;
  TF_Output sum_;
};

using tensorflow::TensorProto;
using tensorflow::serving::PredictionService;
using tensorflow::serving::PredictRequest;
using tensorflow::serving::PredictResponse;

// A TF tensor with the proto's shape and values, or nullptr where they disagree.
TF_Tensor* from_proto(const TensorFlow& tf, const TensorProto& proto) {
  if (proto.dtype() != tensorflow::DT_FLOAT) return nullptr;
  std::vector<int64_t> dims;
  int64_t count = 1;
  for (const auto& dim : proto.tensor_shape().dim()) {
    if (dim.size() < 0 || __builtin_mul_overflow(count, dim.size(), &count)) return nullptr;
    dims.push_back(dim.size());
  }
  if (count != proto.float_val_size()) return nullptr;
  size_t size = proto.float_val_size() * sizeof(float);
  TF_Tensor* tensor =
      tf.TF_AllocateTensor(kFloat, dims.data(), static_cast<int>(dims.size()), size);
  std::memcpy(tf.TF_TensorData(tensor), proto.float_val().data(), size);
  return tensor;
}

void to_proto(const TensorFlow& tf, const TF_Tensor* tensor, TensorProto* proto) {
  proto->set_dtype(tensorflow::DT_FLOAT);
  for (int i = 0; i < tf.TF_NumDims(tensor); ++i) {
    proto->mutable_tensor_shape()->add_dim()->set_size(tf.TF_Dim(tensor, i));
  }
  const auto* values = static_cast<const float*>(tf.TF_TensorData(tensor));
  proto->mutable_float_val()->Add(values, values + tf.TF_TensorByteSize(tensor) / sizeof(float));
}

}  // namespace

class PredictionServiceImpl final : public PredictionService::Service {
 public:
  PredictionServiceImpl(const TensorFlow& tf, bool sorted) : tf_(tf), model_(tf), sorted_(sorted) {}

  grpc::Status Predict(grpc::ServerContext*, const PredictRequest* request,
                       PredictResponse* response) override;

  uint64_t answered() const { return answered_; }

 private:
  const TensorFlow& tf_;
  Model model_;
  bool sorted_;
  std::atomic<uint64_t> answered_{0};
};

grpc::Status PredictionServiceImpl::Predict(grpc::ServerContext*, const PredictRequest* request,
                                            PredictResponse* response) {
  std::vector<std::pair<const std::string*, const TensorProto*>> inputs;
  for (const auto& input : request->inputs()) inputs.emplace_back(&input.first, &input.second);
  if (sorted_) {
    std::sort(inputs.begin(), inputs.end(),
              [](const auto& a, const auto& b) { return *a.first < *b.first; });
  }

  std::vector<TF_Output> feeds;
  Tensors tensors(tf_);
  for (const auto& [name, proto] : inputs) {
    const TF_Output* placeholder = model_.input(*name);
    TF_Tensor* tensor = placeholder == nullptr ? nullptr : from_proto(tf_, *proto);
    if (tensor == nullptr) return {grpc::StatusCode::INVALID_ARGUMENT, "bad input " + *name};
    feeds.push_back(*placeholder);
    tensors.add(tensor);
  }

  Status status(tf_);
  TF_Tensor* sum = model_.run(feeds, tensors, status);
  if (!status.ok()) return {grpc::StatusCode::INTERNAL, status.message()};
  tensors.add(sum);
  to_proto(tf_, sum, &(*response->mutable_outputs())["sum"]);
  answered_.fetch_add(1, std::memory_order_relaxed);
  return grpc::Status::OK;
}

int main(int argc, char** argv) {
  const char* library = nullptr;
  std::string address = "127.0.0.1:0";
  bool sorted = false;
  for (int i = 1; i < argc; ++i) {
    const std::string flag = argv[i];
    if (flag == "--sorted") {
      sorted = true;
    } else if (flag == "--tensorflow" && i + 1 < argc) {
      library = argv[++i];
    } else if (flag == "--address" && i + 1 < argc) {
      address = argv[++i];
    } else {
      std::fprintf(stderr, "server: unknown or incomplete flag %s\n", argv[i]);
      return 2;
    }
  }
  if (library == nullptr) {
    std::fprintf(stderr, "usage: server --tensorflow LIBRARY [--sorted] [--address HOST:PORT]\n");
    return 2;
  }

  // Every thread started from here on leaves these to the sigwait below.
  sigset_t stop;
  sigemptyset(&stop);
  sigaddset(&stop, SIGTERM);
  sigaddset(&stop, SIGINT);
  pthread_sigmask(SIG_BLOCK, &stop, nullptr);

  try {
    TensorFlow tf(library);
    PredictionServiceImpl service(tf, sorted);
    int port = 0;
    grpc::ServerBuilder builder;
    builder.AddListeningPort(address, grpc::InsecureServerCredentials(), &port);
    builder.RegisterService(&service);
    std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
    if (server == nullptr || port == 0) throw std::runtime_error("failed to listen on " + address);
    std::printf("%d\n", port);
    std::fflush(stdout);

    int received = 0;
    sigwait(&stop, &received);
    server->Shutdown();
    std::printf("%llu\n", static_cast<unsigned long long>(service.answered()));
  } catch (const std::exception& error) {
    std::fprintf(stderr, "server: %s\n", error.what());
    return 1;
  }
}
