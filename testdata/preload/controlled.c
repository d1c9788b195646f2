// Does what it is told on stdin, one line at a time, and answers each with a line: the test acts on it from outside in
// between. Blocks of `grow` have 1000 bytes.
#define _GNU_SOURCE
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sites.h"

enum { MOST = 1000, SIZE = 1000, HELD = 20000 };

static char *blocks[MOST];
static int count;

static char *held[HELD];

SITE char *at_grow(void) {
  return malloc(SIZE);
}

static void grow(int n) {
  while (n-- > 0 && count < MOST) {
    blocks[count] = at_grow();
    memset(blocks[count++], 1, SIZE);
  }
}

// The oldest ones first.
static void drop(int n) {
  n = n < count ? n : count;
  for (int i = 0; i < n; i++) free(blocks[i]);
  memmove(blocks, blocks + n, (count - n) * sizeof *blocks);
  count -= n;
}

// The oldest ones become blocks of another size.
static void resize(int n) {
  for (int i = 0; i < n && i < count; i++) blocks[i] = realloc(blocks[i], 2 * SIZE);
}

// Frees all of 80 MB but the last block, which keeps an allocator from giving the rest back by itself.
static void hold(void) {
  for (int i = 0; i < HELD; i++) memset(held[i] = malloc(4000), 1, 4000);
  for (int i = 0; i < HELD - 1; i++) free(held[i]);
}

// Every descriptor but the standard ones, as daemons do.
static void close_all(void) {
  for (int i = 3; i < 1024; i++) close(i);
}

// A listening socket of the program's own takes the place of every socket that is not its own.
static void take_all(void) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  int own = socket(AF_UNIX, SOCK_STREAM, 0);
  bind(own, (struct sockaddr *)&address, sizeof address.sun_family);
  listen(own, 5);
  for (int i = 500; i < 1024; i++) {
    struct stat status;
    if (fstat(i, &status) == 0 && S_ISSOCK(status.st_mode)) dup2(own, i);
  }
}

static void answer(const char *text) {
  printf("%s\n", text);
  fflush(stdout);
}

// A child that does as its parent did, until it is told to go.
static void split(void) {
  int to_child[2];
  if (pipe(to_child) != 0) return;
  pid_t child = fork();
  if (child == 0) {
    dup2(to_child[0], 0);
    close(to_child[0]);
    close(to_child[1]);
    grow(3);
    char byte;
    (void)!read(0, &byte, 1);
    _exit(0);
  }
  close(to_child[0]);
  char text[32];
  snprintf(text, sizeof text, "%d", child);
  answer(text);
  fgets(text, sizeof text, stdin);
  close(to_child[1]);
  waitpid(child, NULL, 0);
}

int main(int argc, char **argv) {
  char line[64];
  (void)argc;
  umask(0);
  setvbuf(stdin, NULL, _IONBF, 0);
  answer("ready");
  while (fgets(line, sizeof line, stdin)) {
    int n = 0;
    char word[32] = "";
    sscanf(line, "%31s %d", word, &n);
    if (!strcmp(word, "grow")) grow(n);
    if (!strcmp(word, "drop")) drop(n);
    if (!strcmp(word, "resize")) resize(n);
    if (!strcmp(word, "hold")) hold();
    if (!strcmp(word, "close_all")) close_all();
    if (!strcmp(word, "take_all")) take_all();
    if (!strcmp(word, "split")) split();
    if (!strcmp(word, "exec")) execv(argv[0], argv);
    if (!strcmp(word, "exec_nothing")) execl("/nonexistent", "nothing", (char *)NULL);
    if (!strcmp(word, "abort")) raise(9);
    if (!strcmp(word, "quit")) return 7;
    answer(word);
  }
  return 0;
}
