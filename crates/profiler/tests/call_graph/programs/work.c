// Known callers: main calls a function of each kind in turn. `make` in main.rs says how it is built.
#include <alloca.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>

#define FUNCTION __attribute__((noinline, noclone))

volatile uint64_t sink;

FUNCTION uint64_t spin(uint64_t rounds) {
    uint64_t x = rounds;
    for (uint64_t i = 0; i < rounds; i++) x = x * 6364136223846793005ull + 1442695040888963407ull;
    sink += x;
    return x;
}

FUNCTION int compare(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

// Through libc and back.
FUNCTION void sort(uint64_t *numbers, size_t count) {
    for (size_t i = 0; i < count; i++) numbers[i] = spin(3) * (i + 1);
    qsort(numbers, count, sizeof *numbers, compare);
    sink += numbers[0];
}

FUNCTION uint64_t descend(int depth) {
    uint64_t below = depth > 0 ? descend(depth - 1) : spin(20000);
    return below + (sink += depth);
}

// A stack that is realigned, and grows: its callers cannot be told from the stack pointer.
FUNCTION void realigned(int count, ...) {
    char room[64] __attribute__((aligned(64)));
    char *more = alloca(count);
    va_list list;
    va_start(list, count);
    memset(room, va_arg(list, int), sizeof room);
    memset(more, room[3], count);
    sink += more[count / 2] + spin(20000);
    va_end(list);
}

FUNCTION void handle(void) { sink += spin(400000); }

FUNCTION void on_signal(int number) {
    handle();
    sink += number;
}

FUNCTION void *thread_main(void *argument) {
    for (int i = 0; i < 3000; i++) sink += descend(3);
    return argument;
}

FUNCTION void interrupted(int rounds) {
    struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGPROF, &action, NULL);
    struct itimerval often = {{0, 1000}, {0, 1000}}, never = {{0, 0}, {0, 0}};
    setitimer(ITIMER_PROF, &often, NULL);
    for (int i = 0; i < rounds; i++) sink += spin(20000);
    setitimer(ITIMER_PROF, &never, NULL);
}

int main(void) {
    uint64_t *numbers = malloc(4096 * sizeof *numbers);
    pthread_t thread;
    pthread_create(&thread, NULL, thread_main, NULL);
    for (int i = 0; i < 120; i++) {
        sort(numbers, 4096);
        for (int j = 0; j < 30; j++) sink += descend(100);
        for (int j = 0; j < 30; j++) realigned(100 + j, j);
    }
    interrupted(3000);
    pthread_join(thread, NULL);
    return sink == 42;
}
