/*
 * Memory images and clocks for the C twins of kernels. A twin is handed the memory that its kernel starts from, as a file; it has to leave
 * in it what the kernel leaves. VECTOR_BYTES: what copies and sums may use, 16 for a look at what WebAssembly could have.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

static u8 *base;
static inline u8 get8(u32 at) { return base[at]; }
static inline u16 get16(u32 at) { u16 v; memcpy(&v, base + at, 2); return v; }
static inline u32 get32(u32 at) { u32 v; memcpy(&v, base + at, 4); return v; }
static inline u64 get64(u32 at) { u64 v; memcpy(&v, base + at, 8); return v; }
static inline void set16(u32 at, u16 v) { memcpy(base + at, &v, 2); }
static inline void set32(u32 at, u32 v) { memcpy(base + at, &v, 4); }
static inline void set64(u32 at, u64 v) { memcpy(base + at, &v, 8); }
static inline void add64(u32 at, u64 n) { set64(at, get64(at) + n); }
static inline u16 swap16(u16 v) { return __builtin_bswap16(v); }
static inline u32 acquire(u32 at) { return __atomic_load_n((u32 *)(base + at), __ATOMIC_ACQUIRE); }
static inline void publish(u32 at, u64 v) { __atomic_store_n((u64 *)(base + at), v, __ATOMIC_RELEASE); }
static void rare(const char *what) { fprintf(stderr, "not in the twin: %s\n", what); exit(2); }


#if VECTOR_BYTES == 16
typedef u8 vector __attribute__((vector_size(16)));
static inline void copy_block(u8 *to, const u8 *from) {
  vector a, b, c, d;
  memcpy(&a, from, 16);
  memcpy(&b, from + 16, 16);
  memcpy(&c, from + 32, 16);
  memcpy(&d, from + 48, 16);
  memcpy(to, &a, 16);
  memcpy(to + 16, &b, 16);
  memcpy(to + 32, &c, 16);
  memcpy(to + 48, &d, 16);
}
/* Not through the library, which picks by processor: whole blocks, the last one overlapping. */
static inline void copy(u32 to_at, u32 from_at, u32 bytes) {
  u8 *to = base + to_at, *from = base + from_at;
  if (bytes < 64) { memcpy(to, from, bytes); return; }
  u8 *last = from + bytes - 64, *last_to = to + bytes - 64;
  for (; from < last; from += 64, to += 64) copy_block(to, from);
  copy_block(last_to, last);
}
#else
static inline void copy(u32 to, u32 from, u32 bytes) { memcpy(base + to, base + from, bytes); }
#endif

static int ascending(const void *a, const void *b) { double x = *(const double *)a, y = *(const double *)b; return x < y ? -1 : x > y; }
static double now(void) { struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t); return t.tv_sec * 1e9 + t.tv_nsec; }


/* "AT:BYTES,…": what is put back before every lap. */
struct range { u32 at, bytes; u8 *saved; };

/*
 * PROGRAM IMAGE KERNEL CALLS FRAMES LAPS RANGES ARGUMENTS…: `burst` is called CALLS times a lap and has to return FRAMES each time. Prints
 * nanoseconds per frame of the lower-quartile lap.
 */
static int run_laps(int argc, char **argv, u32 (*burst)(const char *kernel, u32 call, const u32 *arguments)) {
  if (argc < 7) return 1;
  int fd = open(argv[1], O_RDWR);
  struct stat info;
  if (fd < 0 || fstat(fd, &info) != 0) { perror(argv[1]); return 1; }
  base = mmap(0, info.st_size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
  if (base == MAP_FAILED) { perror("mmap"); return 1; }
  u32 calls = atoi(argv[3]), frames = atoi(argv[4]), laps = atoi(argv[5]), arguments[16] = {0}, count = 0;
  struct range ranges[8];
  for (char *at = argv[6]; *at != 0 && count < 8; ++count) {
    ranges[count].at = strtoul(at, &at, 10);
    ranges[count].bytes = strtoul(at + 1, &at, 10);
    ranges[count].saved = malloc(ranges[count].bytes);
    memcpy(ranges[count].saved, base + ranges[count].at, ranges[count].bytes);
    if (*at == ',') ++at;
  }
  for (int n = 7; n < argc && n < 23; ++n) arguments[n - 7] = strtoul(argv[n], 0, 10);
  double *times = malloc(laps * sizeof *times);
  for (u32 lap = 0; lap < laps; ++lap) {
    for (u32 n = 0; n < count; ++n) memcpy(base + ranges[n].at, ranges[n].saved, ranges[n].bytes);
    double start = now();
    for (u32 n = 0; n < calls; ++n) if (burst(argv[2], n, arguments) != frames) rare("a lost frame");
    times[lap] = now() - start;
  }
  qsort(times, laps, sizeof *times, ascending);
  printf("%.3f\n", times[laps / 4] / (calls * frames));
  return 0;
}
