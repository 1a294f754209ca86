/* stamps COUNT PER_SECOND: prints numbered lines with the clock's reading inside. Python, a thousand times, would be what is measured. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static long long now(void)
{
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return at.tv_sec * 1000000000LL + at.tv_nsec;
}

static void sleep_until(long long at)
{
    struct timespec then = {at / 1000000000LL, at % 1000000000LL};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &then, NULL) != 0) {
    }
}

int main(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    long count = atol(argv[1]);
    long long pause = 1000000000LL / atol(argv[2]);
    /* Nothing is replayed to whoever is late, by some: they must be there first. And not all print at the same moment. */
    long long due = now() + 700000000LL + getpid() * 7919LL % 1000 * pause / 1000;
    for (long number = 0; number < count; number++, due += pause) {
        char line[64];
        sleep_until(due);
        int size = snprintf(line, sizeof line, "%ld %lld\n", number, now());
        if (write(1, line, size) != size)
            return 1;
    }
    return 0;
}
