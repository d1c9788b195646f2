// Threads that are cancelled while they wait for the tracer's writer, in the middle of malloc.
//
//   cancelled_waiting
//
// The profile is a pipe that nobody reads until the file `cancelled` is there:
// before that the writer is stuck, and once the buffers are full each traced
// thread waits. Cancelled, it goes on to its own cancellation point.
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "sites.h"

enum { THREADS = 8, KEPT = 100 };

COUNTS(keep_one);

SITE void *keep_one(size_t size) { return keep(malloc(size)); }
SITE void *churn_away(size_t size) { return keep(malloc(size)); }

static int tids[THREADS];
static int cleaned, torn;

static void clean(void *allocates) {
  __atomic_fetch_add(&cleaned, 1, __ATOMIC_RELAXED);
  __atomic_fetch_add(&torn, *(volatile int *)allocates, __ATOMIC_RELAXED);
}

static void *thread(void *tid) {
  volatile int allocates = 0;
  keep_one(KEPT);
  count_allocated(&at_keep_one, KEPT);
  __atomic_store_n((int *)tid, (int)syscall(SYS_gettid), __ATOMIC_RELEASE);
  pthread_cleanup_push(clean, (void *)&allocates);
  for (size_t i = 0;; i++) {
    allocates = 1;
    free(churn_away(1 + i * 7919 % 4000));
    allocates = 0;
    pthread_testcancel();
  }
  pthread_cleanup_pop(0);
  return NULL;
}

// Whether a thread is asleep. Allocates nothing, lest it wait too.
static int sleeps(int tid) {
  char path[64], line[256] = "";
  snprintf(path, sizeof path, "/proc/self/task/%d/stat", tid);
  int file = open(path, O_RDONLY);
  if (file < 0 || read(file, line, sizeof line - 1) < 0) abort();
  close(file);
  return strstr(line, ") S ") != NULL;
}

static int all_sleep(void) {
  for (int i = 0; i < THREADS; i++) {
    int tid = __atomic_load_n(&tids[i], __ATOMIC_ACQUIRE);
    if (tid == 0 || !sleeps(tid)) return 0;
  }
  return 1;
}

int main(void) {
  // The main thread has a buffer before the others take all.
  free(churn_away(1));
  pthread_t ids[THREADS];
  for (int i = 0; i < THREADS; i++) pthread_create(&ids[i], NULL, thread, &tids[i]);
  // Of themselves they never sleep.
  while (getenv("LIBTRACE") != NULL && !all_sleep()) usleep(100);
  for (int i = 0; i < THREADS; i++) pthread_cancel(ids[i]);
  // Longer than any of them pauses.
  usleep(10000);
  close(creat("cancelled", 0600));
  int cancelled = 0;
  for (int i = 0; i < THREADS; i++) {
    void *result;
    pthread_join(ids[i], &result);
    cancelled += result == PTHREAD_CANCELED;
  }
  printf("%d cancelled, %d cleaned up, %d in malloc or free\n", cancelled, cleaned, torn);
  print_site(&at_keep_one);
}
