// Every form of operator new and delete, and its ways to fail.
//
//   operators [succeed]     with "succeed" nothing fails: there are allocators that abort then
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <new>

#include "sites.h"

namespace {

COUNTS(new_plain);
COUNTS(new_array);
COUNTS(new_nothrow);
COUNTS(new_array_nothrow);
COUNTS(new_aligned);
COUNTS(new_array_aligned);
COUNTS(new_aligned_nothrow);
COUNTS(new_array_aligned_nothrow);

constexpr std::align_val_t kAlignment{128};
volatile std::size_t absurd = PTRDIFF_MAX;
int handler_calls = 0;

void CountingHandler() {
  if (++handler_calls == 3) std::set_new_handler(nullptr);
}

template <typename Allocate>
const char* Outcome(Allocate allocate) {
  try {
    return allocate(absurd) == nullptr ? "null" : "a block";
  } catch (const std::bad_array_new_length&) {
    return "bad_array_new_length";
  } catch (const std::bad_alloc&) {
    return "bad_alloc";
  }
}

}  // namespace

SITE void* new_plain(std::size_t n) { return keep(operator new(n)); }
SITE void* new_array(std::size_t n) { return keep(operator new[](n)); }
SITE void* new_nothrow(std::size_t n) {
  return keep(operator new(n, std::nothrow));
}
SITE void* new_array_nothrow(std::size_t n) {
  return keep(operator new[](n, std::nothrow));
}
SITE void* new_aligned(std::size_t n) {
  return keep(operator new(n, kAlignment));
}
SITE void* new_array_aligned(std::size_t n) {
  return keep(operator new[](n, kAlignment));
}
SITE void* new_aligned_nothrow(std::size_t n) {
  return keep(operator new(n, kAlignment, std::nothrow));
}
SITE void* new_array_aligned_nothrow(std::size_t n) {
  return keep(operator new[](n, kAlignment, std::nothrow));
}

namespace {

struct Form {
  site* counts;
  void* (*allocate)(std::size_t);
  bool aligned;
  void (*release[3])(void*, std::size_t);  // Plain, nothrow, sized.
};

using std::align_val_t;
using std::nothrow;
using std::size_t;

void Delete(void* p, size_t) { operator delete(p); }
void DeleteNothrow(void* p, size_t) { operator delete(p, nothrow); }
void DeleteSized(void* p, size_t n) { operator delete(p, n); }
void DeleteArray(void* p, size_t) { operator delete[](p); }
void DeleteArrayNothrow(void* p, size_t) { operator delete[](p, nothrow); }
void DeleteArraySized(void* p, size_t n) { operator delete[](p, n); }
void DeleteAligned(void* p, size_t) { operator delete(p, kAlignment); }
void DeleteAlignedNothrow(void* p, size_t) {
  operator delete(p, kAlignment, nothrow);
}
void DeleteAlignedSized(void* p, size_t n) {
  operator delete(p, n, kAlignment);
}
void DeleteArrayAligned(void* p, size_t) { operator delete[](p, kAlignment); }
void DeleteArrayAlignedNothrow(void* p, size_t) {
  operator delete[](p, kAlignment, nothrow);
}
void DeleteArrayAlignedSized(void* p, size_t n) {
  operator delete[](p, n, kAlignment);
}

const Form kForms[] = {
    {&at_new_plain, new_plain, false, {Delete, DeleteNothrow, DeleteSized}},
    {&at_new_nothrow, new_nothrow, false, {Delete, DeleteNothrow, DeleteSized}},
    {&at_new_array,
     new_array,
     false,
     {DeleteArray, DeleteArrayNothrow, DeleteArraySized}},
    {&at_new_array_nothrow,
     new_array_nothrow,
     false,
     {DeleteArray, DeleteArrayNothrow, DeleteArraySized}},
    {&at_new_aligned,
     new_aligned,
     true,
     {DeleteAligned, DeleteAlignedNothrow, DeleteAlignedSized}},
    {&at_new_aligned_nothrow,
     new_aligned_nothrow,
     true,
     {DeleteAligned, DeleteAlignedNothrow, DeleteAlignedSized}},
    {&at_new_array_aligned,
     new_array_aligned,
     true,
     {DeleteArrayAligned, DeleteArrayAlignedNothrow, DeleteArrayAlignedSized}},
    {&at_new_array_aligned_nothrow,
     new_array_aligned_nothrow,
     true,
     {DeleteArrayAligned, DeleteArrayAlignedNothrow, DeleteArrayAlignedSized}},
};

// Allocates one block for each way to delete it, and one that stays. Sizes are
// multiples of the alignment, to which some libraries round.
void Exercise(const Form& form, bool fails) {
  constexpr size_t kSize = 256;
  for (auto release : form.release) {
    void* block = form.allocate(kSize);
    count_allocated(form.counts, kSize);
    std::memset(block, 1, kSize);
    release(block, kSize);
    count_freed(form.counts, kSize);
  }
  void* kept = form.allocate(3 * kSize);
  count_allocated(form.counts, 3 * kSize);
  const bool aligned = reinterpret_cast<std::uintptr_t>(kept) % 128 == 0;
  std::printf("%s: %s, absurd size: %s\n", form.counts->function,
              !form.aligned || aligned ? "aligned" : "misaligned",
              fails ? Outcome(form.allocate) : "not asked for");
}

}  // namespace

int main(int argc, char** argv) {
  const bool fails = argc < 2 || std::strcmp(argv[1], "succeed") != 0;
  for (const Form& form : kForms) Exercise(form, fails);
  operator delete(nullptr);
  operator delete[](nullptr);
  if (fails) {
    std::set_new_handler(CountingHandler);
    std::printf("with a handler: %s", Outcome(new_plain));
    std::printf(", called %d times\n", handler_calls);
    std::printf("array of absurd length: %s\n", Outcome([](size_t n) {
                  return keep(new double[n]);
                }));
  }
  for (const Form& form : kForms) print_site(form.counts);
}
