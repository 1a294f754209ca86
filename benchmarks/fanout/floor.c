/* What no server can be quicker than: one loop that subscribes to Redis and sends every message to every socket, with no thought of
 * slow readers, keys, histories or an end.
 *
 * floor PORT REDIS_PORT PASSWORD CHANNEL
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define HEAD "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
#define ALIVE "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
#define BUFFER (1024 * 1024)

static int fds[65536], count;

static struct sockaddr_in loopback(int port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    return address;
}

static void broadcast(const char *payload, long size) {
    static char event[BUFFER];
    long length = snprintf(event, sizeof event, "data: %.*s\n\n", (int)size, payload);
    for (int i = 0; i < count; i++) send(fds[i], event, length, MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* Sends all whole messages in the buffer; returns how many bytes they took. Pushed: *3, "message", channel, payload. */
static long deliver(char *text, long size) {
    char *at = text, *end = text + size;
    for (;;) {
        char *from = at, *last = NULL;
        long length = 0;
        if (from < end && from[0] == '+') { /* the answer to AUTH */
            from = memmem(from, end - from, "\r\n", 2);
            if (!from) return at - text;
            at = from + 2;
            continue;
        }
        if (end - from < 4 || from[0] != '*') return at - text;
        from = memmem(from, end - from, "\r\n", 2);
        for (int part = 0; part < 3; part++) {
            if (!from || end - (from += 2) < 3) return at - text;
            length = strtol(from + 1, NULL, 10);
            char *body = memmem(from, end - from, "\r\n", 2);
            if (from[0] == ':') { /* the answer to SUBSCRIBE: a number */
                if (!(from = body)) return at - text;
                length = 0, last = NULL;
                continue;
            }
            if (!body || end - body < length + 4) return at - text;
            last = body + 2;
            from = last + length;
        }
        if (last) broadcast(last, length);
        at = from + 2;
    }
}

int main(int words, char **word) {
    if (words < 5) return 2;
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    int one = 1, listener = socket(AF_INET, SOCK_STREAM, 0), redis = socket(AF_INET, SOCK_STREAM, 0), epoll = epoll_create1(0);
    struct sockaddr_in here = loopback(atoi(word[1])), there = loopback(atoi(word[2]));
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&here, sizeof here) || listen(listener, 4096)) return 1;
    if (connect(redis, (struct sockaddr *)&there, sizeof there)) return 1;
    dprintf(redis, "*2\r\n$4\r\nAUTH\r\n$%zu\r\n%s\r\n", strlen(word[3]), word[3]);
    dprintf(redis, "*2\r\n$9\r\nSUBSCRIBE\r\n$%zu\r\n%s\r\n", strlen(word[4]), word[4]);
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listener}, happened[512];
    epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event);
    event.data.fd = redis;
    epoll_ctl(epoll, EPOLL_CTL_ADD, redis, &event);
    static char text[BUFFER], asked[4096];
    long kept = 0;
    for (;;) {
        int found = epoll_wait(epoll, happened, 512, -1);
        for (int i = 0; i < found; i++) {
            int fd = happened[i].data.fd;
            if (fd == listener) {
                int client = accept(listener, NULL, NULL);
                if (client < 0) continue;
                setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
                event.data.fd = client;
                epoll_ctl(epoll, EPOLL_CTL_ADD, client, &event);
            } else if (fd == redis) {
                long got = recv(redis, text + kept, sizeof text - kept, 0);
                if (got <= 0) return 1;
                kept += got;
                long used = deliver(text, kept);
                memmove(text, text + used, kept -= used);
            } else {
                long got = recv(fd, asked, sizeof asked - 1, 0);
                if (got <= 0) {
                    for (int j = 0; j < count; j++)
                        if (fds[j] == fd) fds[j--] = fds[--count];
                    close(fd);
                } else if (memmem(asked, got, "/stream", 7)) {
                    send(fd, HEAD, sizeof HEAD - 1, MSG_NOSIGNAL);
                    fds[count++] = fd;
                } else {
                    send(fd, ALIVE, sizeof ALIVE - 1, MSG_NOSIGNAL);
                }
            }
        }
    }
}
