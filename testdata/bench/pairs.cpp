// Pairs of an allocation and its release, for counting instructions.
//
//   pairs malloc|new COUNT
#include <cstdlib>
#include <cstring>

// Callgrind counts in this function, by its name, and in what it calls.
extern "C" [[gnu::noinline]] void make_pairs(bool c, long count) {
  for (long i = 0; c && i < count; ++i) {
    void* volatile block = std::malloc(48);
    std::free(block);
  }
  // The operators are called by name: a new-expression may be left out.
  for (long i = 0; !c && i < count; ++i) {
    void* volatile block = ::operator new(48);
    ::operator delete(block);
  }
}

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  make_pairs(std::strcmp(argv[1], "malloc") == 0, std::atol(argv[2]));
}
