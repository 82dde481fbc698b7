/* The load: many SSE clients in one thread, because Python can't read as fast as newswire writes.
 *
 * Opens -n connections to 127.0.0.1:-p, asks each for the stream, and counts what comes by the stamp that every
 * event carries in its data: `t=` and 19 digits, CLOCK_MONOTONIC in nanoseconds. The stamp alone is looked for, so
 * chunked coding, coalesced events and events cut in the middle of a read make no difference.
 *
 *   load -p PORT -n CONNECTIONS [-u PATH] [-f FIRST] [-m MODULO] [-H HEADER] [-a AT_ONCE] [-s STUCK] [-z 1]
 *
 * %d in PATH or HEADER becomes FIRST + (number of the connection % MODULO). At most AT_ONCE connections wait for
 * their head at any time. STUCK of the connections, evenly spread, ask for the stream and never read.
 *
 * With -z 1 the stream is compressed, and its stamps can't be read. Then the marks are counted that end a flush (00 00 FF
 * FF): events, if each is flushed by itself. A mark soon after another ends a flush of nothing. The times are worth nothing.
 *
 * Says {"ready": ...} when every head is there, then obeys lines on stdin, each answered with one line of JSON:
 *   reset              forget all counts
 *   wait EVENTS MS     report when EVENTS were counted since the last reset, or after MS milliseconds
 * and ends with stdin.
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
#include <time.h>
#include <unistd.h>

#define DIGITS 19
#define OCTAVE 32 /* histogram buckets for each doubling: 3% resolution */
#define BUCKETS (64 * OCTAVE)

enum phase { CONNECTING, WAITING_FOR_HEAD, STREAMING, STUCK, CLOSED };

struct client {
    int fd;
    enum phase phase;
    int stuck;
    int head;      /* bytes of the head's closing \r\n\r\n seen */
    int match;     /* bytes of the stamp seen */
    uint64_t stamp; /* of a compressed stream: bytes since the last mark */
    uint64_t events;
};

static struct {
    int port, count, at_once, stuck, first, modulo, compressed;
    const char *path, *header;
} options = {.at_once = 512, .modulo = 1 << 30, .path = "/events"};

static struct client *clients;
static int epoll_fd, opened, waiting, ready, closed;
static uint64_t events, bytes, reads, begun, last_event, histogram[BUCKETS];
static double cpu_begun;
static char buffer[256 * 1024];

static void die(const char *what) {
    fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
    exit(1);
}

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static double cpu_seconds(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

/* -- counting */

static void record(uint64_t latency) {
    int top = 63 - __builtin_clzll(latency | OCTAVE);
    int bucket = (top - 5) * OCTAVE + (int)(latency >> (top - 5));
    histogram[bucket]++;
}

static double quantile(double q) {
    uint64_t rank = (uint64_t)(q * (double)(events ? events - 1 : 0)), seen = 0;
    for (int bucket = 0; bucket < BUCKETS; bucket++) {
        seen += histogram[bucket];
        if (seen > rank) {
            int shift = bucket / OCTAVE - 1;
            double low = shift < 0 ? bucket : (double)((uint64_t)(bucket % OCTAVE + OCTAVE) << shift);
            return low * (1 + 0.5 / OCTAVE) / 1000.0;
        }
    }
    return 0;
}

static void count(struct client *client, const char *data, size_t size) {
    const char *end = data + size;
    uint64_t now = now_ns();
    int match = client->match;
    uint64_t stamp = client->stamp;
    while (data < end) {
        if (match == 0) {
            data = memchr(data, 't', (size_t)(end - data));
            if (!data) break;
            match = 1;
            data++;
            continue;
        }
        char c = *data++;
        if (match == 1) {
            match = c == '=' ? 2 : c == 't' ? 1 : 0;
            stamp = 0;
        } else if (c >= '0' && c <= '9') {
            stamp = stamp * 10 + (uint64_t)(c - '0');
            if (++match == 2 + DIGITS) {
                record(now > stamp ? now - stamp : 0);
                events++;
                client->events++;
                last_event = now;
                match = 0;
            }
        } else {
            match = c == 't' ? 1 : 0;
        }
    }
    client->match = match;
    client->stamp = stamp;
}

static void count_flushes(struct client *client, const unsigned char *data, size_t size) {
    static const unsigned char mark[] = {0, 0, 0xFF, 0xFF};
    for (size_t i = 0; i < size; i++) {
        client->stamp++;
        if (data[i] == mark[client->match]) {
            if (++client->match < 4) continue;
            client->match = 0;
            if (client->stamp >= 32) {
                events++;
                client->events++;
                last_event = now_ns();
            }
            client->stamp = 0;
        } else if (!(client->match == 2 && data[i] == 0)) { /* a third zero may be the second of a mark */
            client->match = data[i] == 0;
        }
    }
}

static void reset(void) {
    memset(histogram, 0, sizeof histogram);
    events = bytes = reads = 0;
    for (int i = 0; i < opened; i++) clients[i].events = 0;
    begun = last_event = now_ns();
    cpu_begun = cpu_seconds();
}

static void report(void) {
    uint64_t fewest = UINT64_MAX, most = 0;
    for (int i = 0; i < opened; i++) {
        if (clients[i].stuck) continue;
        if (clients[i].events < fewest) fewest = clients[i].events;
        if (clients[i].events > most) most = clients[i].events;
    }
    printf("{\"events\": %lu, \"bytes\": %lu, \"reads\": %lu, \"closed\": %d, \"fewest\": %lu, \"most\": %lu, "
           "\"seconds\": %.6f, \"cpu\": %.3f, \"p50_us\": %.1f, \"p99_us\": %.1f, \"max_us\": %.1f}\n",
           events, bytes, reads, closed, fewest == UINT64_MAX ? 0 : fewest, most, (double)(last_event - begun) / 1e9,
           cpu_seconds() - cpu_begun, quantile(0.5), quantile(0.99), quantile(1));
    fflush(stdout);
}

/* -- connections */

static void watch(struct client *client, uint32_t mask, int operation) {
    struct epoll_event event = {.events = mask, .data.u32 = (uint32_t)(client - clients)};
    if (epoll_ctl(epoll_fd, operation, client->fd, &event)) die("epoll_ctl");
}

static void open_client(void) {
    struct client *client = &clients[opened];
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)options.port)};
    int one = 1;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    client->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (client->fd < 0) die("socket");
    setsockopt(client->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    client->phase = CONNECTING;
    client->stuck = options.stuck && (int64_t)(opened + 1) * options.stuck / options.count >
                                         (int64_t)opened * options.stuck / options.count;
    if (connect(client->fd, (struct sockaddr *)&address, sizeof address) && errno != EINPROGRESS) die("connect");
    watch(client, EPOLLOUT, EPOLL_CTL_ADD);
    opened++;
    waiting++;
}

static void ask(struct client *client) {
    char path[512], header[512] = "", request[2048];
    int number = options.first + (int)(client - clients) % options.modulo, error = 0;
    socklen_t length = sizeof error;
    getsockopt(client->fd, SOL_SOCKET, SO_ERROR, &error, &length);
    if (error) {
        errno = error;
        die("connect");
    }
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    snprintf(path, sizeof path, options.path, number);
    if (options.header) snprintf(header, sizeof header, options.header, number);
#pragma GCC diagnostic pop
    int size = snprintf(request, sizeof request,
                        "GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n%s%s\r\n", path, header,
                        *header ? "\r\n" : "");
    if (send(client->fd, request, (size_t)size, MSG_NOSIGNAL) != size) die("send");
    client->phase = WAITING_FOR_HEAD;
    watch(client, client->stuck ? EPOLLIN | EPOLLONESHOT : EPOLLIN, EPOLL_CTL_MOD);
}

static void head_is_there(struct client *client, enum phase next) {
    client->phase = next;
    waiting--;
    if (++ready == options.count) {
        printf("{\"ready\": %d, \"seconds\": %.6f}\n", ready, (double)(now_ns() - begun) / 1e9);
        fflush(stdout);
    }
}

static size_t skip_head(struct client *client, size_t size) {
    static const char blank[] = "\r\n\r\n";
    if (client->head == 0 && (size < 12 || memcmp(buffer, "HTTP/1.1 200", 12))) {
        fprintf(stderr, "load: expected a 200, got: %.*s\n", (int)(size < 300 ? size : 300), buffer);
        exit(1);
    }
    for (size_t i = 0; i < size; i++) {
        client->head = buffer[i] == blank[client->head] ? client->head + 1 : buffer[i] == '\r' ? 1 : 0;
        if (client->head == 4) {
            head_is_there(client, STREAMING);
            return i + 1;
        }
    }
    return size;
}

static void serve(struct client *client) {
    if (client->phase == CONNECTING) {
        ask(client);
        return;
    }
    if (client->stuck) { /* something came: the head, which is left where it is */
        if (client->phase == WAITING_FOR_HEAD) head_is_there(client, STUCK);
        return;
    }
    ssize_t size = recv(client->fd, buffer, sizeof buffer, 0);
    if (size < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (size <= 0) {
        close(client->fd);
        if (client->phase == WAITING_FOR_HEAD) {
            fprintf(stderr, "load: a connection was closed before its head\n");
            exit(1);
        }
        client->phase = CLOSED;
        closed++;
        return;
    }
    bytes += (uint64_t)size;
    reads++;
    size_t from = client->phase == WAITING_FOR_HEAD ? skip_head(client, (size_t)size) : 0;
    if (options.compressed)
        count_flushes(client, (const unsigned char *)buffer + from, (size_t)size - from);
    else
        count(client, buffer + from, (size_t)size - from);
}

/* -- commands */

static uint64_t wanted, deadline; /* of the `wait` in progress; deadline 0: none */

static void obey(char *line) {
    unsigned long milliseconds;
    if (!strcmp(line, "reset")) {
        reset();
        printf("{\"reset\": true}\n");
        fflush(stdout);
    } else if (sscanf(line, "wait %lu %lu", &wanted, &milliseconds) == 2) {
        deadline = now_ns() + milliseconds * 1000000u;
    } else {
        fprintf(stderr, "load: unknown command: %s\n", line);
        exit(1);
    }
}

static void read_commands(void) {
    static char line[256];
    static size_t used;
    char input[256];
    ssize_t size = read(STDIN_FILENO, input, sizeof input);
    if (size <= 0) exit(0);
    for (ssize_t i = 0; i < size; i++) {
        if (input[i] == '\n') {
            line[used] = 0;
            used = 0;
            obey(line);
        } else if (used < sizeof line - 1) {
            line[used++] = input[i];
        }
    }
}

static void run(void) {
    struct epoll_event batch[512], commands = {.events = EPOLLIN, .data.u32 = UINT32_MAX};
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, STDIN_FILENO, &commands)) die("epoll_ctl");
    for (;;) {
        while (opened < options.count && waiting < options.at_once) open_client();
        int count = epoll_wait(epoll_fd, batch, 512, deadline ? 5 : -1);
        if (count < 0 && errno != EINTR) die("epoll_wait");
        for (int i = 0; i < count; i++) {
            if (batch[i].data.u32 == UINT32_MAX)
                read_commands();
            else
                serve(&clients[batch[i].data.u32]);
        }
        if (deadline && (events >= wanted || now_ns() > deadline)) {
            deadline = 0;
            report();
        }
    }
}

int main(int argc, char **argv) {
    struct rlimit files;
    int option;
    while ((option = getopt(argc, argv, "p:n:u:f:m:H:a:s:z:")) != -1) {
        switch (option) {
        case 'p': options.port = atoi(optarg); break;
        case 'n': options.count = atoi(optarg); break;
        case 'u': options.path = optarg; break;
        case 'f': options.first = atoi(optarg); break;
        case 'm': options.modulo = atoi(optarg); break;
        case 'H': options.header = optarg; break;
        case 'a': options.at_once = atoi(optarg); break;
        case 's': options.stuck = atoi(optarg); break;
        case 'z': options.compressed = atoi(optarg); break;
        default: return 2;
        }
    }
    if (options.port <= 0 || options.count <= 0 || options.modulo <= 0 || options.at_once <= 0) {
        fprintf(stderr, "usage: load -p PORT -n CONNECTIONS [-u PATH] [-f FIRST] [-m MODULO] [-H HEADER] "
                        "[-a AT_ONCE] [-s STUCK] [-z 1]\n");
        return 2;
    }
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    clients = calloc((size_t)options.count, sizeof *clients);
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (!clients || epoll_fd < 0) die("start");
    reset();
    run();
}
