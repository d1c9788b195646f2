// Objects that are made before main and end after it, or with their thread: their destructors allocate and free, some after
// other libraries have been taken down.
#include <cstdlib>
#include <thread>

#include "sites.h"

COUNTS(before_main);
COUNTS(after_main);
COUNTS(at_thread_end);

SITE void *before_main(size_t size) { return keep(malloc(size)); }
SITE void *after_main(size_t size) { return keep(malloc(size)); }
SITE void *at_thread_end(size_t size) { return keep(malloc(size)); }

struct Static {
  void *blocks[20];
  Static() {
    for (int i = 0; i < 20; i++) {
      blocks[i] = before_main(80 + i);
      count_allocated(&at_before_main, 80 + i);
    }
  }
  ~Static() {
    for (int i = 0; i < 10; i++) {
      free(blocks[i]);
      count_freed(&at_before_main, 80 + i);
      keep(after_main(60 + i));
      count_allocated(&at_after_main, 60 + i);
    }
    print_site(&at_before_main);
    print_site(&at_after_main);
    print_site(&at_at_thread_end);
    fflush(stdout);
  }
};

struct Local {
  void *block = nullptr;
  ~Local() {
    free(block);
    count_freed(&at_at_thread_end, 500);
    keep(at_thread_end(300));
    count_allocated(&at_at_thread_end, 300);
  }
};

static Static first;
static thread_local Local local;

static void use_local() {
  local.block = at_thread_end(500);
  count_allocated(&at_at_thread_end, 500);
}

int main() {
  for (int i = 0; i < 30; i++) std::thread(use_local).join();
  use_local();
  return 9;
}
