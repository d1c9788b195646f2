// Pairs of an allocation and its release, for counting instructions.
//
//   pairs malloc|new COUNT
#include <cstdlib>
#include <cstring>

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  const bool c = std::strcmp(argv[1], "malloc") == 0;
  const long count = std::atol(argv[2]);
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
