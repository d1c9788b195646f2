// A program under a filter on system calls.
//
//   sandbox own       from some moment on its thread is killed for what it does not need itself
//   sandbox all       from some moment on everything but what it needs fails for all threads
//   sandbox before    executes itself under a filter by which what a tracer may like to have fails
#define _GNU_SOURCE
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "sites.h"

// Older headers do not know them.
#ifndef SYS_close_range
#define SYS_close_range 436
#endif
#ifndef SYS_pidfd_getfd
#define SYS_pidfd_getfd 438
#endif

enum { BLOCKS = 2000, SIZE = 100, MOST = 64 };

COUNTS(before_filter);
COUNTS(under_filter);

SITE void *before_filter(size_t size) { return keep(malloc(size)); }
SITE void *under_filter(size_t size) { return keep(malloc(size)); }

// What printf, malloc and exit need, and what waits for other threads.
static const int needed[] = {
#ifdef SYS_newfstatat
    SYS_newfstatat,
#endif
    SYS_write,  SYS_fstat,   SYS_brk,        SYS_mmap,        SYS_munmap,
    SYS_mremap, SYS_madvise, SYS_exit_group, SYS_exit,        SYS_futex,
    SYS_nanosleep, SYS_clock_nanosleep, SYS_rt_sigreturn, SYS_sched_yield,
    // Of every process that has threads.
    SYS_mprotect, SYS_rt_sigprocmask, SYS_gettid, SYS_getpid,
};

static const int liked[] = {
    SYS_close_range, SYS_pidfd_open, SYS_pidfd_getfd, SYS_process_vm_readv, SYS_getrandom, SYS_flock, SYS_fcntl,
    SYS_madvise, SYS_prctl, SYS_statx, SYS_membarrier, SYS_tgkill, SYS_sysinfo, SYS_socket,
};

// Calls of the list go to `listed`, all others to `others`.
static int confine(const int *list, int count, unsigned listed, unsigned others, unsigned flags) {
  struct sock_filter code[MOST];
  int at = 0;
  code[at++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
  for (int i = 0; i < count; i++) {
    code[at++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)list[i], (unsigned char)(count - i), 0);
  }
  code[at++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, others);
  code[at++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, listed);
  struct sock_fprog program = {(unsigned short)at, code};
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return -1;
  return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program);
}

#define COUNT(list) ((int)(sizeof(list) / sizeof(*(list))))

int main(int argc, char **argv) {
  const char *how = argc > 1 ? argv[1] : "own";
  const unsigned fails = SECCOMP_RET_ERRNO | EPERM;
  if (strcmp(how, "before") == 0) {
    if (confine(liked, COUNT(liked), fails, SECCOMP_RET_ALLOW, 0) != 0) return 77;
    execl(argv[0], argv[0], "confined", NULL);
    return 78;
  }
  for (int i = 0; i < BLOCKS; i++) {
    before_filter(SIZE);
    count_allocated(&at_before_filter, SIZE);
  }
  usleep(50000);
  fflush(stdout);
  if (strcmp(how, "own") == 0 && confine(needed, COUNT(needed), SECCOMP_RET_ALLOW, SECCOMP_RET_KILL_PROCESS, 0) != 0) return 77;
  if (strcmp(how, "all") == 0 && confine(needed, COUNT(needed), SECCOMP_RET_ALLOW, fails, SECCOMP_FILTER_FLAG_TSYNC) != 0) return 77;
  for (int i = 0; i < BLOCKS; i++) {
    under_filter(SIZE);
    count_allocated(&at_under_filter, SIZE);
    if (i % 20 == 0) usleep(1000);
  }
  print_site(&at_before_filter);
  print_site(&at_under_filter);
}
