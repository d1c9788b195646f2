// The library of deepbind.c.
#include <stdlib.h>
#include <string.h>

char *deep_make(int i) {
  char *text = malloc(101);
  memset(text, 'x', 100);
  text[i % 100] = 0;
  return text;
}

void deep_take(char *text) { free(text); }
