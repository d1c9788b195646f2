// A program without a C++ runtime loads a C++ library, which brings its own.
//
//   cxx_host LIBRARY [rounds]
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv) {
  int rounds = argc > 2 ? atoi(argv[2]) : 3;
  for (int i = 0; i < rounds; i++) {
    void *library = argc > 1 ? dlopen(argv[1], RTLD_NOW | RTLD_LOCAL) : NULL;
    if (library == NULL) {
      fprintf(stderr, "%s\n", dlerror());
      return 2;
    }
    void (*run)(int);
    *(void **)&run = dlsym(library, "run");
    run(i + 1 == rounds);
    dlclose(library);
  }
}
