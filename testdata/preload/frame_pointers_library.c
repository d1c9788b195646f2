// The library of frame_pointers.c: compiled without unwind information, with
// frame pointers.
int relay(int frames, int (*next)(int), int argument) {
  volatile char local[72];
  local[0] = (char)frames;
  if (frames == 0) return next(argument) + local[0];
  return relay(frames - 1, next, argument) + local[0];
}
