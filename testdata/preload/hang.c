// Two threads that wait for ever, and nobody's descriptor to be found by: what a failing test has to report.
#include <pthread.h>
#include <unistd.h>

__attribute__((noipa)) void *waits_for_ever(void *unused) {
  for (;;) pause();
  return unused;
}

int main(void) {
  close(1);
  pthread_t thread;
  pthread_create(&thread, NULL, waits_for_ever, NULL);
  waits_for_ever(NULL);
}
