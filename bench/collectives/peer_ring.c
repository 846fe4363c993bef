/* SPDX-License-Identifier: MIT
 * peer_ring.c: the floor under sums over TCP: a ring of plain sockets, bytes without any framing, checks, or promises.
 * One process a rank:   peer_ring RANK LIST   with the addresses as weft_tcp.h has them. In 2 (n - 1) steps each rank
 * sends a share to the next one and takes one from the one before: first to add it, piece by piece while it is in the
 * cache, then to keep it. Both directions at once; it sleeps in poll if neither moves. Compiled for this machine. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "place.h"
#include "serve.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MOST_RANKS = 64, PIECE = 1 << 18 };

static int rank, ranks, next, before;
static char piece[PIECE] __attribute__((aligned(64)));

static void must(int right, const char *what) {
    if (right) return;
    perror(what);
    exit(1);
}

static void ring_join(const char *list) {
    struct sockaddr_in a[MOST_RANKS];
    const int on = 1;
    int i, listener = socket(AF_INET, SOCK_STREAM, 0);
    memset(a, 0, sizeof a);
    for (ranks = 0; list && ranks < MOST_RANKS; ranks++) {
        a[ranks].sin_family = AF_INET;
        a[ranks].sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        a[ranks].sin_port = htons((uint16_t)atoi(strchr(list, ':') + 1));
        list = strchr(list, ',');
        if (list) list++;
    }
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    must(bind(listener, (struct sockaddr *)&a[rank], sizeof a[rank]) == 0 && listen(listener, 1) == 0, "listen");
    next = socket(AF_INET, SOCK_STREAM, 0);
    for (i = 0; connect(next, (struct sockaddr *)&a[(rank + 1) % ranks], sizeof a[0]) && i < 1000; i++) {
        close(next);
        clock_sleep(0.01);
        next = socket(AF_INET, SOCK_STREAM, 0);
    }
    must(i < 1000, "connect");
    before = accept(listener, NULL, NULL);
    must(before >= 0, "accept");
    setsockopt(next, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    close(listener);
}

static void add(float *to, const float *x, size_t n) {
    size_t i;
    for (i = 0; i < n; i++) to[i] += x[i];
}

/* Sends a share, and takes one: adds it to what is there, or puts it there. */
static void exchange(const char *out, size_t out_bytes, char *in, size_t in_bytes, int adds) {
    size_t sent = 0, got = 0, held = 0;
    while (sent < out_bytes || got < in_bytes) {
        int moved = 0;
        ssize_t n;
        if (got < in_bytes) {
            const size_t left = in_bytes - got, room = adds ? PIECE - held : PIECE;
            n = recv(before, adds ? piece + held : in + got, left - held < room ? left - held : room, MSG_DONTWAIT);
            must(n > 0 || (n < 0 && errno == EAGAIN), "recv");
            if (n > 0 && !adds) got += (size_t)n;
            if (n > 0 && adds) {
                const size_t whole = (held += (size_t)n) / sizeof(float) * sizeof(float);
                add((float *)(void *)(in + got), (const float *)(void *)piece, whole / sizeof(float));
                got += whole;
                held -= whole;
                memmove(piece, piece + whole, held);
            }
            moved |= n > 0;
        }
        if (sent < out_bytes) {
            n = send(next, out + sent, out_bytes - sent < PIECE ? out_bytes - sent : PIECE, MSG_DONTWAIT | MSG_NOSIGNAL);
            must(n > 0 || errno == EAGAIN, "send");
            if (n > 0) sent += (size_t)n;
            moved |= n > 0;
        }
        if (!moved) {
            struct pollfd f[2] = {{before, (short)(got < in_bytes ? POLLIN : 0), 0},
                                  {next, (short)(sent < out_bytes ? POLLOUT : 0), 0}};
            must(poll(f, 2, -1) > 0, "poll");
        }
    }
}

static size_t least(size_t a, size_t b) { return a < b ? a : b; }

static void all_reduce(float *x, size_t count) {
    const size_t unit = (count + (size_t)ranks - 1) / (size_t)ranks;
    int step;
    for (step = 0; step < 2 * (ranks - 1); step++) {
        const int adds = step < ranks - 1;
        /* adding: rank r begins with share r; keeping: with share r + 1, which it has added up last */
        const int out = (rank + (adds ? -step : ranks - step) + 2 * ranks) % ranks, in = (out + ranks - 1) % ranks;
        const size_t out_lo = least((size_t)out * unit, count), out_hi = least((size_t)(out + 1) * unit, count);
        const size_t in_lo = least((size_t)in * unit, count), in_hi = least((size_t)(in + 1) * unit, count);
        exchange((const char *)(x + out_lo), (out_hi - out_lo) * sizeof *x, (char *)(x + in_lo),
                 (in_hi - in_lo) * sizeof *x, adds);
    }
}

static void barrier(void) {
    float x[MOST_RANKS] = {0};
    all_reduce(x, (size_t)ranks); /* shares that are not empty: all hear of all */
}

int main(int argc, char **argv) {
    char line[SERVE_LINE];
    serve s;
    if (argc != 3) return 2;
    memset(&s, 0, sizeof s);
    s.rank = rank = atoi(argv[1]);
    ring_join(argv[2]);
    s.ranks = ranks;
    s.hello = "a ring of plain sockets";
    s.all_reduce = all_reduce;
    s.barrier = barrier;
    place(rank, ranks);
    while (fgets(line, sizeof line, stdin) && serve_command(&s, line)) continue;
    free(s.x);
    return 0;
}
