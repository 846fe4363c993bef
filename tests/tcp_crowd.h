/* SPDX-License-Identifier: MIT
 * tcp_crowd.h: workers of weft_tcp.h that all live in this process and are driven in turn, over real sockets of this
 * machine; and what must hold with TLS and without. */
#ifndef TCP_CROWD_H
#define TCP_CROWD_H

#define GRAWA_IMPLEMENTATION
#include "../grawa.h"
#include "transports/weft_tcp.h"

#include <check.h>

enum { MOST = 6 };

static char list[MOST * 32];
static unsigned port[MOST];
static weft_tcp tcp[MOST];
static weft_transport net[MOST];
static uint32_t workers;
static const char *folder; /* of certificates; NULL: plaintext */

/* The address of worker `rank`. Each process has a loopback address of its own, so that no other one takes a port that
 * this one has found; on a system that has only one all share it. */
static struct sockaddr_in address_of(uint32_t rank) {
    static uint32_t own;
    struct sockaddr_in a;
    memset(&a, 0, sizeof a);
    a.sin_family = AF_INET;
    if (!own) {
        const int fd = socket(AF_INET, SOCK_STREAM, 0);
        own = 0x7F400000u | ((uint32_t)getpid() & 0x3FFFFFu);
        a.sin_addr.s_addr = htonl(own);
        if (bind(fd, (struct sockaddr *)(void *)&a, sizeof a) != 0) own = INADDR_LOOPBACK;
        close(fd);
    }
    a.sin_addr.s_addr = htonl(own);
    a.sin_port = htons((uint16_t)port[rank]);
    return a;
}

/* As messages have it: "127.64.3.9:10001". */
static const char *name_of(uint32_t rank) {
    static char name[32];
    const struct sockaddr_in a = address_of(rank);
    const uint32_t at = ntohl(a.sin_addr.s_addr);
    sprintf(name, "%u.%u.%u.%u:%u", (unsigned)(at >> 24), (unsigned)(at >> 16 & 255u), (unsigned)(at >> 8 & 255u),
            (unsigned)(at & 255u), (unsigned)ntohs(a.sin_port));
    return name;
}

/* Ports that nobody listens at: below those that the system gives to whoever connects. */
static void find_ports(uint32_t n) {
    static unsigned next;
    int fd[MOST];
    uint32_t i;
    list[0] = 0;
    for (i = 0; i < n; i++) {
        struct sockaddr_in a;
        fd[i] = socket(AF_INET, SOCK_STREAM, 0);
        do {
            port[i] = 10000 + ((unsigned)getpid() * 61 + next++) % 20000;
            a = address_of(i);
        } while (bind(fd[i], (struct sockaddr *)(void *)&a, sizeof a) != 0 && next < 20000);
        sprintf(list + strlen(list), "%s\n", name_of(i));
    }
    for (i = 0; i < n; i++) close(fd[i]);
}

static weft_tcp_options options_of(uint32_t rank) {
    weft_tcp_options o;
    memset(&o, 0, sizeof o);
    o.rank = rank;
    o.peers = list;
    o.linger_ns = 1; /* nobody else is driven meanwhile */
    o.tls_folder = folder;
    return o;
}

static void pump_all(void) {
    uint32_t i;
    for (i = 0; i < workers; i++)
        if (tcp[i].size) weft_tcp_pump(&tcp[i], 0);
}

static int all_up(void) {
    uint32_t i, j;
    for (i = 0; i < workers; i++)
        for (j = 0; tcp[i].size && j < workers; j++)
            if (i != j && tcp[j].size && tcp[i].link[j].state != WEFT_TCP_UP) return 0;
    return 1;
}

static void start(uint32_t rank, int again, int sums) {
    weft_tcp_options o = options_of(rank);
    o.again = again;
    o.checksums = sums;
    if (weft_tcp_open(&tcp[rank], &net[rank], &o) != WEFT_OK) ck_abort_msg("%s", tcp[rank].why);
}

static void start_all(uint32_t n, int sums) {
    uint32_t i;
    find_ports(n);
    workers = n;
    for (i = 0; i < n; i++) start(i, 0, sums);
    while (!all_up()) {
        pump_all();
        for (i = 0; i < n; i++)
            if (tcp[i].refused) ck_abort_msg("%u: %s", i, tcp[i].refusal);
    }
    for (i = 0; i < n; i++) ck_assert_int_eq(weft_tcp_join(&tcp[i]), WEFT_OK);
}

static void close_all(void) {
    uint32_t i;
    for (i = 0; i < workers; i++) weft_tcp_close(&tcp[i]);
}

/* Until a request is over. */
static weft_status finish(uint32_t rank, weft_request *q) {
    weft_status s;
    while ((s = net[rank].test(net[rank].ctx, q)) == WEFT_AGAIN) pump_all();
    return s;
}

static weft_status post_send(uint32_t rank, uint32_t to, uint32_t tag, const void *p, size_t n, weft_request *q) {
    memset(q, 0, sizeof *q);
    return net[rank].send(net[rank].ctx, to, tag, p, n, q);
}

static weft_status post_recv(uint32_t rank, uint32_t from, uint32_t tag, void *p, size_t n, weft_request *q) {
    memset(q, 0, sizeof *q);
    return net[rank].recv(net[rank].ctx, from, tag, p, n, q);
}

static void fill(unsigned char *p, size_t n, unsigned seed) {
    size_t i;
    for (i = 0; i < n; i++) p[i] = (unsigned char)((i * 2654435761u + seed) >> 7);
}

static int dial(uint32_t rank) {
    const struct sockaddr_in a = address_of(rank);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    ck_assert_int_eq(connect(fd, (const struct sockaddr *)(const void *)&a, sizeof a), 0);
    return fd;
}

/* Has the other end hung up? */
static int is_hung_up(int fd) {
    char c;
    const ssize_t n = recv(fd, &c, 1, MSG_DONTWAIT);
    return n == 0 || (n < 0 && errno == ECONNRESET);
}

/* ---- the contract ---- */

static const uint32_t sizes[] = {2, 3, 5};

START_TEST(contract) {
    static weft_selftest st[MOST];
    weft_selftest_report r[MOST];
    const uint32_t n = sizes[_i / 2];
    uint32_t i, left = n;
    weft_status s[MOST];
    start_all(n, _i % 2);
    memset(st, 0, sizeof st);
    for (i = 0; i < n; i++) {
        s[i] = WEFT_AGAIN;
        st[i].memory_bytes = 1u << 20;
        st[i].memory = malloc(st[i].memory_bytes);
    }
    while (left)
        for (i = 0; i < n; i++) {
            if (s[i] != WEFT_AGAIN) continue;
            s[i] = weft_transport_selftest(&net[i], &st[i], 0, &r[i]);
            if (s[i] == WEFT_AGAIN) continue;
            left--;
            if (s[i] != WEFT_OK)
                ck_abort_msg("%u: %s (peer %u, tag %u, step %u)", i, r[i].text, r[i].peer, r[i].tag, r[i].step);
        }
    for (i = 0; i < n; i++) {
        ck_assert_uint_gt(r[i].checks, 200);
        free(st[i].memory);
    }
    close_all();
}
END_TEST

/* Lengths around what goes at once, and around what moves at a time; receives posted before and after. */
START_TEST(lengths) {
    static const size_t length[] = {0, 1, 16383, 16384, 16385, 65535, 65536, 65537, 262143, 262144, 262145, 3000001};
    static unsigned char from[3000001], to[3000001 + 1];
    size_t i;
    int late;
    start_all(2, _i);
    for (i = 0; i < sizeof length / sizeof *length; i++)
        for (late = 0; late < 2; late++) {
            weft_request a, b;
            fill(from, length[i], (unsigned)i * 2 + (unsigned)late);
            memset(to, 0, sizeof to);
            if (!late) ck_assert_int_eq(post_recv(1, 0, 9, to, length[i], &b), WEFT_OK);
            ck_assert_int_eq(post_send(0, 1, 9, from, length[i], &a), WEFT_OK);
            pump_all();
            if (late) ck_assert_int_eq(post_recv(1, 0, 9, to, length[i] + 1, &b), WEFT_OK);
            ck_assert_int_eq(finish(1, &b), WEFT_OK);
            ck_assert_int_eq(finish(0, &a), WEFT_OK);
            ck_assert_uint_eq(b.bytes, length[i]);
            if (memcmp(from, to, length[i]) != 0 || to[length[i]] != 0) ck_abort_msg("length %zu", length[i]);
        }
    close_all();
}
END_TEST

/* A long message waits at its sender, not at the receiver, until there is a receive for it. */
START_TEST(long_messages_wait_where_they_are) {
    static unsigned char from[1000000], to[1000000];
    unsigned char word = 7, got = 0;
    weft_request a, b, c, d;
    int i;
    start_all(2, 0);
    fill(from, sizeof from, 1);
    ck_assert_int_eq(post_send(0, 1, 5, from, sizeof from, &a), WEFT_OK);
    ck_assert_int_eq(post_send(0, 1, 6, &word, 1, &b), WEFT_OK);
    for (i = 0; i < 200; i++) pump_all();
    ck_assert_uint_lt(tcp[0].sent, 1000);
    ck_assert_uint_eq(tcp[1].link[0].early_bytes, 1 + WEFT_TCP_KEEP);
    ck_assert_int_eq(net[0].test(net[0].ctx, &a), WEFT_AGAIN);
    ck_assert_int_eq(post_recv(1, 0, 6, &got, 1, &d), WEFT_OK);
    ck_assert_int_eq(finish(1, &d), WEFT_OK);
    ck_assert_int_eq(finish(0, &b), WEFT_OK);
    ck_assert_uint_eq(got, 7);
    /* a receive that is too short, too, lets it come */
    ck_assert_int_eq(post_recv(1, 0, 5, to, 100, &c), WEFT_OK);
    ck_assert_int_eq(finish(1, &c), WEFT_ERR_TRUNCATED);
    ck_assert_uint_eq(c.bytes, sizeof from);
    ck_assert_int_eq(finish(0, &a), WEFT_OK);
    close_all();
}
END_TEST

/* Long messages, all four to and fro under way together. */
START_TEST(both_ways_at_once) {
    enum { LONG = 5000000, EACH = 2 };
    static unsigned char from[2][EACH][LONG], to[2][EACH][LONG];
    weft_request sent[2][EACH], got[2][EACH];
    uint32_t i, k;
    start_all(2, 0);
    for (i = 0; i < 2; i++)
        for (k = 0; k < EACH; k++) {
            fill(from[i][k], LONG, i * 7 + k);
            ck_assert_int_eq(post_send(i, 1 - i, k, from[i][k], LONG - k, &sent[i][k]), WEFT_OK);
            ck_assert_int_eq(post_recv(i, 1 - i, k, to[i][k], LONG, &got[i][k]), WEFT_OK);
        }
    for (k = 0; k < EACH; k++)
        for (i = 0; i < 2; i++) {
            ck_assert_int_eq(finish(i, &got[i][k]), WEFT_OK);
            ck_assert_int_eq(finish(1 - i, &sent[1 - i][k]), WEFT_OK);
            ck_assert_uint_eq(got[i][k].bytes, LONG - k);
            ck_assert_int_eq(memcmp(to[i][k], from[1 - i][k], LONG - k), 0);
        }
    close_all();
}
END_TEST

/* A long message waits for its receive, and a short one behind it on the tag: taking back the long one lets the other
 * go, at once. */
START_TEST(cancelled_before_others) {
    static unsigned char from[100000];
    unsigned char got = 0;
    weft_request a, b, c;
    int i;
    start_all(2, 0);
    from[0] = 9;
    ck_assert_int_eq(post_send(0, 1, 5, from, sizeof from, &a), WEFT_OK);
    ck_assert_int_eq(post_send(0, 1, 5, from, 1, &b), WEFT_OK);
    for (i = 0; i < 20; i++) pump_all();
    ck_assert_int_eq(((weft_tcp_op *)b.word[0])->over, 0);
    net[0].cancel(net[0].ctx, &a);
    ck_assert_int_eq(((weft_tcp_op *)b.word[0])->over, 1);
    ck_assert_int_eq(post_recv(1, 0, 5, &got, 1, &c), WEFT_OK);
    ck_assert_int_eq(finish(1, &c), WEFT_OK);
    ck_assert_int_eq(finish(0, &b), WEFT_OK);
    ck_assert_uint_eq(got, 9);
    close_all();
}
END_TEST

/* Half of a message has been written when its send is cancelled: it comes as a whole, and the next one as well. */
START_TEST(cancelled_in_the_middle) {
    static unsigned char from[8000000], to[8000000];
    weft_request a, b, c, d;
    unsigned char word = 3, got = 0;
    start_all(2, 0);
    /* or the system might have room for the whole of it */
    weft_tcp_set(tcp[0].link[1].wire.fd, SOL_SOCKET, SO_SNDBUF, 65536);
    weft_tcp_set(tcp[1].link[0].wire.fd, SOL_SOCKET, SO_RCVBUF, 65536);
    fill(from, sizeof from, 2);
    ck_assert_int_eq(post_recv(1, 0, 5, to, sizeof to, &b), WEFT_OK);
    weft_tcp_pump(&tcp[1], 0);
    ck_assert_int_eq(post_send(0, 1, 5, from, sizeof from, &a), WEFT_OK);
    while (!(tcp[0].link[1].out.busy && tcp[0].link[1].out.op)) weft_tcp_pump(&tcp[0], 0);
    ck_assert_uint_lt(tcp[0].sent, sizeof from);
    net[0].cancel(net[0].ctx, &a);
    memset(from, 0, sizeof from);
    ck_assert_int_eq(post_send(0, 1, 6, &word, 1, &c), WEFT_OK);
    ck_assert_int_eq(post_recv(1, 0, 6, &got, 1, &d), WEFT_OK);
    ck_assert_int_eq(finish(1, &d), WEFT_OK);
    ck_assert_int_eq(finish(1, &b), WEFT_OK);
    ck_assert_int_eq(finish(0, &c), WEFT_OK);
    fill(from, sizeof from, 2);
    ck_assert_int_eq(memcmp(from, to, sizeof to), 0);
    /* and a receive, whose buffer is then left alone, though the rest comes */
    ck_assert_int_eq(post_recv(1, 0, 5, to, sizeof to, &b), WEFT_OK);
    weft_tcp_pump(&tcp[1], 0);
    ck_assert_int_eq(post_send(0, 1, 5, from, sizeof from, &a), WEFT_OK);
    while (!(tcp[1].link[0].in.busy && tcp[1].link[0].in.op)) pump_all();
    net[1].cancel(net[1].ctx, &b);
    memset(to, 0xA5, sizeof to);
    ck_assert_int_eq(finish(0, &a), WEFT_OK);
    ck_assert_int_eq(post_send(0, 1, 6, &word, 1, &c), WEFT_OK);
    ck_assert_int_eq(post_recv(1, 0, 6, &got, 1, &d), WEFT_OK);
    ck_assert_int_eq(finish(1, &d), WEFT_OK);
    {
        size_t i;
        for (i = 0; i < sizeof to && to[i] == 0xA5; i++) continue;
        ck_assert_uint_eq(i, sizeof to);
    }
    ck_assert_int_eq(finish(0, &c), WEFT_OK);
    close_all();
}
END_TEST

/* ---- loss, and coming again ---- */

START_TEST(a_worker_dies_and_comes_again) {
    unsigned char word = 1, got[4] = {0};
    weft_request sent, q[3];
    uint32_t rank;
    int up;
    start_all(3, 0);
    /* what it sent before is still received; what it did not send is lost */
    ck_assert_int_eq(post_send(1, 0, 3, &word, 1, &sent), WEFT_OK);
    ck_assert_int_eq(finish(1, &sent), WEFT_OK);
    ck_assert_int_eq(post_recv(0, 1, 4, got, 1, &q[0]), WEFT_OK);
    weft_tcp_close(&tcp[1]);
    ck_assert_int_eq(finish(0, &q[0]), WEFT_ERR_PEER_LOST);
    ck_assert_int_eq(tcp[0].link[1].trouble, 0); /* it said good-bye */
    ck_assert_str_eq(tcp[0].link[1].words, "");
    ck_assert_int_eq(post_recv(0, 1, 3, got, 1, &q[1]), WEFT_OK);
    ck_assert_int_eq(finish(0, &q[1]), WEFT_OK);
    ck_assert_uint_eq(got[0], 1);
    ck_assert_int_eq(post_recv(0, 1, 3, got, 1, &q[1]), WEFT_ERR_PEER_LOST);
    ck_assert_int_eq(post_send(0, 1, 3, &word, 1, &q[1]), WEFT_ERR_PEER_LOST);
    ck_assert_int_eq(weft_tcp_news(&tcp[0], &rank, &up), 1);
    ck_assert_uint_eq(rank, 1);
    ck_assert_int_eq(up, 0);
    ck_assert_int_eq(weft_tcp_news(&tcp[0], &rank, &up), 0);
    /* the other two go on */
    ck_assert_int_eq(post_recv(0, 2, 1, got, 1, &q[0]), WEFT_OK);
    ck_assert_int_eq(post_send(2, 0, 1, &word, 1, &q[1]), WEFT_OK);
    ck_assert_int_eq(finish(0, &q[0]), WEFT_OK);
    ck_assert_int_eq(finish(2, &q[1]), WEFT_OK);
    start(1, 1, 0);
    while (!all_up()) pump_all();
    ck_assert_int_eq(weft_tcp_news(&tcp[0], &rank, &up), 1);
    ck_assert_int_eq(up, 1);
    ck_assert_int_eq(post_recv(0, 1, 3, got, 1, &q[0]), WEFT_OK);
    ck_assert_int_eq(post_send(1, 0, 3, &word, 1, &q[1]), WEFT_OK);
    ck_assert_int_eq(finish(0, &q[0]), WEFT_OK);
    ck_assert_int_eq(finish(1, &q[1]), WEFT_OK);
    close_all();
}
END_TEST

/* The host of a worker is told that another one went and came. */
static void hear(uint32_t who, uint32_t of) {
    uint32_t about;
    int up;
    ck_assert_int_eq(weft_tcp_news(&tcp[who], &about, &up), 1);
    ck_assert_uint_eq(about, of);
    ck_assert_int_eq(up, 0);
    ck_assert_int_eq(weft_tcp_news(&tcp[who], &about, &up), 1);
    ck_assert_uint_eq(about, of);
    ck_assert_int_eq(up, 1);
    ck_assert_int_eq(weft_tcp_news(&tcp[who], &about, &up), 0);
}

/* The connection breaks and comes again while nobody awaits anything: what is sent next is not taken for what came
 * before, on either side, until the host knows. twice: the second one, too. */
START_TEST(lives_are_not_mixed) {
    unsigned char first = 1, second = 2, got = 0;
    weft_request a, b;
    const int kept = _i & 1, twice = _i & 2;
    int turn;
    start_all(2, 0);
    ck_assert_int_eq(post_send(0, 1, 7, &first, 1, &a), WEFT_OK);
    ck_assert_int_eq(finish(0, &a), WEFT_OK);
    while (kept && !tcp[1].link[0].early_bytes) pump_all();
    if (kept) pump_all();
    for (turn = 0; turn <= (twice ? 1 : 0); turn++) {
        weft_tcp_drop(&tcp[1], &tcp[1].link[0], 0);
        weft_tcp_drop(&tcp[0], &tcp[0].link[1], 0);
        if (!turn && kept) { /* until it is back */
            ck_assert_int_eq(post_recv(1, 0, 7, &got, 1, &b), WEFT_OK);
            ck_assert_int_eq(finish(1, &b), WEFT_OK);
            ck_assert_uint_eq(got, 1);
            got = 0;
        }
        if (turn) break;
        while (!all_up()) pump_all();
        ck_assert_int_eq(post_send(0, 1, 7, &second, 1, &a), WEFT_ERR_PEER_LOST);
        hear(0, 1); /* the sender knows, the receiver does not */
        ck_assert_int_eq(post_send(0, 1, 7, &second, 1, &a), WEFT_OK);
        ck_assert_int_eq(finish(0, &a), WEFT_OK);
        while (!tcp[1].link[0].early_bytes) pump_all();
        pump_all();
        ck_assert_int_eq(post_recv(1, 0, 7, &got, 1, &b), WEFT_ERR_PEER_LOST);
        ck_assert_int_eq(post_recv(1, 0, 8, &got, 1, &b), WEFT_ERR_PEER_LOST);
        ck_assert_int_eq(post_send(1, 0, 8, &got, 1, &b), WEFT_ERR_PEER_LOST);
    }
    if (twice) {
        ck_assert_int_eq(post_recv(1, 0, 7, &got, 1, &b), WEFT_ERR_PEER_LOST);
        ck_assert_uint_eq(tcp[1].link[0].early_bytes, 0);
    } else {
        hear(1, 0);
        ck_assert_int_eq(post_recv(1, 0, 7, &got, 1, &b), WEFT_OK);
        ck_assert_int_eq(finish(1, &b), WEFT_OK);
        ck_assert_uint_eq(got, 2);
    }
    close_all();
}
END_TEST

/* Who has no request and only asks for news hears that the other one is back. */
START_TEST(news_without_requests) {
    uint32_t about;
    int up = 0;
    start_all(2, 0);
    weft_tcp_close(&tcp[1]);
    while (!weft_tcp_news(&tcp[0], &about, &up)) continue;
    ck_assert_int_eq(up, 0);
    start(1, 1, 0);
    while (!weft_tcp_news(&tcp[0], &about, &up)) weft_tcp_pump(&tcp[1], 0);
    ck_assert_int_eq(up, 1);
    close_all();
}
END_TEST

/* What came from a worker before it was started anew is not taken for what it sends afterwards. */
START_TEST(old_messages_do_not_outlive_their_sender) {
    unsigned char old = 1, fresh = 2, got = 0;
    weft_request a, b;
    start_all(2, 0);
    ck_assert_int_eq(post_send(1, 0, 3, &old, 1, &a), WEFT_OK);
    while (tcp[0].link[1].early_bytes == 0) pump_all();
    weft_tcp_close(&tcp[1]);
    start(1, 1, 0);
    while (tcp[0].link[1].state == WEFT_TCP_UP && !tcp[0].link[1].went) pump_all();
    while (!all_up()) pump_all();
    hear(0, 1);
    ck_assert_int_eq(post_send(1, 0, 3, &fresh, 1, &a), WEFT_OK);
    ck_assert_int_eq(post_recv(0, 1, 3, &got, 1, &b), WEFT_OK);
    ck_assert_int_eq(finish(0, &b), WEFT_OK);
    ck_assert_uint_eq(got, 2);
    ck_assert_int_eq(finish(1, &a), WEFT_OK);
    close_all();
}
END_TEST

/* Both connect, as workers that were started anew do, in any order: the link that comes up is not taken for an old one
 * when the lower rank's own attempt, long given up, is looked at. Each order of eight turns. */
START_TEST(both_connect) {
    int order, k, i, both = 0;
    workers = 2;
    for (order = 0; order < 256; order++) {
        find_ports(2);
        for (i = 0; i < 2; i++) start((uint32_t)i, 1, 0);
        for (k = 0; k < 8; k++) {
            weft_tcp_pump(&tcp[order >> k & 1], 0);
            both += tcp[0].link[1].wire.fd >= 0 && tcp[1].link[0].wire.fd >= 0 && !all_up();
        }
        while (!all_up()) pump_all();
        for (k = 0; k < 10; k++) pump_all();
        for (i = 0; i < 2; i++)
            if (tcp[i].link[1 - i].went || tcp[i].link[1 - i].state != WEFT_TCP_UP)
                ck_abort_msg("order %d: worker %d has lost the other", order, i);
        close_all();
    }
    ck_assert_int_gt(both, 256);
}
END_TEST

/* And where the news that the lower rank has given up comes late: its hello is there, its hanging up is not. */
START_TEST(late_attempt) {
    unsigned char hello[WEFT_TCP_HEAD + WEFT_TCP_HELLO_BYTES];
    static weft_tcp lower;
    int fd, k;
    if (folder) return; /* it would take a handshake of its own */
    start_all(2, 0);
    weft_tcp_blank(&lower);
    lower.options.rank = 0;
    ck_assert_int_eq(weft_tcp_read_list(&lower, list), WEFT_OK);
    weft_tcp_hello(&lower, 0, hello);
    fd = dial(1);
    ck_assert_int_eq((int)send(fd, hello, sizeof hello, 0), (int)sizeof hello);
    while (!is_hung_up(fd)) pump_all();
    close(fd);
    ck_assert_int_eq(tcp[1].link[0].state, WEFT_TCP_UP);
    ck_assert_int_eq(tcp[1].link[0].went, 0);
    /* much later: one that has hung up is still none */
    tcp[1].link[0].since_ns -= WEFT_TCP_MANNERS_NS + 1;
    fd = dial(1);
    ck_assert_int_eq((int)send(fd, hello, sizeof hello, 0), (int)sizeof hello);
    close(fd);
    for (k = 0; k < 10; k++) pump_all();
    ck_assert_int_eq(tcp[1].link[0].went, 0);
    /* but a link that has been there for long may be dead, and nobody have noticed */
    fd = dial(1);
    ck_assert_int_eq((int)send(fd, hello, sizeof hello, 0), (int)sizeof hello);
    while (!tcp[1].link[0].went) pump_all();
    ck_assert_int_eq(tcp[1].link[0].state, WEFT_TCP_UP);
    for (k = 0; k < 10; k++) pump_all();
    ck_assert(!is_hung_up(fd));
    close(fd);
    weft_tcp_close(&lower);
    close_all();
}
END_TEST


static Suite *contract_suite(void) {
    Suite *s = suite_create("contract");
    TCase *t = tcase_create("messages");
    tcase_set_timeout(t, 120);
    tcase_add_loop_test(t, contract, 0, 6);
    tcase_add_loop_test(t, lengths, 0, 2);
    tcase_add_test(t, long_messages_wait_where_they_are);
    tcase_add_test(t, both_ways_at_once);
    tcase_add_test(t, cancelled_in_the_middle);
    tcase_add_test(t, cancelled_before_others);
    suite_add_tcase(s, t);
    t = tcase_create("loss");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, a_worker_dies_and_comes_again);
    tcase_add_test(t, old_messages_do_not_outlive_their_sender);
    tcase_add_loop_test(t, lives_are_not_mixed, 0, 4);
    tcase_add_test(t, both_connect);
    tcase_add_test(t, late_attempt);
    suite_add_tcase(s, t);
    t = tcase_create("news");
    tcase_set_timeout(t, 20);
    tcase_add_test(t, news_without_requests);
    suite_add_tcase(s, t);
    return s;
}

#endif
