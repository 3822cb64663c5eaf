/* ceiling.c: the least that a server can do, and so the ceiling in tests/bench.py.
 *
 * A bare epoll loop on loopback: GET /api/events makes a subscriber; POST /api/broadcast sends its
 * body as one SSE frame to every subscriber with one send() per client and message, then answers.
 * It stores nothing, checks nothing and has no limits but its fixed tables: not a product.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MAX_FDS = 65536, REQUEST_MAX = 65536, EVENTS = 256, POST_WAIT_MS = 10000 };

struct connection {
    char *request; /* what has arrived of the request; NULL for a subscriber */
    size_t length;
    int place; /* index in `subscribers`, or -1 */
};

static struct connection connections[MAX_FDS];
static int subscribers[MAX_FDS];
static int subscriber_count;
static unsigned long long last_id;

static void die(const char *what) {
    perror(what);
    exit(1);
}

static void raise_file_limit(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

static int listen_on_loopback(void) {
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one); /* accepted sockets inherit it */
    if (bind(fd, (struct sockaddr *)&address, size) || listen(fd, 1024)) die("listen");
    getsockname(fd, (struct sockaddr *)&address, &size);
    printf("ceiling listening on http://127.0.0.1:%d\n", ntohs(address.sin_port));
    fflush(stdout);
    return fd;
}

static void forget(int fd) {
    struct connection *connection = &connections[fd];
    if (connection->place >= 0) {
        int moved = subscribers[--subscriber_count];
        subscribers[connection->place] = moved;
        connections[moved].place = connection->place;
    }
    free(connection->request);
    connection->request = NULL;
    close(fd);
}

/* Sends everything; a full socket is waited for, since a benchmark's reader does read. */
static void send_all(int fd, const char *bytes, size_t length) {
    while (length) {
        ssize_t sent = send(fd, bytes, length, MSG_NOSIGNAL);
        if (sent > 0) {
            bytes += sent;
            length -= (size_t)sent;
        } else if (errno == EAGAIN) {
            struct pollfd writable = {.fd = fd, .events = POLLOUT};
            if (poll(&writable, 1, POST_WAIT_MS) != 1) return;
        } else {
            return; /* the loop's own recv() tells that it is gone */
        }
    }
}

static void broadcast(const char *body, size_t length) {
    static char frame[REQUEST_MAX + 64];
    int head = sprintf(frame, "id: 1-%llu\ndata: ", ++last_id);
    memcpy(frame + head, body, length);
    memcpy(frame + head + length, "\n\n", 2);
    for (int i = 0; i < subscriber_count; i++)
        send_all(subscribers[i], frame, (size_t)head + length + 2);
}

static void subscribe(int fd) {
    static const char head[] = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
                               "Cache-Control: no-store\r\nConnection: close\r\n\r\n";
    send_all(fd, head, sizeof head - 1);
    connections[fd].place = subscriber_count;
    subscribers[subscriber_count++] = fd;
    free(connections[fd].request);
    connections[fd].request = NULL;
}

static void answer(int fd) {
    static const char ok[] = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
                             "Content-Length: 16\r\n\r\n{\"success\":true}";
    send_all(fd, ok, sizeof ok - 1);
}

/* Acts on the request in the buffer once it is whole. */
static void handle(int fd) {
    struct connection *connection = &connections[fd];
    connection->request[connection->length] = 0;
    char *end = strstr(connection->request, "\r\n\r\n");
    if (!end) return;
    if (!strncmp(connection->request, "GET /api/events", 15)) {
        subscribe(fd);
        return;
    }
    char *body = end + 4, *field = strcasestr(connection->request, "\r\ncontent-length:");
    size_t length = field && field < body ? strtoul(field + 17, NULL, 10) : 0;
    if (connection->length < (size_t)(body - connection->request) + length) return;
    if (length) broadcast(body, length); /* a probe without a body is only answered */
    answer(fd);
    connection->length = 0;
}

static void receive(int fd) {
    static char ignored[4096];
    struct connection *connection = &connections[fd];
    int is_subscriber = connection->place >= 0;
    char *into = is_subscriber ? ignored : connection->request + connection->length;
    size_t room = is_subscriber ? sizeof ignored : REQUEST_MAX - 1 - connection->length;
    ssize_t got = recv(fd, into, room, 0);
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0) {
        forget(fd);
    } else if (!is_subscriber) {
        connection->length += (size_t)got;
        handle(fd);
    }
}

static void accept_all(int listener, int poller) {
    for (int fd; (fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0;) {
        struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
        if (fd >= MAX_FDS) die("too many connections");
        connections[fd] = (struct connection){.request = malloc(REQUEST_MAX), .place = -1};
        epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event);
    }
}

int main(void) {
    raise_file_limit();
    int poller = epoll_create1(0), listener = listen_on_loopback();
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listener}, events[EVENTS];
    epoll_ctl(poller, EPOLL_CTL_ADD, listener, &event);
    for (;;) {
        int count = epoll_wait(poller, events, EVENTS, -1);
        for (int i = 0; i < count; i++) {
            if (events[i].data.fd == listener) accept_all(listener, poller);
            else receive(events[i].data.fd);
        }
    }
}
