// A program whose library exports operators new and delete of its own, as large C++ libraries do: they count, and go on to
// malloc.
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "sites.h"

int operators_called();

COUNTS(by_new);

SITE void *by_new(std::size_t size) { return keep(operator new(size)); }

int main() {
  for (int i = 0; i < 300; i++) {
    void *block = by_new(100 + i);
    count_allocated(&at_by_new, 100 + i);
    if (i % 3 == 0) continue;
    operator delete(block);
    count_freed(&at_by_new, 100 + i);
  }
  std::vector<std::unique_ptr<std::string>> strings;
  for (int i = 0; i < 100; i++) strings.push_back(std::make_unique<std::string>(50 + i, 'x'));
  strings.clear();
  std::printf("the library's operators were called %d times\n", operators_called());
  print_site(&at_by_new);
}
