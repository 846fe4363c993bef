/* SPDX-License-Identifier: MIT
 * weft_tcp.h: it keeps the contract of transport.h, and takes nothing from whoever does not belong. All workers live in
 * this process and are driven in turn, over real sockets of this machine. */
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

/* Ports that nobody listens at. */
static void find_ports(uint32_t n) {
    int fd[MOST];
    uint32_t i;
    list[0] = 0;
    for (i = 0; i < n; i++) {
        struct sockaddr_in a;
        socklen_t bytes = sizeof a;
        memset(&a, 0, sizeof a);
        a.sin_family = AF_INET;
        a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        fd[i] = socket(AF_INET, SOCK_STREAM, 0);
        ck_assert_int_eq(bind(fd[i], (struct sockaddr *)(void *)&a, sizeof a), 0);
        ck_assert_int_eq(getsockname(fd[i], (struct sockaddr *)(void *)&a, &bytes), 0);
        port[i] = ntohs(a.sin_port);
        sprintf(list + strlen(list), "127.0.0.1:%u\n", port[i]);
    }
    for (i = 0; i < n; i++) close(fd[i]);
}

static weft_tcp_options options_of(uint32_t rank) {
    weft_tcp_options o;
    memset(&o, 0, sizeof o);
    o.rank = rank;
    o.peers = list;
    o.linger_ns = 1; /* nobody else is driven meanwhile */
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
    while (!all_up()) pump_all();
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
    ck_assert_uint_eq(tcp[1].link[0].early_bytes, 1);
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

/* Half of a message has been written when its send is cancelled: it comes as a whole, and the next one as well. */
START_TEST(cancelled_in_the_middle) {
    static unsigned char from[8000000], to[8000000];
    weft_request a, b, c, d;
    unsigned char word = 3, got = 0;
    start_all(2, 0);
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
    ck_assert_int_eq(post_send(1, 0, 3, &fresh, 1, &a), WEFT_OK);
    ck_assert_int_eq(post_recv(0, 1, 3, &got, 1, &b), WEFT_OK);
    ck_assert_int_eq(finish(0, &b), WEFT_OK);
    ck_assert_uint_eq(got, 2);
    ck_assert_int_eq(finish(1, &a), WEFT_OK);
    close_all();
}
END_TEST

/* ---- hostile bytes ---- */

static int dial(uint32_t rank) {
    struct sockaddr_in a;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    memset(&a, 0, sizeof a);
    a.sin_family = AF_INET;
    a.sin_port = htons((uint16_t)port[rank]);
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    ck_assert_int_eq(connect(fd, (struct sockaddr *)(void *)&a, sizeof a), 0);
    return fd;
}

/* Has the other end hung up? */
static int is_hung_up(int fd) {
    char c;
    const ssize_t n = recv(fd, &c, 1, MSG_DONTWAIT);
    return n == 0 || (n < 0 && errno == ECONNRESET);
}

/* A hello of worker 1 that would be taken, but for a change of one byte somewhere. */
START_TEST(strangers_are_turned_away) {
    unsigned char hello[WEFT_TCP_HEAD + WEFT_TCP_HELLO_BYTES], bad[sizeof hello];
    weft_tcp_options o;
    const size_t flags = WEFT_TCP_HEAD + 12;
    size_t i;
    find_ports(2);
    workers = 1;
    start(0, 0, 0);
    o = options_of(1);
    weft_tcp_blank(&tcp[1]);
    tcp[1].options = o;
    ck_assert_int_eq(weft_tcp_read_list(&tcp[1], list), WEFT_OK);
    weft_tcp_hello(&tcp[1], 0, hello);
    for (i = 0; i < WEFT_TCP_HEAD + 24; i++) {
        int fd;
        if (i >= flags && i < flags + 4) continue;
        memcpy(bad, hello, sizeof bad);
        bad[i] ^= 0x40;
        fd = dial(0);
        ck_assert_int_eq(send(fd, bad, sizeof bad, 0), sizeof bad);
        while (tcp[0].refused <= i - (i > flags ? 4 : 0)) weft_tcp_pump(&tcp[0], 0);
        ck_assert_int_eq(tcp[0].link[1].state, WEFT_TCP_DOWN);
        while (!is_hung_up(fd)) weft_tcp_pump(&tcp[0], 0);
        close(fd);
    }
    { /* many who say nothing do not keep out the one who does */
        int fd[3 * WEFT_TCP_GUESTS], k;
        for (k = 0; k < 3 * WEFT_TCP_GUESTS; k++) {
            fd[k] = dial(0);
            weft_tcp_pump(&tcp[0], 0);
        }
        k = dial(0);
        ck_assert_int_eq(send(k, hello, sizeof hello, 0), sizeof hello);
        while (tcp[0].link[1].state != WEFT_TCP_UP) weft_tcp_pump(&tcp[0], 0);
        close(k);
        for (k = 0; k < 3 * WEFT_TCP_GUESTS; k++) close(fd[k]);
    }
    workers = 2;
    close_all();
}
END_TEST

/* After a hello that is sound: frames that are not. Each ends the connection, and nothing else. */
START_TEST(frames_that_are_none) {
    unsigned char hello[WEFT_TCP_HEAD + WEFT_TCP_HELLO_BYTES], frame[WEFT_TCP_HEAD + 64];
    unsigned char got[8];
    weft_request q;
    weft_tcp_options o;
    size_t bytes = WEFT_TCP_HEAD;
    int fd;
    find_ports(2);
    workers = 1;
    start(0, 0, _i >= 6);
    o = options_of(1);
    weft_tcp_blank(&tcp[1]);
    tcp[1].options = o;
    ck_assert_int_eq(weft_tcp_read_list(&tcp[1], list), WEFT_OK);
    weft_tcp_hello(&tcp[1], 0, hello);
    memset(frame, 0, sizeof frame);
    switch (_i) {
    case 0: weft_tcp_head(&tcp[1], frame, 77, 0, 1, 1); break;                                /* of no kind */
    case 1: weft_tcp_head(&tcp[1], frame, WEFT_TCP_DATA, 0, 40000, 1); break;                 /* of no tag */
    case 2: weft_tcp_head(&tcp[1], frame, WEFT_TCP_DATA, 0, 1, UINT64_MAX); break;            /* too long */
    case 3: weft_tcp_head(&tcp[1], frame, WEFT_TCP_DATA, 0, 1, WEFT_TCP_EAGER + 1); break;    /* without leave */
    case 4: weft_tcp_head(&tcp[1], frame, WEFT_TCP_DATA, WEFT_TCP_SUM, 1, 1); break;          /* not agreed on */
    case 5: weft_tcp_head(&tcp[1], frame, WEFT_TCP_DATA, 0, 1, 1), frame[9] ^= 1; break;      /* damaged */
    case 6: weft_tcp_head(&tcp[1], frame, WEFT_TCP_DATA, 0, 1, 1); break;                     /* without a checksum */
    default: weft_tcp_head(&tcp[1], frame, WEFT_TCP_DATA, WEFT_TCP_SUM, 1, 8), bytes += 12;   /* with a wrong one */
    }
    fd = dial(0);
    ck_assert_int_eq(send(fd, hello, sizeof hello, 0), sizeof hello);
    while (tcp[0].link[1].state != WEFT_TCP_UP) weft_tcp_pump(&tcp[0], 0);
    ck_assert_int_eq(post_recv(0, 1, 1, got, sizeof got, &q), WEFT_OK);
    ck_assert_int_eq(send(fd, frame, bytes, 0), (int)bytes);
    ck_assert_int_eq(finish(0, &q), WEFT_ERR_PEER_LOST);
    ck_assert_int_eq(tcp[0].link[1].trouble, EPROTO);
    close(fd);
    workers = 2;
    close_all();
}
END_TEST

/* ---- lists of workers, and errors ---- */

START_TEST(lists) {
    static const struct {
        const char *text;
        int workers; /* or minus the line that is none */
    } c[] = {
        {"127.0.0.1:1", 1},
        {"# all\n\n a:1 # one\n\tb:65535\r\n[::1]:9", 3},
        {"a:1,b:2,c:3", 3},
        {"a:1\nb\n", -2},
        {"a:1\nb:\n", -2},
        {"a:0", -1},
        {"a:65536", -1},
        {"a:1x", -1},
        {":5", -1},
        {"::1:5", -1},
        {"a:1\n\n\nb:123456", -4},
    };
    size_t i;
    for (i = 0; i < sizeof c / sizeof *c; i++) {
        weft_tcp t;
        weft_status s;
        weft_tcp_blank(&t);
        s = weft_tcp_read_list(&t, c[i].text);
        if (c[i].workers > 0) {
            ck_assert_int_eq(s, WEFT_OK);
            ck_assert_uint_eq(t.size, (unsigned)c[i].workers);
        } else {
            char line[32];
            ck_assert_int_eq(s, WEFT_ERR_ARGUMENT);
            sprintf(line, "line %d:", -c[i].workers);
            if (!strstr(t.why, line)) ck_abort_msg("%s: %s", c[i].text, t.why);
        }
        weft_tcp_close(&t);
    }
}
END_TEST

static void check_refused(const char *text, uint32_t rank, weft_status expected, const char *word) {
    weft_tcp_options o;
    memset(&o, 0, sizeof o);
    o.rank = rank;
    o.peers = text;
    ck_assert_int_eq(weft_tcp_open(&tcp[0], &net[0], &o), expected);
    if (!strstr(tcp[0].why, word)) ck_abort_msg("\"%s\" does not say \"%s\"", tcp[0].why, word);
}

START_TEST(errors_say_what_they_mean) {
    char text[64];
    check_refused("127.0.0.1:1\n127.0.0.1:2\n", 2, WEFT_ERR_ARGUMENT, "rank 2: the list of peers has 2");
    check_refused("10.1.2.3:4", 0, WEFT_ERR_TRANSPORT, "WEFT_TCP_PLAINTEXT_ON_ANY_NETWORK");
    check_refused("0.0.0.0:4", 0, WEFT_ERR_TRANSPORT, "WEFT_TCP_PLAINTEXT_ON_ANY_NETWORK");
    find_ports(2);
    workers = 1;
    start(0, 0, 0);
    sprintf(text, "127.0.0.1:%u", port[0]);
    { /* somebody else listens there */
        weft_tcp other;
        weft_transport unused;
        weft_tcp_options o = options_of(0);
        ck_assert_int_eq(weft_tcp_open(&other, &unused, &o), WEFT_ERR_TRANSPORT);
        ck_assert(strstr(other.why, text) != NULL);
    }
    tcp[0].options.connect_ns = 1;
    ck_assert_int_eq(weft_tcp_join(&tcp[0]), WEFT_ERR_TIMEOUT);
    sprintf(text, "worker 1 (127.0.0.1:%u): it has not connected", port[1]);
    if (!strstr(tcp[0].why, text)) ck_abort_msg("%s", tcp[0].why);
    close_all();
}
END_TEST

/* The checksum by table and by instruction are one. */
/* Looking at one request moves all: what another one's test has brought to its end must not be slept over, and who looks
 * at many in turn has the links moved once a turn. */
START_TEST(waits_and_turns) {
    unsigned char a[8], b[8], c[8];
    weft_request first, second, other;
    uint64_t ended, pumps;
    int turn;
    start_all(2, 0);
    fill(c, sizeof c, 3);
    ck_assert_int_eq(post_recv(1, 0, 1, a, sizeof a, &first), WEFT_OK);
    ck_assert_int_eq(post_recv(1, 0, 2, b, sizeof b, &second), WEFT_OK);
    ck_assert_int_eq(net[1].test(net[1].ctx, &second), WEFT_AGAIN);
    for (turn = 0; turn < 10; turn++) {
        pumps = tcp[1].pumps;
        ck_assert_int_eq(net[1].test(net[1].ctx, &first), WEFT_AGAIN);
        ck_assert_int_eq(net[1].test(net[1].ctx, &second), WEFT_AGAIN);
        if (turn) ck_assert_uint_eq(tcp[1].pumps, pumps + 1);
    }
    net[1].wait(net[1].ctx, 0);
    ended = tcp[1].ended;
    ck_assert_int_eq(post_send(0, 1, 2, c, sizeof c, &other), WEFT_OK);
    while (tcp[1].ended == ended) {
        weft_tcp_pump(&tcp[0], 0);
        ck_assert_int_eq(net[1].test(net[1].ctx, &first), WEFT_AGAIN);
    }
    pumps = tcp[1].pumps;
    net[1].wait(net[1].ctx, UINT64_MAX);
    ck_assert_uint_eq(tcp[1].pumps, pumps);
    ck_assert_int_eq(net[1].test(net[1].ctx, &second), WEFT_OK);
    ck_assert_mem_eq(b, c, sizeof c);
    net[1].wait(net[1].ctx, 0); /* there is no news any more, and no time: it looks, or not, but does not sleep */
    net[1].cancel(net[1].ctx, &first);
    ck_assert_int_eq(finish(0, &other), WEFT_OK);
    close_all();
}
END_TEST

START_TEST(checksums) {
    static weft_tcp t;
    unsigned char p[300];
    size_t n;
    weft_tcp_make_table(&t);
    ck_assert_uint_eq(weft_tcp_crc(&t, 0, (const unsigned char *)"123456789", 9), 0xE3069283u);
    fill(p, sizeof p, 5);
    for (n = 0; n < sizeof p; n++) {
        const uint32_t whole = weft_crc32c(0, p, n);
        ck_assert_uint_eq(weft_tcp_crc(&t, 0, p, n), whole);
        ck_assert_uint_eq(weft_tcp_crc(&t, weft_tcp_crc(&t, 0, p, n / 3), p + n / 3, n - n / 3), whole);
    }
}
END_TEST

int main(void) {
    Suite *s = suite_create("tcp");
    TCase *t = tcase_create("contract");
    SRunner *r;
    int failed;
    tcase_set_timeout(t, 120);
    tcase_add_loop_test(t, contract, 0, 6);
    tcase_add_loop_test(t, lengths, 0, 2);
    tcase_add_test(t, long_messages_wait_where_they_are);
    tcase_add_test(t, cancelled_in_the_middle);
    tcase_add_test(t, waits_and_turns);
    suite_add_tcase(s, t);
    t = tcase_create("loss");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, a_worker_dies_and_comes_again);
    tcase_add_test(t, old_messages_do_not_outlive_their_sender);
    suite_add_tcase(s, t);
    t = tcase_create("hostile");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, strangers_are_turned_away);
    tcase_add_loop_test(t, frames_that_are_none, 0, 8);
    tcase_add_test(t, lists);
    tcase_add_test(t, errors_say_what_they_mean);
    tcase_add_test(t, checksums);
    suite_add_tcase(s, t);
    r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
