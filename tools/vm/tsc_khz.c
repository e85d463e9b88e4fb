// SPDX-License-Identifier: BSL-1.0
// Prints the rate of this machine's time stamp counter in kHz.  QEMU's guests
// see that counter; one that measures its rate beside a busy host, against a
// clock that QEMU emulates, gets it wrong by a factor of up to 20, and then
// every time limit in it is wrong as well.
#include <stdint.h>
#include <stdio.h>
#include <time.h>
#include <x86intrin.h>

static int64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

struct reading {
  int64_t ns;
  uint64_t ticks;
};

// The closest pair of many: an interruption in between spoils one.
static struct reading read_both(void) {
  struct reading best = {0};
  int64_t least = INT64_MAX;
  for (int i = 0; i < 1000; ++i) {
    int64_t const before = now_ns();
    uint64_t const ticks = __rdtsc();
    int64_t const after = now_ns();
    if (after - before >= least) continue;
    least = after - before;
    best = (struct reading){before + least / 2, ticks};
  }
  return best;
}

int main(void) {
  struct timespec const pause = {.tv_nsec = 300000000};
  struct reading const first = read_both();
  nanosleep(&pause, NULL);
  struct reading const last = read_both();
  printf("%.0f\n", (double)(last.ticks - first.ticks) * 1e6 /
                       (double)(last.ns - first.ns));
}
