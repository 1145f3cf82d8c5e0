// Stands between a program and the C library (LD_PRELOAD), for files below one folder:
//
// - Journal: every change of a file and every sync, in order, from which a test builds what a disk may hold after the
//   power fails at any moment.
// - Faults: a test has writes or syncs fail, and the wall clock jump, while the program runs.
//
// TIDEWELL_DISK_FOLDER is the folder, TIDEWELL_DISK_JOURNAL the journal, TIDEWELL_DISK_CONTROL a file that holds
// struct control. Everything else passes through untouched.

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

struct control {
  _Atomic int32_t write_error; // errno that writes fail with; 0 is none
  _Atomic int32_t sync_error;  // the same for syncs
  _Atomic int64_t clock_seconds; // added to the wall clock
};

static char folder[PATH_MAX];
static size_t folder_length;
static int journal = -1;
static struct control *control;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

__attribute__((constructor)) static void begin(void) {
  const char *name = getenv("TIDEWELL_DISK_FOLDER");
  if (name && realpath(name, folder)) folder_length = strlen(folder);
  name = getenv("TIDEWELL_DISK_JOURNAL");
  if (name) journal = syscall(SYS_openat, AT_FDCWD, name, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
  name = getenv("TIDEWELL_DISK_CONTROL");
  int file = name ? syscall(SYS_openat, AT_FDCWD, name, O_RDONLY | O_CLOEXEC, 0) : -1;
  if (file < 0) return;
  void *page = mmap(NULL, sizeof *control, PROT_READ, MAP_SHARED, file, 0);
  if (page != MAP_FAILED) control = page;
  syscall(SYS_close, file);
}

// Where the journal ends, and so how much of it came before now.
static uint64_t now(void) {
  return journal < 0 ? 0 : (uint64_t)syscall(SYS_lseek, journal, 0, SEEK_END);
}

// One record: its kind, the file's name in the folder, two numbers, and bytes. All lengths are little-endian.
static void record(char kind, const char *name, uint64_t first, uint64_t second, const void *bytes, uint64_t length) {
  if (journal < 0) return;
  struct __attribute__((packed)) {
    char kind;
    uint16_t name_length;
    uint64_t first, second, length;
  } head = {kind, (uint16_t)strlen(name), first, second, length};
  struct iovec parts[] = {{&head, sizeof head}, {(void *)name, head.name_length}, {(void *)bytes, length}};
  // One call, so that who reads the journal's length never sees half a record as a whole.
  if (syscall(SYS_writev, journal, parts, 3) != (long)(sizeof head + head.name_length + length)) abort();
}

// The name in the folder of an open file or a path; NULL when it lies elsewhere. The folder itself is "".
static const char *inside(const char *path) {
  if (!folder_length || strncmp(path, folder, folder_length)) return NULL;
  if (path[folder_length] == 0) return path + folder_length;
  return path[folder_length] == '/' ? path + folder_length + 1 : NULL;
}

static const char *name_of(int file, char *path) {
  char link[64];
  snprintf(link, sizeof link, "/proc/self/fd/%d", file);
  long length = syscall(SYS_readlinkat, AT_FDCWD, link, path, PATH_MAX - 1);
  if (length <= 0) return NULL;
  path[length] = 0;
  return inside(path);
}

static const char *name_at(const char *given, char *path) {
  char parent[PATH_MAX];
  snprintf(parent, sizeof parent, "%s", given);
  char *slash = strrchr(parent, '/');
  const char *last = slash ? slash + 1 : parent;
  char resolved[PATH_MAX];
  if (slash) *slash = 0;
  if (!realpath(slash ? (slash == parent ? "/" : parent) : ".", resolved)) return NULL;
  if (snprintf(path, PATH_MAX, "%s/%s", resolved, last) >= PATH_MAX) return NULL;
  return inside(path);
}

static int opened(const char *given, int flags, mode_t mode) {
  char path[PATH_MAX];
  const char *name = flags & O_CREAT ? name_at(given, path) : NULL;
  if (!name) return syscall(SYS_openat, AT_FDCWD, given, flags, mode);
  pthread_mutex_lock(&lock);
  struct stat before;
  int is_new = syscall(SYS_newfstatat, AT_FDCWD, given, &before, 0) != 0;
  int failure = is_new && control ? control->write_error : 0;
  int file = failure ? (errno = failure, -1) : (int)syscall(SYS_openat, AT_FDCWD, given, flags, mode);
  if (file >= 0 && is_new) record('C', name, 0, 0, NULL, 0);
  if (file >= 0 && !is_new && flags & O_TRUNC) record('T', name, 0, 0, NULL, 0);
  pthread_mutex_unlock(&lock);
  return file;
}

static mode_t mode_of(int flags, va_list rest) {
  return flags & (O_CREAT | __O_TMPFILE) ? va_arg(rest, mode_t) : 0;
}

int open(const char *path, int flags, ...) {
  va_list rest;
  va_start(rest, flags);
  mode_t mode = mode_of(flags, rest);
  va_end(rest);
  return opened(path, flags, mode);
}

int open64(const char *path, int flags, ...) {
  va_list rest;
  va_start(rest, flags);
  mode_t mode = mode_of(flags, rest);
  va_end(rest);
  return opened(path, flags, mode);
}

static ssize_t written(int file, const struct iovec *parts, int count, off_t offset) {
  char path[PATH_MAX];
  const char *name = name_of(file, path);
  if (!name)
    return offset < 0 ? syscall(SYS_writev, file, parts, count) : syscall(SYS_pwritev, file, parts, count, offset, 0);
  if (control && control->write_error) return errno = control->write_error, -1;
  pthread_mutex_lock(&lock);
  int is_appended = (syscall(SYS_fcntl, file, F_GETFL) & O_APPEND) != 0;
  off_t at = offset >= 0 ? offset : syscall(SYS_lseek, file, 0, is_appended ? SEEK_END : SEEK_CUR);
  ssize_t total = 0;
  for (int part = 0; part < count; part++) {
    ssize_t length = offset < 0 ? syscall(SYS_write, file, parts[part].iov_base, parts[part].iov_len)
                                : syscall(SYS_pwrite64, file, parts[part].iov_base, parts[part].iov_len, at + total);
    if (length < 0) {
      if (total == 0) total = -1;
      break;
    }
    record('W', name, (uint64_t)(at + total), 0, parts[part].iov_base, (uint64_t)length);
    total += length;
    if ((size_t)length < parts[part].iov_len) break;
  }
  pthread_mutex_unlock(&lock);
  return total;
}

ssize_t write(int file, const void *bytes, size_t length) {
  struct iovec part = {(void *)bytes, length};
  return written(file, &part, 1, -1);
}

ssize_t writev(int file, const struct iovec *parts, int count) { return written(file, parts, count, -1); }

ssize_t pwrite(int file, const void *bytes, size_t length, off_t offset) {
  struct iovec part = {(void *)bytes, length};
  return written(file, &part, 1, offset);
}

ssize_t pwrite64(int file, const void *bytes, size_t length, off64_t offset) { return pwrite(file, bytes, length, offset); }

int ftruncate(int file, off_t length) {
  char path[PATH_MAX];
  const char *name = name_of(file, path);
  if (!name) return syscall(SYS_ftruncate, file, length);
  if (control && control->write_error) return errno = control->write_error, -1;
  pthread_mutex_lock(&lock);
  int answer = syscall(SYS_ftruncate, file, length);
  if (answer == 0) record('T', name, (uint64_t)length, 0, NULL, 0);
  pthread_mutex_unlock(&lock);
  return answer;
}

int ftruncate64(int file, off64_t length) { return ftruncate(file, length); }

// What is written while the sync runs is not promised by it: the record says where the journal ended before.
static int synced(long number, int file) {
  char path[PATH_MAX];
  const char *name = name_of(file, path);
  if (!name) return syscall(number, file);
  pthread_mutex_lock(&lock);
  uint64_t before = now();
  pthread_mutex_unlock(&lock);
  int failure = control ? control->sync_error : 0;
  int answer = failure ? (errno = failure, -1) : (int)syscall(number, file);
  int error = errno;
  pthread_mutex_lock(&lock);
  record(answer == 0 ? 'S' : 'F', name, before, 0, NULL, 0);
  pthread_mutex_unlock(&lock);
  errno = error;
  return answer;
}

int fsync(int file) { return synced(SYS_fsync, file); }

int fdatasync(int file) { return synced(SYS_fdatasync, file); }

int unlink(const char *given) {
  char path[PATH_MAX];
  const char *name = name_at(given, path);
  pthread_mutex_lock(&lock);
  int answer = syscall(SYS_unlink, given);
  if (answer == 0 && name) record('U', name, 0, 0, NULL, 0);
  pthread_mutex_unlock(&lock);
  return answer;
}

int rename(const char *from, const char *to) {
  char from_path[PATH_MAX], to_path[PATH_MAX];
  const char *from_name = name_at(from, from_path), *to_name = name_at(to, to_path);
  pthread_mutex_lock(&lock);
  int answer = syscall(SYS_rename, from, to);
  if (answer == 0 && from_name && to_name) record('R', from_name, 0, 0, to_name, strlen(to_name));
  pthread_mutex_unlock(&lock);
  return answer;
}

int clock_gettime(clockid_t clock, struct timespec *time) {
  int answer = syscall(SYS_clock_gettime, clock, time);
  if (answer == 0 && clock == CLOCK_REALTIME && control) time->tv_sec += control->clock_seconds;
  return answer;
}
