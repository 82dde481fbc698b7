/* The floor: what fan-out costs at least on this machine. One thread, epoll, and one send() of shared bytes a
 * subscriber an event; nothing is remembered, nothing is coalesced. It answers the same requests as the servers in
 * benchmarks/servers, so that all are driven in the same way:
 *
 *   GET /events...                    a stream; chunked, as HTTP/1.1 servers send it
 *   GET /start?rate=R&events=E&size=S publish E events of S bytes at R a second, each with its time in the data
 *   GET /stats                        {"subscribers": ..., "published": ..., "publishing": ...}
 *
 *   floor --port PORT
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define MAX_FD 65536
#define MAX_REQUEST 2048

struct connection {
    int fd;
    int place; /* in `subscribers`, or -1 */
    size_t used;
    char *request;
    char *rest; /* what the socket did not take */
    size_t rest_size;
};

static struct connection *connections[MAX_FD];
static struct connection *subscribers[MAX_FD];
static int subscriber_count, epoll_fd, listener, timer;

static struct {
    double rate;
    unsigned long events, done, size;
    uint64_t begun;
} job;
static unsigned long published;

static void die(const char *what) {
    fprintf(stderr, "floor: %s: %s\n", what, strerror(errno));
    exit(1);
}

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void *need(void *memory) {
    if (!memory) die("memory");
    return memory;
}

/* -- connections */

static void watch(struct connection *connection, uint32_t mask, int operation) {
    struct epoll_event event = {.events = mask, .data.fd = connection->fd};
    if (epoll_ctl(epoll_fd, operation, connection->fd, &event)) die("epoll_ctl");
}

static void drop(struct connection *connection) {
    if (connection->place >= 0) {
        struct connection *last = subscribers[--subscriber_count];
        subscribers[connection->place] = last;
        last->place = connection->place;
    }
    connections[connection->fd] = NULL;
    close(connection->fd);
    free(connection->request);
    free(connection->rest);
    free(connection);
}

static void keep(struct connection *connection, const char *data, size_t size) {
    if (!size) return;
    if (!connection->rest_size) watch(connection, EPOLLIN | EPOLLOUT, EPOLL_CTL_MOD);
    connection->rest = need(realloc(connection->rest, connection->rest_size + size));
    memcpy(connection->rest + connection->rest_size, data, size);
    connection->rest_size += size;
}

/* A peer that is gone is noticed by the read that follows: nothing is dropped in the middle of a pass. */
static void give(struct connection *connection, const char *data, size_t size) {
    ssize_t sent = 0;
    if (!connection->rest_size) {
        sent = send(connection->fd, data, size, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent < 0) {
            if (errno != EAGAIN) return;
            sent = 0;
        }
    }
    keep(connection, data + sent, size - (size_t)sent);
}

static void flush(struct connection *connection) {
    ssize_t sent = send(connection->fd, connection->rest, connection->rest_size, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent <= 0) return;
    connection->rest_size -= (size_t)sent;
    memmove(connection->rest, connection->rest + sent, connection->rest_size);
    if (!connection->rest_size) {
        free(connection->rest);
        connection->rest = NULL;
        watch(connection, EPOLLIN, EPOLL_CTL_MOD);
    }
}

static void accept_all(void) {
    int fd, one = 1;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        if (fd >= MAX_FD) {
            close(fd);
            continue;
        }
        struct connection *connection = need(calloc(1, sizeof *connection));
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        connection->fd = fd;
        connection->place = -1;
        connection->request = need(malloc(MAX_REQUEST));
        connections[fd] = connection;
        watch(connection, EPOLLIN, EPOLL_CTL_ADD);
    }
}

/* -- publishing */

static void publish(void) {
    char head[128];
    char *block = need(malloc(job.size + 256));
    char *data = need(malloc(job.size + 32));
    memset(data, '.', job.size + 31);
    data[snprintf(data, 32, "t=%019lu ", now_ns())] = '.';
    data[job.size] = 0;
    size_t body = (size_t)snprintf(head, sizeof head, "id: floorxyz-%lu\ndata: ", ++published) + job.size + 2;
    size_t size = (size_t)sprintf(block, "%zx\r\n%s%s\n\n\r\n", body, head, data);
    for (int i = 0; i < subscriber_count; i++) give(subscribers[i], block, size);
    free(data);
    free(block);
}

static void arm(void) {
    struct itimerspec when = {0};
    if (job.done < job.events) {
        uint64_t due = job.begun + (uint64_t)((double)job.done / job.rate * 1e9);
        when.it_value.tv_sec = (time_t)(due / 1000000000u);
        when.it_value.tv_nsec = (long)(due % 1000000000u);
    }
    timerfd_settime(timer, TFD_TIMER_ABSTIME, &when, NULL);
}

static void timer_is_due(void) {
    uint64_t times;
    if (read(timer, &times, sizeof times) < 0) return;
    if (job.done < job.events) {
        publish();
        job.done++;
    }
    arm();
}

/* -- requests */

static void answer(struct connection *connection) {
    static const char stream[] = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"
                                 "Cache-Control: no-cache, no-transform\r\nTransfer-Encoding: chunked\r\n\r\n";
    static const char not_found[] = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";
    char body[200], reply[400];
    const char *request = connection->request;
    if (!strncmp(request, "GET /events", 11)) {
        give(connection, stream, sizeof stream - 1);
        connection->place = subscriber_count;
        subscribers[subscriber_count++] = connection;
        free(connection->request);
        connection->request = NULL;
        return;
    }
    if (sscanf(request, "GET /start?rate=%lf&events=%lu&size=%lu", &job.rate, &job.events, &job.size) == 3) {
        job.done = 0;
        job.begun = now_ns() + 1000000;
        arm();
    } else if (strncmp(request, "GET /stats", 10)) {
        give(connection, not_found, sizeof not_found - 1);
        return;
    }
    int size = snprintf(body, sizeof body, "{\"subscribers\": %d, \"published\": %lu, \"publishing\": %s}",
                        subscriber_count, published, job.done < job.events ? "true" : "false");
    size = snprintf(reply, sizeof reply,
                    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", size, body);
    give(connection, reply, (size_t)size);
}

static void read_some(struct connection *connection) {
    char ignored[512];
    int asking = connection->request != NULL;
    char *into = asking ? connection->request + connection->used : ignored;
    size_t room = asking ? MAX_REQUEST - 1 - connection->used : sizeof ignored;
    ssize_t size = recv(connection->fd, into, room, 0);
    if (size <= 0) {
        if (size == 0 || errno != EAGAIN) drop(connection);
        return;
    }
    if (!asking) return;
    connection->used += (size_t)size;
    connection->request[connection->used] = 0;
    if (strstr(connection->request, "\r\n\r\n")) {
        connection->used = 0;
        answer(connection);
    } else if (connection->used == MAX_REQUEST - 1) {
        drop(connection);
    }
}

static void listen_on(int port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    struct epoll_event event = {.events = EPOLLIN};
    int one = 1;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (listener < 0 || timer < 0 || epoll_fd < 0) die("start");
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 4096)) die("listen");
    event.data.fd = listener;
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listener, &event)) die("epoll_ctl");
    event.data.fd = timer;
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, timer, &event)) die("epoll_ctl");
}

static void serve(const struct epoll_event *event) {
    int fd = event->data.fd;
    if (fd == listener) {
        accept_all();
    } else if (fd == timer) {
        timer_is_due();
    } else if (connections[fd]) {
        if (event->events & EPOLLOUT) flush(connections[fd]);
        if (event->events & ~(uint32_t)EPOLLOUT) read_some(connections[fd]);
    }
}

int main(int argc, char **argv) {
    struct epoll_event batch[256];
    struct rlimit files;
    if (argc != 3 || strcmp(argv[1], "--port")) {
        fprintf(stderr, "usage: floor --port PORT\n");
        return 2;
    }
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    listen_on(atoi(argv[2]));
    for (;;) {
        int count = epoll_wait(epoll_fd, batch, 256, -1);
        if (count < 0 && errno != EINTR) die("epoll_wait");
        for (int i = 0; i < count; i++) serve(&batch[i]);
    }
}
