/* hold-counters N shared|pinned: opens N counters of cycles on each CPU and keeps them. */
#include <linux/perf_event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    int wanted = argc > 1 ? atoi(argv[1]) : 8;
    int held = 0;
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);

    for (int cpu = 0; cpu < cpus; cpu++)
        for (int i = 0; i < wanted; i++) {
            struct perf_event_attr attr;
            memset(&attr, 0, sizeof(attr));
            attr.size = sizeof(attr);
            attr.type = PERF_TYPE_HARDWARE;
            attr.config = PERF_COUNT_HW_CPU_CYCLES;
            attr.pinned = argc > 2 && !strcmp(argv[2], "pinned");
            if (syscall(SYS_perf_event_open, &attr, -1, cpu, -1, 0) >= 0)
                held++;
        }
    fprintf(stderr, "%d counters\n", held);
    pause();
    return 0;
}
