/* Preloaded into an agent by the fault tests: bends its wall clock, makes its fsyncs slow or fail, and its
   reads fail. What to do stands in a file
   that the test writes and this process maps, so that it changes while the agent runs. Asks the kernel itself, so that it needs
   nothing of the C library that may not be ready yet. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

struct orders {
  int64_t wall_ms; /* added to the wall clock */
  int64_t sync_ms; /* every fsync takes this much longer */
  int64_t failing; /* so many of the next fsyncs fail with EIO, and reach no disk */
  int64_t syncs;   /* fsyncs asked for */
  int64_t failed;  /* those that failed */
  int64_t unread;  /* so many of the next reads fail with EIO */
};

static struct orders none;
static struct orders *orders = &none;
static char below[PATH_MAX]; /* only files below this directory are meant */
static uint8_t broken[4096]; /* by descriptor: an fsync on it failed */

__attribute__((constructor)) static void begin(void) {
  const char *path = getenv("FAULT_ORDERS"), *dir = getenv("FAULT_BELOW");
  int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
  if (fd < 0) return;
  void *mapped = mmap(NULL, sizeof(struct orders), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (mapped != MAP_FAILED) orders = mapped;
  syscall(SYS_close, fd);
  snprintf(below, sizeof below, "%s", dir ? dir : "");
}

static int64_t load(int64_t *word) { return __atomic_load_n(word, __ATOMIC_SEQ_CST); }

int clock_gettime(clockid_t id, struct timespec *at) {
  int result = (int)syscall(SYS_clock_gettime, id, at);
  if (result == 0 && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE)) {
    int64_t ms = load(&orders->wall_ms);
    at->tv_sec += ms / 1000;
    at->tv_nsec += (ms % 1000) * 1000000;
    if (at->tv_nsec < 0) at->tv_nsec += 1000000000, at->tv_sec--;
    if (at->tv_nsec >= 1000000000) at->tv_nsec -= 1000000000, at->tv_sec++;
    if (at->tv_sec < 0) at->tv_sec = 0;
  }
  return result;
}

int gettimeofday(struct timeval *restrict at, void *restrict zone) {
  struct timespec now;
  (void)zone;
  clock_gettime(CLOCK_REALTIME, &now);
  at->tv_sec = now.tv_sec;
  at->tv_usec = now.tv_nsec / 1000;
  return 0;
}

time_t time(time_t *at) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  if (at) *at = now.tv_sec;
  return now.tv_sec;
}

static int is_meant(int fd, char path[PATH_MAX]) {
  char link[64];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, path, PATH_MAX - 1);
  if (length > 0) path[length] = 0;
  return length > 0 && below[0] && strncmp(path, below, strlen(below)) == 0;
}

static int meant_sync(long call, int fd) {
  char path[PATH_MAX];
  if (!is_meant(fd, path)) return (int)syscall(call, fd);
  __atomic_add_fetch(&orders->syncs, 1, __ATOMIC_SEQ_CST);
  int known = fd >= 0 && fd < (int)sizeof broken;
  if (known && broken[fd]) dprintf(2, "fsync again after it failed: %s\n", path);
  int64_t ms = load(&orders->sync_ms);
  if (ms > 0) {
    struct timespec pause = {ms / 1000, (ms % 1000) * 1000000};
    nanosleep(&pause, NULL);
  }
  int64_t left = load(&orders->failing);
  while (left > 0) {
    if (__atomic_compare_exchange_n(&orders->failing, &left, left - 1, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {
      __atomic_add_fetch(&orders->failed, 1, __ATOMIC_SEQ_CST);
      if (known) broken[fd] = 1;
      errno = EIO;
      return -1;
    }
  }
  return (int)syscall(call, fd);
}

int fsync(int fd) { return meant_sync(SYS_fsync, fd); }
int fdatasync(int fd) { return meant_sync(SYS_fdatasync, fd); }

/* Whether this read is one that fails. */
static int fails_to_read(int fd) {
  char path[PATH_MAX];
  int64_t left = load(&orders->unread);
  if (left <= 0 || !is_meant(fd, path)) return 0;
  while (left > 0)
    if (__atomic_compare_exchange_n(&orders->unread, &left, left - 1, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) return 1;
  return 0;
}

ssize_t read(int fd, void *into, size_t size) {
  if (fails_to_read(fd)) return errno = EIO, -1;
  return syscall(SYS_read, fd, into, size);
}

ssize_t pread64(int fd, void *into, size_t size, off64_t at) {
  if (fails_to_read(fd)) return errno = EIO, -1;
  return syscall(SYS_pread64, fd, into, size, at);
}

int close(int fd) {
  if (fd >= 0 && fd < (int)sizeof broken) broken[fd] = 0;
  return (int)syscall(SYS_close, fd);
}
