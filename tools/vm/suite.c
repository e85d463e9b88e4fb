// SPDX-License-Identifier: BSL-1.0
// Runs a list of tests in the virtual machine: each in a process group of its
// own, several at once where the list allows it, with a time limit.  A test
// that exceeds its limit has the kernel's view of its threads printed before it
// is killed.
//
//   suite LIST RESULTS JOBS FACTOR
//
// LIST is what tools/vm/list.py prints; limits are multiplied by FACTOR.
// RESULTS gets "plan COUNT", then for each test one line "pass|fail|skip TAB
// name TAB milliseconds TAB reason of a skip".  Exit status 1 if any failed.
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { most_words = 32, most_jobs = 8, output_shown = 6000 };

struct test {
  char const* name;
  long limit_ms;
  bool is_serial;
  char* argv[most_words];
};

struct job {
  struct test const* test;
  pid_t pid;
  long start_ms;
  bool is_late;
  char output[64];
};

static struct job jobs[most_jobs];
static int running;
static int results;
static int failed;

static long now_ms(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

// Reads all of a file, at most `size - 1` bytes of its end.
static size_t read_end(char const* path, char* into, size_t size) {
  size_t got = 0;
  int const fd = open(path, O_RDONLY | O_CLOEXEC);
  into[0] = '\0';
  if (fd < 0) return 0;
  struct stat status;
  if (fstat(fd, &status) == 0 && status.st_size >= (off_t)size)
    lseek(fd, status.st_size - (off_t)size + 1, SEEK_SET);
  ssize_t n;
  while (got < size - 1 && (n = read(fd, into + got, size - 1 - got)) > 0)
    got += (size_t)n;
  into[got] = '\0';
  close(fd);
  return got;
}

// What the kernel says of each thread of the job's processes.
static void print_threads(pid_t group) {
  static char const* const files[] = {"wchan", "syscall", "stack"};
  char path[512], text[4096];
  DIR* const all = opendir("/proc");
  for (struct dirent* entry; all && (entry = readdir(all));) {
    int const pid = atoi(entry->d_name);
    if (pid <= 0 || getpgid(pid) != group) continue;
    snprintf(path, sizeof path, "/proc/%d/task", pid);
    DIR* const threads = opendir(path);
    for (struct dirent* thread; threads && (thread = readdir(threads));) {
      int const tid = atoi(thread->d_name);
      if (tid <= 0) continue;
      snprintf(path, sizeof path, "/proc/%d/task/%d/stat", pid, tid);
      read_end(path, text, sizeof text);
      char const* const state = strrchr(text, ')');
      printf("  thread %d of %d, state %.1s\n", tid, pid,
             state && state[1] ? state + 2 : "?");
      for (size_t i = 0; i < sizeof files / sizeof *files; ++i) {
        snprintf(path, sizeof path, "/proc/%d/task/%d/%s", pid, tid, files[i]);
        if (read_end(path, text, sizeof text))
          printf("    %s: %s\n", files[i], text);
      }
    }
    if (threads) closedir(threads);
  }
  if (all) closedir(all);
}

// The reason that GoogleTest prints between two marks, in one line.
static void print_reason(char* into, size_t size, char const* output) {
  char const* const mark = ": Skipped\n";
  char const* from = strstr(output, mark);
  from = from ? from + strlen(mark) : "no reason given";
  size_t n = 0;
  for (; *from && *from != '[' && n + 1 < size; ++from)
    into[n++] = *from == '\n' || *from == '\t' ? ' ' : *from;
  while (n > 0 && into[n - 1] == ' ') --n;
  into[n] = '\0';
}

static void start(struct test const* test) {
  struct job* job = jobs;
  while (job->pid) ++job;
  *job = (struct job){.test = test, .start_ms = now_ms()};
  snprintf(job->output, sizeof job->output, "/tmp/.suite.%d",
           (int)(job - jobs));
  job->pid = fork();
  if (job->pid == 0) {
    setpgid(0, 0);
    int const out = open(job->output, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    dup2(out, 1);
    dup2(out, 2);
    close(out);
    close(results);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    execv(test->argv[0], test->argv);
    perror(test->argv[0]);
    _exit(127);
  }
  setpgid(job->pid, job->pid);
  ++running;
}

static void finish(struct job* job, int status) {
  static char output[1 << 20];
  char line[1024], reason[512] = "";
  long const took = now_ms() - job->start_ms;
  kill(-job->pid, SIGKILL);
  read_end(job->output, output, sizeof output);
  bool const passed =
      WIFEXITED(status) && !WEXITSTATUS(status) && !job->is_late;
  char const* word = passed ? "pass" : "fail";
  if (passed && strstr(output, "[  SKIPPED ]")) {
    word = "skip";
    print_reason(reason, sizeof reason, output);
  }
  if (!passed) {
    ++failed;
    size_t const length = strlen(output);
    printf("%s\n",
           output + (length > output_shown ? length - output_shown : 0));
    if (WIFSIGNALED(status) && !job->is_late)
      printf("  ended by signal %d\n", WTERMSIG(status));
  }
  printf("%s %s %ld ms %s\n", word, job->test->name, took, reason);
  int const n = snprintf(line, sizeof line, "%s\t%s\t%ld\t%s\n", word,
                         job->test->name, took, reason);
  if (write(results, line, (size_t)n) != n) perror("results");
  unlink(job->output);
  job->pid = 0;
  --running;
}

// Waits until fewer than `most` jobs run.
static void wait_below(int most) {
  sigset_t child;
  sigemptyset(&child);
  sigaddset(&child, SIGCHLD);
  while (running >= most) {
    int status;
    bool is_ended = false;
    for (struct job* job = jobs; job < jobs + most_jobs; ++job) {
      if (!job->pid) continue;
      if (waitpid(job->pid, &status, WNOHANG) == job->pid) {
        finish(job, status);
        is_ended = true;
        continue;
      }
      long const over = now_ms() - job->start_ms - job->test->limit_ms;
      if (over > 0 && !job->is_late) {
        printf("%s: over its limit of %ld s\n", job->test->name,
               job->test->limit_ms / 1000);
        print_threads(job->pid);
        job->is_late = true;
        kill(-job->pid, SIGKILL);
      } else if (over > 20000) {
        printf("%s: does not die\n", job->test->name);
        print_threads(job->pid);
        finish(job, 1);
      }
    }
    struct timespec const tick = {.tv_nsec = 200000000};
    if (!is_ended && running >= most) sigtimedwait(&child, NULL, &tick);
  }
}

// Cuts a line of the list in place.
static bool parse(char* line, struct test* test, double factor) {
  int n = 0;
  char* rest = line;
  char* words[most_words + 3];
  line[strcspn(line, "\n")] = '\0';
  while (n < most_words + 2 && (words[n] = strsep(&rest, "\t"))) ++n;
  words[n] = NULL;
  if (n < 4) return false;
  test->name = words[0];
  test->limit_ms = (long)(atof(words[1]) * 1000 * factor);
  test->is_serial = atoi(words[2]) != 0;
  memcpy(test->argv, words + 3, (size_t)(n - 2) * sizeof *words);
  return true;
}

static void fatal(char const* what) {
  perror(what);
  exit(2);
}

int main(int argc, char** argv) {
  if (argc != 5) return 2;
  int const at_once = atoi(argv[3]) < most_jobs ? atoi(argv[3]) : most_jobs;
  double const factor = atof(argv[4]);
  FILE* const list = fopen(argv[1], "r");
  if (!list) fatal(argv[1]);
  results = open(argv[2], O_WRONLY | O_APPEND | O_NOCTTY);
  if (results < 0) fatal(argv[2]);
  setvbuf(stdout, NULL, _IOLBF, 0);
  sigset_t child;
  sigemptyset(&child);
  sigaddset(&child, SIGCHLD);
  sigprocmask(SIG_BLOCK, &child, NULL);

  struct test* tests = NULL;
  size_t count = 0, room = 0, size = 0;
  for (char* line = NULL; getline(&line, &size, list) > 0;
       line = NULL, size = 0) {
    if (count == room)
      tests = realloc(tests, (room = 2 * room + 64) * sizeof *tests);
    if (!tests) fatal("memory");
    if (parse(line, tests + count, factor)) ++count;
  }
  fclose(list);
  dprintf(results, "plan\t%zu\n", count);
  for (int serial = 0; serial < 2; ++serial) {
    int const most = serial ? 1 : at_once;
    for (size_t i = 0; i < count; ++i) {
      if (tests[i].is_serial != serial) continue;
      wait_below(most);
      start(tests + i);
    }
    wait_below(1);
  }
  printf("%zu tests, %d failed\n", count, failed);
  return failed ? 1 : 0;
}
