/* Followers and publisher in one process, on one clock: opens many streams, publishes numbered and stamped messages one after the
 * other, and looks that every follower gets each of them once and in order. What it finds it prints as one line of JSON.
 *
 * load PORT REQUEST FOLLOWERS PUBLISH_PORT GREETING TEMPLATE MESSAGES WINDOW STALLED SECONDS PID...
 *
 * REQUEST    file with the request that opens a stream; an answer 200 or 101 is expected
 * GREETING   file with what is sent to the publishing port first
 * TEMPLATE   file with what is sent to the publishing port for one message. In it are replaced, by as many bytes each:
 *            @@number@@ (10) the message's number, 0 while warming up     @@stamp@@@@@@@@@@@@@ (20) nanoseconds, monotonic
 *            @@serial@@ (10) counts everything published, from 1000000001  C1 C1 C1 C1 (4) the same, big endian
 *            The payload must hold "#n:", number, ":", stamp: that is what followers look for.
 * WINDOW     so many messages are under way at once; 1: the next is sent when all followers have the last one; 0: one every 100 ms
 * STALLED    so many more followers, which stop reading when all are there, and read on after the last message
 * SECONDS    all of it takes longer: void
 * PID        processes whose time on the processor is counted, and whose memory
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define NUMBER 10
#define STAMP 20
#define MARK (3 + NUMBER + 1 + STAMP) /* "#n:" number ":" stamp */
#define BUFFER (256 * 1024)
#define OPENING 64

struct follower { int fd, open, ready, stalled, kept; uint32_t last; char tail[MARK]; };

static struct follower *followers;
static int total, healthy, opened, opening, ready, epoll, port;
static char *request, *template;
static long request_size, template_size;
static uint32_t messages, *counts;
static uint32_t *delays;
static uint64_t delivered, deadline;
static uint64_t serial = 1000000000;
static int publisher;
static int pids[64], pid_count;

static void turn(int milliseconds);

static void die(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    exit(1);
}

static uint64_t now(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return (uint64_t)at.tv_sec * 1000000000ull + at.tv_nsec;
}

static char *read_file(const char *path, long *size) {
    FILE *file = fopen(path, "rb");
    if (!file) die("%s cannot be read", path);
    fseek(file, 0, SEEK_END);
    *size = ftell(file);
    rewind(file);
    char *text = malloc(*size + 1);
    if (fread(text, 1, *size, file) != (size_t)*size) die("%s cannot be read", path);
    fclose(file);
    return text;
}

static int dial(int to, int small) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), one = 1, bytes = 4096;
    if (fd < 0) die("no socket: %s", strerror(errno));
    if (small) setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(to), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (connect(fd, (struct sockaddr *)&address, sizeof address) && errno != EINPROGRESS) die("connect: %s", strerror(errno));
    return fd;
}

static void watch(struct follower *follower, uint32_t events, int what) {
    struct epoll_event event = {.events = events, .data.ptr = follower};
    if (epoll_ctl(epoll, what, follower->fd, &event)) die("epoll: %s", strerror(errno));
}

static void open_more(void) {
    while (opened < total && opening < OPENING) {
        struct follower *follower = &followers[opened++];
        follower->stalled = follower - followers >= healthy;
        follower->fd = dial(port, follower->stalled);
        watch(follower, EPOLLOUT, EPOLL_CTL_ADD);
        opening++;
    }
}

static void put(char *text, const char *mark, int size, uint64_t value, int width) {
    char digits[32];
    snprintf(digits, sizeof digits, "%0*llu", width, (unsigned long long)value);
    for (char *at = text; (at = memmem(at, text + size - at, mark, width)); at += width) memcpy(at, digits, width);
}

static void tell_publisher(const char *text, long size) {
    for (long sent = 0; sent < size;) {
        ssize_t wrote = send(publisher, text + sent, size - sent, MSG_NOSIGNAL);
        if (wrote < 0 && errno != EAGAIN) die("publishing: %s", strerror(errno));
        if (wrote > 0) sent += wrote;
    }
}

static void publish(uint32_t number) {
    static char *text;
    text = realloc(text, template_size);
    memcpy(text, template, template_size);
    serial++;
    unsigned char big[4] = {serial >> 24, serial >> 16, serial >> 8, serial};
    char *at = memmem(text, template_size, "\xc1\xc1\xc1\xc1", 4);
    if (at) memcpy(at, big, 4);
    put(text, "@@serial@@", template_size, serial, NUMBER);
    put(text, "@@number@@", template_size, number, NUMBER);
    put(text, "@@stamp@@@@@@@@@@@@@", template_size, now(), STAMP);
    tell_publisher(text, template_size);
}

static void hear_publisher(void) {
    static char answer[65536];
    ssize_t got = recv(publisher, answer, sizeof answer - 1, 0);
    if (got == 0) die("the publishing connection was closed");
    if (got > 0 && answer[0] == '-') die("%.*s", (int)got, answer);
}

static void take(struct follower *follower, const char *text, ssize_t size) {
    static char joined[BUFFER + MARK];
    memcpy(joined, follower->tail, follower->kept);
    memcpy(joined + follower->kept, text, size);
    size += follower->kept;
    uint64_t at = now();
    char *from = joined, *end = joined + size;
    while ((from = memmem(from, end - from, "#n:", 3)) && end - from >= MARK) {
        uint32_t number = strtoul(from + 3, NULL, 10);
        uint64_t stamp = strtoull(from + 3 + NUMBER + 1, NULL, 10);
        from += MARK;
        if (number == 0) {
            if (!follower->ready) follower->ready = 1, ready++;
            continue;
        }
        if (number != follower->last + 1) die("follower %ld got %u after %u", follower - followers, number, follower->last);
        follower->last = number;
        if (follower->stalled) continue;
        counts[number]++;
        uint64_t late = (at - stamp) / 1000;
        delays[delivered++] = late > UINT32_MAX ? UINT32_MAX : late;
    }
    if (!from) from = end - 2 > joined ? end - 2 : joined; /* the mark's beginning may be there */
    follower->kept = end - from;
    memcpy(follower->tail, from, follower->kept);
}

static void hear(struct follower *follower) {
    static char text[BUFFER + 1];
    ssize_t got = recv(follower->fd, text, BUFFER, 0);
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0) die("follower %ld was closed on at %u", follower - followers, follower->last);
    if (!follower->open) {
        text[got] = 0;
        if (!strstr(text, " 200 ") && !strstr(text, " 101 ")) die("a stream was answered %.200s", text);
        follower->open = 1;
        opening--;
    }
    take(follower, text, got);
}

/* Looks every 100 microseconds, and is never waited for in between: real followers are on other machines, and a server's send does not
 * pay for waking a process beside it, which here costs as much as the send itself. */
static void look(void) {
    struct timespec rest = {.tv_nsec = 100000};
    nanosleep(&rest, NULL);
    turn(0);
}

static void turn(int milliseconds) {
    static struct epoll_event events[512];
    if (now() > deadline) die("it takes too long: %d ready of %d, %llu delivered", ready, total, (unsigned long long)delivered);
    int count = epoll_wait(epoll, events, 512, milliseconds);
    for (int i = 0; i < count; i++) {
        struct follower *follower = events[i].data.ptr;
        if (!follower) {
            hear_publisher();
        } else if (events[i].events & EPOLLOUT) {
            if (send(follower->fd, request, request_size, MSG_NOSIGNAL) != request_size) die("a stream cannot be asked for: %s", strerror(errno));
            watch(follower, EPOLLIN, EPOLL_CTL_MOD);
        } else {
            hear(follower);
        }
    }
}

static double cpu(void) {
    double ticks = 0;
    for (int i = 0; i < pid_count; i++) {
        char path[64], line[1024];
        snprintf(path, sizeof path, "/proc/%d/stat", pids[i]);
        FILE *file = fopen(path, "r");
        if (!file || !fgets(line, sizeof line, file)) die("process %d is gone", pids[i]);
        fclose(file);
        unsigned long user, system;
        sscanf(strrchr(line, ')') + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &system);
        ticks += user + system;
    }
    return ticks / sysconf(_SC_CLK_TCK);
}

static double rss(void) {
    double kilobytes = 0;
    for (int i = 0; i < pid_count; i++) {
        char path[64], line[256];
        double found = 0;
        snprintf(path, sizeof path, "/proc/%d/status", pids[i]);
        FILE *file = fopen(path, "r");
        if (!file) die("process %d is gone", pids[i]);
        while (fgets(line, sizeof line, file)) sscanf(line, "VmRSS: %lf", &found);
        fclose(file);
        kilobytes += found;
    }
    return kilobytes;
}

static double own_cpu(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_utime.tv_sec + usage.ru_stime.tv_sec + (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static int ascending(const void *a, const void *b) {
    uint32_t one = *(const uint32_t *)a, other = *(const uint32_t *)b;
    return (one > other) - (one < other);
}

static void pause_for(double seconds) {
    uint64_t until = now() + (uint64_t)(seconds * 1e9);
    while (now() < until) turn(10);
}

int main(int count, char **words) {
    if (count < 11) die("usage: see the head of load.c");
    port = atoi(words[1]);
    request = read_file(words[2], &request_size);
    healthy = atoi(words[3]);
    int publish_port = atoi(words[4]), window = atoi(words[8]), stalled = atoi(words[9]);
    long greeting_size;
    char *greeting = read_file(words[5], &greeting_size);
    template = read_file(words[6], &template_size);
    messages = atoi(words[7]);
    deadline = now() + (uint64_t)atoi(words[10]) * 1000000000ull;
    for (int i = 11; i < count && pid_count < 64; i++) pids[pid_count++] = atoi(words[i]);
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    total = healthy + stalled;
    followers = calloc(total, sizeof *followers);
    counts = calloc(messages + 2, sizeof *counts);
    delays = malloc(((size_t)healthy * messages + 1) * sizeof *delays);
    epoll = epoll_create1(0);
    publisher = dial(publish_port, 0);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    epoll_ctl(epoll, EPOLL_CTL_ADD, publisher, &event);

    tell_publisher(greeting, greeting_size);

    double memory_before = 0;
    int warming = total / 20, counted_from = 0; /* what the first ones load is nobody's own */
    uint64_t told = now();
    while (open_more(), opened < total || opening) {
        turn(10);
        if (!counted_from && opened - opening >= warming) counted_from = opened - opening, memory_before = rss();
        if (now() - told > 200000000ull) publish(0), told = now(); /* some answer with their first message only */
    }
    pause_for(0.5);
    while (ready < total) {
        publish(0);
        pause_for(0.2);
    }
    pause_for(0.5);
    double memory_open = rss();
    for (int i = healthy; i < total; i++) watch(&followers[i], 0, EPOLL_CTL_MOD);

    double server = cpu(), client = own_cpu();
    uint64_t began = now();
    for (uint32_t next = 1; delivered < (uint64_t)healthy * messages;) {
        if (window == 0 && next <= messages && now() >= began + (next - 1) * 100000000ull) publish(next++);
        while (window && next <= messages && (next <= (uint32_t)window || counts[next - window] == (uint32_t)healthy)) publish(next++);
        look();
    }
    double seconds = (now() - began) / 1e9;
    server = cpu() - server;
    client = own_cpu() - client;
    double memory_after = rss();

    for (int i = healthy; i < total; i++) watch(&followers[i], EPOLLIN, EPOLL_CTL_MOD);
    for (int behind = stalled; behind;) {
        turn(50);
        behind = 0;
        for (int i = healthy; i < total; i++) behind += followers[i].last < messages;
    }
    qsort(delays, delivered, sizeof *delays, ascending);
    printf("{\"rate\": %.1f, \"p50_ms\": %.3f, \"p99_ms\": %.3f, \"cpu_us\": %.3f, \"client_share\": %.3f, \"rss_kb\": %.3f, "
           "\"grown_kb\": %.0f, \"seconds\": %.3f}\n",
           delivered / seconds, delays[delivered / 2] / 1e3, delays[delivered * 99 / 100] / 1e3, server * 1e6 / delivered,
           client / seconds, (memory_open - memory_before) / (total - counted_from), memory_after - memory_open, seconds);
    return 0;
}
