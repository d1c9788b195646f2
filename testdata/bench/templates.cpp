// A template-heavy file for the compiler to work on; what it computes does not
// matter.
#include <algorithm>
#include <functional>
#include <iostream>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <variant>
#include <vector>

template <int N>
struct Stage {
  using Value = std::variant<int, double, std::string, std::vector<std::pair<std::string, int>>>;
  std::map<std::string, std::function<Value(const std::unordered_map<int, Value>&)>> steps;
  Stage<N - 1> next;
  std::size_t run(std::unordered_map<int, Value>& state) {
    steps["step" + std::to_string(N)] = [](const auto& seen) -> Value { return static_cast<int>(seen.size() + N); };
    for (auto& [name, step] : steps) state.insert_or_assign(N, step(state));
    std::unordered_map<int, typename Stage<N - 1>::Value> rest;
    std::vector<std::shared_ptr<Value>> sorted;
    for (auto& [key, value] : state) sorted.push_back(std::make_shared<Value>(value));
    std::sort(sorted.begin(), sorted.end(), [](auto& a, auto& b) { return a->index() * N < b->index() * N; });
    return sorted.size() + next.run(rest);
  }
};
template <>
struct Stage<0> {
  using Value = int;
  std::size_t run(std::unordered_map<int, Value>& state) { return state.size(); }
};

int main() {
  std::unordered_map<int, Stage<6>::Value> state;
  std::cout << Stage<6>().run(state) << '\n';
}
