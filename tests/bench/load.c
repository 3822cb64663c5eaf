/* load.c: the load driver of tests/bench.py (compiled by it; Linux; loopback only).
 *
 *   1. opens the subscribers and says how fast that went:       {"phase":"connected",...}
 *   2. waits for a line on standard input (so that the caller can read the server's memory and CPU)
 *   3. publishes from a thread of its own while the main thread reads, waits until everything that
 *      was accepted has arrived, and says what it saw:           {"phase":"done",...}
 *
 * Each message carries a mark `bench:<publisher>:<sequence>:<number>:<time sent>` of fixed width, in
 * whatever the transport wraps around it. From the mark alone come latency and the counts of lost,
 * doubled and disordered messages; a new transport needs a handshake and a reader (TRANSPORTS).
 * Everything is bounded: messages, seconds, buffers, and the whole run by alarm().
 *
 * With --other-port every second subscriber is on that server, another node of the same log; its
 * latency is counted by itself.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    MAX_PUBLISHERS = 64,
    MAX_BATCH = 1000,
    MAX_SIZE = 4096,
    READ_SIZE = 256 * 1024,
    CARRY_MAX = 4 * 1024 * 1024, /* an incomplete event longer than this ends the connection */
    ANSWER_MAX = 32 * 1024,
    EVENTS = 512,
    PORTS_PER_ADDRESS = 20000, /* then the next source address: 127.0.0.2, ... */
    STEPS = 128,               /* histogram steps per power of two: an error under 0.8 % */
    HISTOGRAM_SIZE = 58 * STEPS,
    MARK_SIZE = 6 + 2 + 1 + 8 + 1 + 8 + 1 + 20
};

/* ------------------------------------------------------------------ options and shared counters */

static struct {
    int port, other_port, subscribers, parallel, publishers, size, batch, limit;
    double seconds, rate, drain;
    uint32_t max_messages;
    bool check_ids;
    const char *events_path, *post_path, *header, *transport;
} options = {
    .parallel = 64, .size = 200, .batch = 1, .limit = 120, .seconds = 3, .drain = 10,
    .max_messages = 200000, .events_path = "/api/events", .post_path = "/api/broadcast",
    .header = "X-Bench: 1", .transport = "sse",
};

static atomic_bool publishing_over;
static _Atomic uint64_t accepted; /* messages whose publisher got a 2xx */

struct histogram {
    uint64_t count, bucket[HISTOGRAM_SIZE];
};

static uint64_t now_ns(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static void die(const char *what) {
    perror(what);
    exit(1);
}

static void record(struct histogram *histogram, uint64_t ns) {
    size_t index = ns;
    if (ns >= STEPS) {
        int exponent = 63 - __builtin_clzll(ns);
        index = (size_t)(exponent - 6) * STEPS + (ns >> (exponent - 7)) - STEPS;
    }
    histogram->bucket[index]++;
    histogram->count++;
}

/* The latency in milliseconds under which `part` of all values lie; 0 where there are none. */
static double quantile(const struct histogram *histogram, double part) {
    uint64_t left = (uint64_t)((double)histogram->count * part);
    for (size_t index = 0; index < HISTOGRAM_SIZE; index++) {
        if (histogram->bucket[index] > left) {
            if (index < STEPS) return (double)index / 1e6;
            return ((double)(index % STEPS) + STEPS + 0.5) * (double)(1ull << (index / STEPS - 1)) / 1e6;
        }
        left -= histogram->bucket[index];
    }
    return 0;
}

/* ------------------------------------------------------------------------------ connecting */

static void raise_file_limit(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit)) return;
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
}

/* A non-blocking connection from the `index`th socket's source address; -1 if it fails at once. */
static int open_socket(int index, int port) {
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) return -1;
    struct sockaddr_in source = {.sin_family = AF_INET}, target = source;
    source.sin_addr.s_addr = htonl(INADDR_LOOPBACK + (uint32_t)(index / PORTS_PER_ADDRESS));
    target.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    target.sin_port = htons((uint16_t)port);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
    if (bind(fd, (struct sockaddr *)&source, sizeof source) == 0 &&
        (connect(fd, (struct sockaddr *)&target, sizeof target) == 0 || errno == EINPROGRESS))
        return fd;
    close(fd);
    return -1;
}

static void watch(int poller, int operation, int fd, uint32_t events, void *owner) {
    struct epoll_event event = {.events = events, .data.ptr = owner};
    epoll_ctl(poller, operation, fd, &event);
}

/* ------------------------------------------------------------------------------ subscribers */

enum state { CONNECTING, HEAD, JOINING, OPEN, CLOSED };
enum chunk_part { CHUNK_SIZE, CHUNK_DATA, CHUNK_END };

struct subscriber {
    int fd;
    enum state state;
    bool chunked, is_other;
    enum chunk_part chunk_part;
    uint64_t chunk_left;
    char *carry; /* the beginning of an event (or of the answer's head) whose end has not arrived */
    size_t carry_length;
    uint64_t last_id;
    uint32_t last_sequence[MAX_PUBLISHERS];
    uint8_t *seen; /* a bit per message number */
};

static struct subscriber *subscribers;
static int subscriber_poller;
static struct {
    int connected, failed, dropped;
    uint64_t events, unique, doubled, disordered, id_errors, bytes, last_delivery;
    struct histogram latency, other_latency;
} received;

static void close_subscriber(struct subscriber *subscriber) {
    if (subscriber->state == OPEN) received.dropped++;
    else received.failed++;
    subscriber->state = CLOSED;
    close(subscriber->fd);
}

/* Decimal digits of a mark; anything else makes the number too large to be taken for one. */
static uint64_t digits(const char *text, int count) {
    uint64_t value = 0;
    while (count--) {
        if (*text < '0' || *text > '9') return UINT64_MAX;
        value = value * 10 + (uint64_t)(*text++ - '0');
    }
    return value;
}

/* Accounts for one message that carries a mark. */
static void deliver(struct subscriber *subscriber, const char *mark, uint64_t now) {
    uint64_t publisher = digits(mark + 6, 2), sequence = digits(mark + 9, 8);
    uint64_t number = digits(mark + 18, 8), sent = digits(mark + 27, 20);
    if (publisher >= MAX_PUBLISHERS || number >= options.max_messages) return;
    uint8_t bit = (uint8_t)(1u << (number & 7)), *byte = &subscriber->seen[number >> 3];
    received.events++;
    if (*byte & bit) {
        received.doubled++;
        return;
    }
    *byte |= bit;
    received.unique++;
    if (sequence <= subscriber->last_sequence[publisher]) received.disordered++;
    else subscriber->last_sequence[publisher] = (uint32_t)sequence;
    record(subscriber->is_other ? &received.other_latency : &received.latency, now - sent);
    received.last_delivery = now;
}

/* An id is `<epoch>-<n>`; n must grow from message to message. */
static void check_id(struct subscriber *subscriber, const char *line, size_t length) {
    const char *dash = memrchr(line, '-', length);
    uint64_t id = dash ? strtoull(dash + 1, NULL, 10) : 0;
    if (id <= subscriber->last_id) received.id_errors++;
    else subscriber->last_id = id;
}

/* Reads whole events (WHATWG HTML 9.2) and returns how many bytes they took. */
static size_t read_sse(struct subscriber *subscriber, const char *text, size_t length, uint64_t now) {
    const char *line = text, *end = text + length, *done = text, *mark = NULL, *id = NULL, *newline;
    size_t id_length = 0;
    for (; line < end && (newline = memchr(line, '\n', (size_t)(end - line))); line = newline + 1) {
        size_t size = (size_t)(newline - line);
        if (size && line[size - 1] == '\r') size--;
        if (size == 0) { /* a blank line dispatches the event */
            if (mark) deliver(subscriber, mark, now);
            if (mark && options.check_ids) check_id(subscriber, id ? id : "", id_length);
            mark = id = NULL;
            id_length = 0;
            done = newline + 1;
        } else if (size > 5 && !memcmp(line, "data:", 5)) {
            const char *found = memmem(line, size, "bench:", 6);
            if (found && found + MARK_SIZE <= line + size) mark = found;
        } else if (size > 3 && !memcmp(line, "id:", 3)) {
            id = line;
            id_length = size;
        }
    }
    return (size_t)(done - text);
}

/* A client's text frame (RFC 6455 5.2) of at most 125 bytes; its mask is zero. */
static void send_text(struct subscriber *subscriber, const char *text) {
    char frame[6 + 125] = {(char)0x81, (char)(0x80 | strlen(text))};
    memcpy(frame + 6, text, strlen(text));
    send(subscriber->fd, frame, 6 + strlen(text), MSG_NOSIGNAL);
}

/* A packet of Socket.IO v5 in Engine.IO v4: joins the main namespace, answers pings, takes events. */
static void read_packet(struct subscriber *subscriber, const char *text, size_t length, uint64_t now) {
    if (length && text[0] == '0') {
        send_text(subscriber, "40");
    } else if (length && text[0] == '2') {
        send_text(subscriber, "3");
    } else if (length > 1 && !memcmp(text, "40", 2)) {
        subscriber->state = OPEN;
        received.connected++;
    } else if (length > 1 && !memcmp(text, "42", 2)) {
        const char *mark = memmem(text, length, "bench:", 6);
        if (!mark || mark + MARK_SIZE > text + length) return;
        deliver(subscriber, mark, now);
        if (options.check_ids) check_id(subscriber, text, length); /* its last dash is the offset's */
    } else {
        close_subscriber(subscriber); /* refused, or put out */
    }
}

/* Reads whole unfragmented frames of a server and returns how many bytes they took. */
static size_t read_frames(struct subscriber *subscriber, const char *text, size_t length, uint64_t now) {
    size_t done = 0;
    while (subscriber->state != CLOSED && length - done >= 2) {
        const uint8_t *frame = (const uint8_t *)text + done;
        size_t head = frame[1] == 127 ? 10 : frame[1] == 126 ? 4 : 2, size = frame[1];
        if (length - done < head) break;
        if (head > 2) size = 0;
        for (size_t i = 2; i < head; i++) size = size << 8 | frame[i];
        if (length - done - head < size) break;
        if ((frame[0] & 15) == 8) close_subscriber(subscriber);
        else read_packet(subscriber, text + done + head, size, now);
        done += head + size;
    }
    return done;
}

static const struct transport {
    const char *name, *request; /* request: path, port and the extra header are filled in */
    const char *status;
    bool joins; /* it counts as connected once its reader says so */
    size_t (*read)(struct subscriber *, const char *, size_t, uint64_t);
} TRANSPORTS[] = {
    {"sse",
     "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nAccept: text/event-stream\r\n%s\r\n\r\n",
     "HTTP/1.1 200", false, read_sse},
    {"socket.io",
     "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
     "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n%s\r\n\r\n",
     "HTTP/1.1 101", true, read_frames},
};
static const struct transport *transport;

static void choose_transport(void) {
    for (size_t i = 0; i < sizeof TRANSPORTS / sizeof *TRANSPORTS; i++)
        if (!strcmp(TRANSPORTS[i].name, options.transport)) transport = &TRANSPORTS[i];
    if (!transport) die("unknown transport");
}

/* Takes the chunked framing (RFC 9112 7.1) off `length` bytes; returns what remains, in `out`. */
static size_t dechunk(struct subscriber *subscriber, const char *in, size_t length, char *out) {
    const char *end = in + length;
    char *start = out;
    while (in < end) {
        if (subscriber->chunk_part == CHUNK_DATA) {
            size_t take = (size_t)(end - in);
            if (take > subscriber->chunk_left) take = subscriber->chunk_left;
            memcpy(out, in, take);
            in += take, out += take, subscriber->chunk_left -= take;
            if (!subscriber->chunk_left) subscriber->chunk_part = CHUNK_END;
        } else if (*in++ == '\n') {
            bool was_end = subscriber->chunk_part == CHUNK_END;
            subscriber->chunk_part = was_end ? CHUNK_SIZE : CHUNK_DATA;
        } else if (subscriber->chunk_part == CHUNK_SIZE && in[-1] != '\r') {
            char digit[2] = {in[-1], 0};
            subscriber->chunk_left = subscriber->chunk_left * 16 + strtoul(digit, NULL, 16);
        }
    }
    return (size_t)(out - start);
}

/* Keeps the bytes of an unfinished event until more arrive. */
static void keep(struct subscriber *subscriber, const char *bytes, size_t length) {
    if (length > CARRY_MAX) {
        close_subscriber(subscriber);
        return;
    }
    if (length) {
        subscriber->carry = realloc(subscriber->carry, length);
        memcpy(subscriber->carry, bytes, length);
    }
    subscriber->carry_length = length;
}

/* The answer's head: 1 when it has ended well, 0 when more is needed, -1 when it is a refusal. */
static int read_head(struct subscriber *subscriber, char *text, size_t length, size_t *taken) {
    char *end = memmem(text, length, "\r\n\r\n", 4);
    if (!end) return 0;
    end[2] = 0;
    *taken = (size_t)(end + 4 - text);
    subscriber->chunked = strcasestr(text, "\r\ntransfer-encoding: chunked") != NULL;
    if (!strncmp(text, transport->status, strlen(transport->status))) return 1;
    fprintf(stderr, "refused: %.200s\n", text);
    return -1;
}

static void send_head(struct subscriber *subscriber) {
    char request[2048];
    int length = snprintf(request, sizeof request, transport->request, options.events_path,
                          options.port, options.header);
    if (send(subscriber->fd, request, (size_t)length, MSG_NOSIGNAL) != length) {
        close_subscriber(subscriber);
        return;
    }
    subscriber->state = HEAD;
    watch(subscriber_poller, EPOLL_CTL_MOD, subscriber->fd, EPOLLIN, subscriber);
}

static char raw[READ_SIZE], text[CARRY_MAX + READ_SIZE];

/* Events of an open stream: `raw` holds `length` fresh bytes. */
static void receive_body(struct subscriber *subscriber, const char *bytes, size_t length) {
    size_t have = subscriber->carry_length;
    if (have) memcpy(text, subscriber->carry, have);
    if (subscriber->chunked) {
        have += dechunk(subscriber, bytes, length, text + have);
    } else {
        memcpy(text + have, bytes, length);
        have += length;
    }
    size_t taken = transport->read(subscriber, text, have, now_ns());
    keep(subscriber, text + taken, have - taken);
}

static void receive_head(struct subscriber *subscriber, size_t length) {
    static char head[READ_SIZE * 2];
    size_t have = subscriber->carry_length, taken = 0;
    if (have + length >= sizeof head) {
        close_subscriber(subscriber);
        return;
    }
    if (have) memcpy(head, subscriber->carry, have);
    memcpy(head + have, raw, length);
    have += length;
    head[have] = 0;
    int verdict = read_head(subscriber, head, have, &taken);
    if (verdict < 0) close_subscriber(subscriber);
    if (verdict == 0) keep(subscriber, head, have);
    if (verdict <= 0) return;
    subscriber->state = transport->joins ? JOINING : OPEN;
    subscriber->carry_length = 0;
    received.connected += !transport->joins;
    if (taken < have) receive_body(subscriber, head + taken, have - taken);
}

static void receive(struct subscriber *subscriber) {
    ssize_t got = recv(subscriber->fd, raw, sizeof raw, 0);
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0) {
        close_subscriber(subscriber);
        return;
    }
    received.bytes += (uint64_t)got;
    if (subscriber->state == HEAD) receive_head(subscriber, (size_t)got);
    else receive_body(subscriber, raw, (size_t)got);
}

/* Waits at most `timeout` ms for the sockets; false when a line (or the end) came on stdin. */
static bool serve_subscribers(int timeout) {
    struct epoll_event events[EVENTS];
    int count = epoll_wait(subscriber_poller, events, EVENTS, timeout);
    bool no_line = true;
    for (int i = 0; i < count; i++) {
        struct subscriber *subscriber = events[i].data.ptr;
        if (!subscriber) no_line = false;
        else if (subscriber->state == CONNECTING) send_head(subscriber);
        else if (subscriber->state != CLOSED) receive(subscriber);
    }
    return no_line;
}

static void begin_subscriber(int index) {
    struct subscriber *subscriber = &subscribers[index];
    subscriber->is_other = options.other_port && index % 2;
    subscriber->fd = open_socket(index, subscriber->is_other ? options.other_port : options.port);
    if (subscriber->fd < 0) {
        subscriber->state = CLOSED;
        received.failed++;
        return;
    }
    if (options.publishers) subscriber->seen = calloc(options.max_messages / 8 + 1, 1);
    watch(subscriber_poller, EPOLL_CTL_ADD, subscriber->fd, EPOLLOUT, subscriber);
}

/* Opens all subscribers, `parallel` at a time; returns the seconds it took. */
static double connect_subscribers(void) {
    uint64_t start = now_ns();
    int begun = 0;
    for (int ended = 0; ended < options.subscribers;) {
        while (begun < options.subscribers && begun - ended < options.parallel)
            begin_subscriber(begun++);
        serve_subscribers(1000);
        ended = received.connected + received.failed;
    }
    return (double)(now_ns() - start) / 1e9;
}

/* ------------------------------------------------------------------------------ publishers */

struct publisher {
    int fd, number;
    uint32_t sequence;
    char *request, answer[ANSWER_MAX + 1];
    size_t request_length, written, answer_length;
    uint64_t posted;
    bool waiting;
};

static struct publisher publishers[MAX_PUBLISHERS];
static int publisher_poller;
static struct {
    uint64_t requests, errors, reconnects, first, last;
    uint32_t next_number;
    int waiting;
    struct histogram latency;
} posted;

static void connect_publisher(struct publisher *publisher) {
    publisher->fd = open_socket(0, options.port);
    if (publisher->fd < 0) die("publisher");
    /* Blocking only for the handshake, which on loopback ends at once. */
    struct epoll_event event;
    int waiter = epoll_create1(EPOLL_CLOEXEC);
    watch(waiter, EPOLL_CTL_ADD, publisher->fd, EPOLLOUT, publisher);
    if (epoll_wait(waiter, &event, 1, 5000) != 1) die("publisher");
    close(waiter);
    watch(publisher_poller, EPOLL_CTL_ADD, publisher->fd, EPOLLIN, publisher);
}

/* Writes one JSON message of `size` bytes; the mark stands first, where it is found soonest. */
static size_t write_message(struct publisher *publisher, char *out) {
    int length = sprintf(out, "{\"type\":\"bench\",\"mark\":\"bench:%02d:%08u:%08u:%020llu\",\"pad\":\"",
                         publisher->number, ++publisher->sequence, posted.next_number++,
                         (unsigned long long)now_ns());
    int padding = options.size - length - 2;
    if (padding > 0) memset(out + length, 'x', (size_t)padding);
    length += padding > 0 ? padding : 0;
    memcpy(out + length, "\"}", 2);
    return (size_t)length + 2;
}

/* How long any message is: the mark has a fixed width, so the head can be written before. */
static size_t message_size(void) {
    static const int least = 16 + 8 + MARK_SIZE + 9 + 2;
    return (size_t)(options.size > least ? options.size : least);
}

static void write_request(struct publisher *publisher) {
    size_t per_message = message_size() + (options.batch > 1);
    char *out = publisher->request;
    out += sprintf(out, "POST %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n%s\r\nContent-Type: %s\r\n"
                   "Content-Length: %zu\r\n\r\n", options.post_path, options.port, options.header,
                   options.batch > 1 ? "application/x-ndjson" : "application/json",
                   per_message * (size_t)options.batch);
    for (int i = 0; i < options.batch; i++) {
        out += write_message(publisher, out);
        if (options.batch > 1) *out++ = '\n';
    }
    publisher->request_length = (size_t)(out - publisher->request);
    publisher->written = 0;
}

static void continue_request(struct publisher *publisher) {
    size_t left = publisher->request_length - publisher->written;
    ssize_t sent = send(publisher->fd, publisher->request + publisher->written, left, MSG_NOSIGNAL);
    if (sent > 0) publisher->written += (size_t)sent;
    bool whole = publisher->written == publisher->request_length;
    if (!whole || left != publisher->request_length) /* the usual case needs no system call */
        watch(publisher_poller, EPOLL_CTL_MOD, publisher->fd, whole ? EPOLLIN : EPOLLIN | EPOLLOUT,
              publisher);
}

static void publish(struct publisher *publisher) {
    write_request(publisher);
    publisher->posted = now_ns();
    if (!posted.first) posted.first = publisher->posted;
    publisher->waiting = true;
    publisher->answer_length = 0;
    posted.waiting++;
    continue_request(publisher);
}

/* Whether the answer in the buffer is whole; nothing follows it in a closed loop. */
static bool answer_is_whole(struct publisher *publisher) {
    publisher->answer[publisher->answer_length] = 0;
    char *end = strstr(publisher->answer, "\r\n\r\n");
    if (!end) return false;
    char *field = strcasestr(publisher->answer, "\r\ncontent-length:");
    if (field && field < end)
        return publisher->answer_length >=
               (size_t)(end + 4 - publisher->answer) + strtoul(field + 17, NULL, 10);
    field = strcasestr(publisher->answer, "\r\ntransfer-encoding: chunked");
    if (field && field < end)
        return !memcmp(publisher->answer + publisher->answer_length - 5, "0\r\n\r\n", 5);
    return true;
}

static void finish_request(struct publisher *publisher, bool good) {
    publisher->waiting = false;
    posted.waiting--;
    posted.requests++;
    posted.last = now_ns();
    if (good) {
        record(&posted.latency, posted.last - publisher->posted);
        atomic_fetch_add(&accepted, (uint64_t)options.batch);
    } else if (posted.errors++ == 0) {
        fprintf(stderr, "publish failed: %.300s\n",
                publisher->answer_length ? publisher->answer : "closed");
    }
}

static void reconnect_publisher(struct publisher *publisher) {
    if (publisher->waiting) finish_request(publisher, false);
    close(publisher->fd);
    posted.reconnects++;
    connect_publisher(publisher);
}

static void read_answer(struct publisher *publisher) {
    size_t room = ANSWER_MAX - publisher->answer_length;
    ssize_t got = recv(publisher->fd, publisher->answer + publisher->answer_length, room, 0);
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0) {
        reconnect_publisher(publisher);
        return;
    }
    publisher->answer_length += (size_t)got;
    if (publisher->waiting && answer_is_whole(publisher))
        finish_request(publisher, !strncmp(publisher->answer, "HTTP/1.1 2", 10));
}

static bool may_publish(uint64_t end) {
    return now_ns() < end && posted.next_number + (uint32_t)options.batch <= options.max_messages;
}

/* Closed loop: whoever has its answer posts again. */
static void publish_from_all(void) {
    for (int i = 0; i < options.publishers; i++)
        if (!publishers[i].waiting) publish(&publishers[i]);
}

/* Fixed rate: the next free publisher posts when the next message is due; returns ms to wait. */
static int publish_at_rate(uint64_t start) {
    uint64_t due = start + (uint64_t)((double)posted.requests / options.rate * 1e9), now = now_ns();
    if (now < due) return (int)((due - now + 999999) / 1000000);
    for (int i = 0; i < options.publishers; i++) {
        if (posted.waiting == 0 && !publishers[i].waiting) {
            publish(&publishers[i]);
            break;
        }
    }
    return 100;
}

static void *run_publishers(void *unused) {
    uint64_t start = now_ns(), end = start + (uint64_t)(options.seconds * 1e9);
    uint64_t give_up = end + (uint64_t)(options.drain * 1e9);
    struct epoll_event events[MAX_PUBLISHERS];
    for (;;) {
        bool more = may_publish(end);
        if (!more && (posted.waiting == 0 || now_ns() > give_up)) break;
        int timeout = 100;
        if (more && options.rate > 0) timeout = publish_at_rate(start);
        else if (more) publish_from_all();
        int count = epoll_wait(publisher_poller, events, MAX_PUBLISHERS, timeout);
        for (int i = 0; i < count; i++) {
            struct publisher *publisher = events[i].data.ptr;
            if (events[i].events & EPOLLOUT) continue_request(publisher);
            if (events[i].events & ~(uint32_t)EPOLLOUT) read_answer(publisher);
        }
    }
    atomic_store(&publishing_over, true);
    return unused;
}

static void open_publishers(void) {
    publisher_poller = epoll_create1(EPOLL_CLOEXEC);
    for (int i = 0; i < options.publishers; i++) {
        publishers[i].number = i;
        publishers[i].request = malloc(4096 + (message_size() + 1) * (size_t)options.batch);
        connect_publisher(&publishers[i]);
    }
}

/* ------------------------------------------------------------------------------ the run */

/* Publishes and reads until all that was accepted has arrived, or `drain` seconds after the end. */
static void run(void) {
    pthread_t thread;
    uint64_t give_up = 0;
    open_publishers();
    if (pthread_create(&thread, NULL, run_publishers, NULL)) die("thread");
    for (;;) {
        bool over = atomic_load(&publishing_over);
        if (over && received.unique >= atomic_load(&accepted) * (uint64_t)received.connected) break;
        if (over && !give_up) give_up = now_ns() + (uint64_t)(options.drain * 1e9);
        if (give_up && now_ns() > give_up) break;
        serve_subscribers(20);
    }
    pthread_join(thread, NULL);
    /* What should not come, a second copy, would come now. */
    for (uint64_t settle = now_ns() + 200000000u; options.subscribers && now_ns() < settle;)
        serve_subscribers(20);
}

static double seconds_between(uint64_t start, uint64_t end) {
    return end > start ? (double)(end - start) / 1e9 : 0;
}

static void print_connected(double seconds) {
    printf("{\"phase\":\"connected\",\"connected\":%d,\"failed\":%d,\"connect_seconds\":%.6f}\n",
           received.connected, received.failed, seconds);
    fflush(stdout);
}

static void print_done(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    double cpu = (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
                 (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
    uint64_t expected = accepted * (uint64_t)received.connected;
    printf("{\"phase\":\"done\",\"accepted\":%llu,\"requests\":%llu,\"post_errors\":%llu,"
           "\"reconnects\":%llu,\"post_seconds\":%.6f,\"post_p50_ms\":%.4f,\"post_p99_ms\":%.4f,",
           (unsigned long long)accepted, (unsigned long long)posted.requests,
           (unsigned long long)posted.errors, (unsigned long long)posted.reconnects,
           seconds_between(posted.first, posted.last), quantile(&posted.latency, 0.5),
           quantile(&posted.latency, 0.99));
    printf("\"deliveries\":%llu,\"delivery_seconds\":%.6f,\"p50_ms\":%.4f,\"p99_ms\":%.4f,"
           "\"other_p50_ms\":%.4f,\"other_p99_ms\":%.4f,\"lost\":%lld,\"doubled\":%llu,\"disordered\":%llu,\"id_errors\":%llu,\"dropped\":%d,"
           "\"bytes\":%llu,\"load_cpu_seconds\":%.3f}\n",
           (unsigned long long)received.unique, seconds_between(posted.first, received.last_delivery),
           quantile(&received.latency, 0.5), quantile(&received.latency, 0.99),
           quantile(&received.other_latency, 0.5), quantile(&received.other_latency, 0.99),
           (long long)(expected - received.unique), (unsigned long long)received.doubled,
           (unsigned long long)received.disordered, (unsigned long long)received.id_errors,
           received.dropped, (unsigned long long)received.bytes, cpu);
    fflush(stdout);
}

static void wait_for_line(void) {
    int flags = fcntl(STDIN_FILENO, F_GETFL);
    fcntl(STDIN_FILENO, F_SETFL, flags | O_NONBLOCK);
    watch(subscriber_poller, EPOLL_CTL_ADD, STDIN_FILENO, EPOLLIN, NULL);
    while (serve_subscribers(1000)) continue;
    watch(subscriber_poller, EPOLL_CTL_DEL, STDIN_FILENO, 0, NULL);
}

static const struct option LONG_OPTIONS[] = {
    {"port", 1, 0, 'p'},       {"subscribers", 1, 0, 's'}, {"parallel", 1, 0, 'c'},
    {"publishers", 1, 0, 'P'}, {"size", 1, 0, 'z'},        {"batch", 1, 0, 'b'},
    {"limit", 1, 0, 'l'},      {"seconds", 1, 0, 'S'},     {"rate", 1, 0, 'r'},
    {"drain", 1, 0, 'd'},      {"max-messages", 1, 0, 'm'}, {"check-ids", 0, 0, 'i'},
    {"events-path", 1, 0, 'e'}, {"post-path", 1, 0, 'o'},  {"header", 1, 0, 'H'},
    {"transport", 1, 0, 't'},  {"other-port", 1, 0, 'n'},  {0, 0, 0, 0},
};

static void take_option(int option) {
    switch (option) {
    case 'p': options.port = atoi(optarg); break;
    case 's': options.subscribers = atoi(optarg); break;
    case 'c': options.parallel = atoi(optarg); break;
    case 'P': options.publishers = atoi(optarg); break;
    case 'z': options.size = atoi(optarg); break;
    case 'b': options.batch = atoi(optarg); break;
    case 'l': options.limit = atoi(optarg); break;
    case 'S': options.seconds = atof(optarg); break;
    case 'r': options.rate = atof(optarg); break;
    case 'd': options.drain = atof(optarg); break;
    case 'm': options.max_messages = (uint32_t)strtoul(optarg, NULL, 10); break;
    case 'i': options.check_ids = true; break;
    case 'e': options.events_path = optarg; break;
    case 'o': options.post_path = optarg; break;
    case 'H': options.header = optarg; break;
    case 't': options.transport = optarg; break;
    case 'n': options.other_port = atoi(optarg); break;
    default: exit(2);
    }
}

static void parse_options(int argc, char **argv) {
    for (int option; (option = getopt_long(argc, argv, "", LONG_OPTIONS, NULL)) != -1;)
        take_option(option);
    if (options.port <= 0 || options.publishers > MAX_PUBLISHERS || options.batch > MAX_BATCH ||
        options.batch < 1 || options.size > MAX_SIZE || options.max_messages > 99999999) {
        fprintf(stderr, "load: an option is missing or out of its bounds\n");
        exit(2);
    }
}

int main(int argc, char **argv) {
    parse_options(argc, argv);
    choose_transport();
    alarm((unsigned)options.limit);
    raise_file_limit();
    subscriber_poller = epoll_create1(EPOLL_CLOEXEC);
    subscribers = calloc((size_t)options.subscribers + 1, sizeof *subscribers);
    print_connected(connect_subscribers());
    wait_for_line();
    if (options.publishers) run();
    print_done();
    return 0;
}
