/*
 * What the machine takes for memory-span's pattern without any device: 64 bytes each from 4096 pages to a small area and from there to 4096
 * others, in bursts of 64, pages anywhere in a sparse file of so many GiB. `memory-floor GIB EXTENT_BYTES MS`: the file mapped as a whole (0), or as
 * the DMA window has a guest that does not fit: only the extents that have a page, packed. Prints nanoseconds per frame, lower quartile of the laps.
 */
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { PAGES = 4096, BURST = 64, FRAME = 64, PAGE = 4096, MAX_LAPS = 100000 };
static char *from[PAGES], *to[PAGES];
static char arena[BURST * FRAME] __attribute__((aligned(64)));

static uint64_t now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000000000ull + t.tv_nsec;
}

static uint64_t state = 0x5ba4;
static uint64_t random_below(uint64_t limit) {
  state ^= state << 13;
  state ^= state >> 7;
  state ^= state << 17;
  return state % limit;
}

static int ascending(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

static void *mapped(void *at, uint64_t bytes, int flags, int fd, uint64_t offset) {
  void *place = mmap(at, bytes, PROT_READ | PROT_WRITE, flags, fd, offset);
  if (place == MAP_FAILED) perror("mmap"), exit(1);
  return place;
}

int main(int argc, char **argv) {
  if (argc != 4) return 2;
  uint64_t bytes = strtoull(argv[1], 0, 10) << 30, extent = strtoull(argv[2], 0, 10);
  int fd = memfd_create("memory-floor", 0);
  if (fd < 0 || ftruncate(fd, bytes) != 0) return 1;
  char *whole = extent == 0 ? mapped(0, bytes, MAP_SHARED, fd, 0) : mapped(0, 2ull * PAGES * extent, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  for (int n = 0; n < 2 * PAGES; n++) {
    uint64_t at = random_below(bytes / PAGE) * PAGE;
    char *page = extent == 0 ? whole + at : (char *)mapped(whole + n * extent, extent, MAP_SHARED | MAP_FIXED, fd, at - at % extent) + at % extent;
    memset(page, n, FRAME);
    if (n < PAGES) from[n] = page;
    else to[n - PAGES] = page;
  }
  static double laps[MAX_LAPS];
  int count = 0;
  for (uint64_t began = now(), end = began + strtoull(argv[3], 0, 10) * 1000000; now() < end && count < MAX_LAPS; count++) {
    uint64_t start = now();
    for (int first = 0; first < PAGES; first += BURST) {
      for (int n = 0; n < BURST; n++) memcpy(arena + n * FRAME, from[first + n], FRAME);
      for (int n = 0; n < BURST; n++) memcpy(to[first + n], arena + n * FRAME, FRAME);
    }
    laps[count] = (double)(now() - start) / PAGES;
  }
  qsort(laps, count, sizeof *laps, ascending);
  printf("%.2f\n", laps[count / 4]);
  return 0;
}
