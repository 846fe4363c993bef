/* SPDX-License-Identifier: MIT
 * weft_tcp.h: it keeps the contract of transport.h, and takes nothing from whoever does not belong. */
#include "tcp_crowd.h"

/* ---- hostile bytes ---- */

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
        while (tcp[0].refused <= i - (i > flags ? 4 : 0) && tcp[0].link[1].state == WEFT_TCP_DOWN)
            weft_tcp_pump(&tcp[0], 0);
        ck_assert_int_eq(tcp[0].link[1].state, WEFT_TCP_DOWN);
        while (!is_hung_up(fd)) weft_tcp_pump(&tcp[0], 0);
        close(fd);
    }
    { /* many who say nothing do not keep out the one who does */
        const uint64_t before = tcp[0].refused;
        enum { SILENT = 3 * WEFT_TCP_GUESTS };
        int fd[SILENT], k;
        for (k = 0; k < SILENT; k++) {
            fd[k] = dial(0);
            weft_tcp_pump(&tcp[0], 0);
        }
        k = dial(0);
        ck_assert_int_eq(send(k, hello, sizeof hello, 0), sizeof hello);
        while (tcp[0].link[1].state != WEFT_TCP_UP) weft_tcp_pump(&tcp[0], 0);
        close(k);
        ck_assert_uint_eq(tcp[0].refused, before + SILENT + 1 - tcp[0].guests);
        ck_assert(is_hung_up(fd[0]) && is_hung_up(fd[1]));
        for (k = 0; k < SILENT; k++) close(fd[k]);
    }
    workers = 2;
    close_all();
}
END_TEST

/* After a hello that is sound: frames that are not. Each ends the connection, and nothing else. */
START_TEST(frames_that_are_none) {
    static unsigned char frame[2 * WEFT_TCP_HEAD + WEFT_TCP_EAGER + 1], got[2 * WEFT_TCP_EAGER];
    unsigned char hello[WEFT_TCP_HEAD + WEFT_TCP_HELLO_BYTES];
    const int long_ones = _i == 6 || _i == 7; /* one long message may come */
    weft_request q;
    weft_tcp_options o;
    size_t bytes = WEFT_TCP_HEAD;
    int fd;
    find_ports(2);
    workers = 1;
    start(0, 0, _i >= 9);
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
    case 6: weft_tcp_head(&tcp[1], frame, WEFT_TCP_DATA, 0, 1, WEFT_TCP_LONGEST + 1); break;  /* too long, with leave */
    case 7: /* leave is for one */
        weft_tcp_head(&tcp[1], frame, WEFT_TCP_DATA, 0, 1, WEFT_TCP_EAGER + 1);
        bytes = sizeof frame;
        weft_tcp_head(&tcp[1], frame + bytes - WEFT_TCP_HEAD, WEFT_TCP_DATA, 0, 1, WEFT_TCP_EAGER + 1);
        break;
    case 8: weft_tcp_head(&tcp[1], frame, WEFT_TCP_ROOM, 0, 1, 1); break;                     /* leave with a length */
    case 9: weft_tcp_head(&tcp[1], frame, WEFT_TCP_DATA, 0, 1, 1); break;                     /* without a checksum */
    default: weft_tcp_head(&tcp[1], frame, WEFT_TCP_DATA, WEFT_TCP_SUM, 1, 8), bytes += 12;   /* with a wrong one */
    }
    fd = dial(0);
    ck_assert_int_eq(send(fd, hello, sizeof hello, 0), sizeof hello);
    while (tcp[0].link[1].state != WEFT_TCP_UP) weft_tcp_pump(&tcp[0], 0);
    ck_assert_int_eq(post_recv(0, 1, 1, got, long_ones ? sizeof got : 8, &q), WEFT_OK);
    ck_assert_int_eq(send(fd, frame, bytes, 0), (int)bytes);
    ck_assert_int_eq(shutdown(fd, SHUT_WR), 0); /* if the frame were one, this would be the end */
    ck_assert_int_eq(finish(0, &q), _i == 7 ? WEFT_OK : WEFT_ERR_PEER_LOST);
    while (tcp[0].link[1].state == WEFT_TCP_UP) weft_tcp_pump(&tcp[0], 0);
    ck_assert_int_eq(tcp[0].link[1].trouble, EPROTO);
    close(fd);
    workers = 2;
    close_all();
}
END_TEST

/* What comes without a receive is kept, but not for ever; and leave to send is not counted beyond its counter. */
START_TEST(kept_within_bounds) {
    static unsigned char frame[WEFT_TCP_HEAD + WEFT_TCP_EAGER];
    unsigned char hello[WEFT_TCP_HEAD + WEFT_TCP_HELLO_BYTES];
    const size_t bytes = _i ? WEFT_TCP_HEAD : sizeof frame;
    size_t at = 0, whole = 0;
    uint64_t most = 0;
    weft_tcp_link *l;
    int fd;
    find_ports(2);
    workers = 1;
    start(0, 0, 0);
    l = &tcp[0].link[1];
    weft_tcp_blank(&tcp[1]);
    tcp[1].options = options_of(1);
    ck_assert_int_eq(weft_tcp_read_list(&tcp[1], list), WEFT_OK);
    weft_tcp_hello(&tcp[1], 0, hello);
    fd = dial(0);
    ck_assert_int_eq(send(fd, hello, sizeof hello, 0), sizeof hello);
    while (l->state != WEFT_TCP_UP) weft_tcp_pump(&tcp[0], 0);
    weft_tcp_head(&tcp[1], frame, _i ? WEFT_TCP_ROOM : WEFT_TCP_DATA, 0, 1, _i ? 0 : WEFT_TCP_EAGER);
    while (l->state == WEFT_TCP_UP && whole <= WEFT_TCP_EARLY / WEFT_TCP_EAGER + (_i ? 65536 : 0)) {
        const ssize_t n = send(fd, frame + at, bytes - at, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n > 0) at += (size_t)n;
        if (at == bytes) {
            at = 0;
            whole++;
            /* each by itself, since a pump that takes in several and then refuses one does not show how far it came */
            while (!_i && l->state == WEFT_TCP_UP && l->early_bytes < whole * (WEFT_TCP_EAGER + WEFT_TCP_KEEP))
                weft_tcp_pump(&tcp[0], 0);
        }
        if (at || whole % 64 == 0) weft_tcp_pump(&tcp[0], 0);
        if (l->early_bytes > most) most = l->early_bytes;
    }
    shutdown(fd, SHUT_WR);
    while (l->state == WEFT_TCP_UP) weft_tcp_pump(&tcp[0], 0);
    ck_assert_int_eq(l->trouble, EPROTO);
    if (!_i) {
        ck_assert_uint_gt(most, WEFT_TCP_EARLY - WEFT_TCP_EAGER - WEFT_TCP_KEEP);
        ck_assert_uint_le(most, WEFT_TCP_EARLY);
        if (!strstr(l->words, "WEFT_TCP_EARLY")) ck_abort_msg("\"%s\" does not say why", l->words);
    }
    close(fd);
    workers = 2;
    close_all();
}
END_TEST

/* Messages without a byte take memory, too; and one that is cut off is not counted for ever. */
START_TEST(kept_without_bytes) {
    static unsigned char heads[4096 * WEFT_TCP_HEAD], all[WEFT_TCP_HEAD + 100];
    unsigned char hello[WEFT_TCP_HEAD + WEFT_TCP_HELLO_BYTES];
    uint64_t sent = 0;
    weft_tcp_link *l;
    int fd, i;
    find_ports(2);
    workers = 1;
    start(0, 0, 0);
    l = &tcp[0].link[1];
    weft_tcp_blank(&tcp[1]);
    tcp[1].options = options_of(1);
    ck_assert_int_eq(weft_tcp_read_list(&tcp[1], list), WEFT_OK);
    weft_tcp_hello(&tcp[1], 0, hello);
    for (i = 0; i < 2; i++) {
        fd = dial(0);
        ck_assert_int_eq((int)send(fd, hello, sizeof hello, 0), (int)sizeof hello);
        while (l->state != WEFT_TCP_UP) weft_tcp_pump(&tcp[0], 0);
        if (i) break;
        weft_tcp_head(&tcp[1], all, WEFT_TCP_DATA, 0, 1, 100);
        ck_assert_int_eq((int)send(fd, all, sizeof all, 0), (int)sizeof all);
        ck_assert_int_eq((int)send(fd, all, sizeof all - 1, 0), (int)sizeof all - 1);
        while (l->early_bytes < 2 * (100 + WEFT_TCP_KEEP)) weft_tcp_pump(&tcp[0], 0);
        close(fd);
        while (l->state == WEFT_TCP_UP) weft_tcp_pump(&tcp[0], 0);
        ck_assert_uint_eq(l->early_bytes, 100 + WEFT_TCP_KEEP);
    }
    for (i = 0; i < 4096; i++) weft_tcp_head(&tcp[1], heads + i * WEFT_TCP_HEAD, WEFT_TCP_DATA, 0, 1, 0);
    while (l->state == WEFT_TCP_UP && sent / WEFT_TCP_HEAD <= WEFT_TCP_EARLY / WEFT_TCP_KEEP) {
        const size_t at = (size_t)(sent % sizeof heads);
        const ssize_t n = send(fd, heads + at, sizeof heads - at, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n > 0) sent += (uint64_t)n;
        weft_tcp_pump(&tcp[0], 0);
        ck_assert_uint_le(l->early_bytes, WEFT_TCP_EARLY);
    }
    shutdown(fd, SHUT_WR);
    while (l->state == WEFT_TCP_UP) weft_tcp_pump(&tcp[0], 0);
    ck_assert_int_eq(l->trouble, EPROTO);
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
        {"a:1 # not c:3, nor d:4\nb:2,# e:5", 2},
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
    sprintf(text, "%s", name_of(0));
    { /* somebody else listens there */
        weft_tcp other;
        weft_transport unused;
        weft_tcp_options o = options_of(0);
        ck_assert_int_eq(weft_tcp_open(&other, &unused, &o), WEFT_ERR_TRANSPORT);
        ck_assert(strstr(other.why, text) != NULL);
    }
    tcp[0].options.connect_ns = 1;
    ck_assert_int_eq(weft_tcp_join(&tcp[0]), WEFT_ERR_TIMEOUT);
    sprintf(text, "worker 1 (%s): it has not connected", name_of(1));
    if (!strstr(tcp[0].why, text)) ck_abort_msg("%s", tcp[0].why);
    close_all();
}
END_TEST

START_TEST(environment) {
    static const char *const bad[] = {"4294967296", "4294967295", "18446744073709551616", "-1", "0x0", "0 ", ""};
    size_t i;
    find_ports(1);
    setenv("WEFT_PEERS", list, 1);
    unsetenv("WEFT_TCP_TLS_DIR");
    for (i = 0; i < sizeof bad / sizeof *bad; i++) {
        setenv("WEFT_RANK", bad[i], 1);
        ck_assert_int_eq(weft_tcp_transport(&tcp[0], &net[0], NULL), WEFT_ERR_ARGUMENT);
        if (!strstr(tcp[0].why, "WEFT_RANK")) ck_abort_msg("%s: %s", bad[i], tcp[0].why);
    }
    setenv("WEFT_RANK", "0", 1);
    setenv("WEFT_TCP_TLS_DIR", "", 1);
    ck_assert_int_eq(weft_tcp_transport(&tcp[0], &net[0], NULL), WEFT_ERR_ARGUMENT);
    ck_assert(strstr(tcp[0].why, "WEFT_TCP_TLS_DIR") != NULL);
    unsetenv("WEFT_TCP_TLS_DIR");
    ck_assert_int_eq(weft_tcp_transport(&tcp[0], &net[0], NULL), WEFT_OK);
    weft_tcp_close(&tcp[0]);
}
END_TEST

/* The checksum by table and by instruction are one. */
/* Looking at one request moves all: what another one's test has brought to its end must not be slept over, and who
 * looks at many in turn has the links moved once a turn. */
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
    Suite *s = suite_create("hostile");
    TCase *t = tcase_create("hostile");
    SRunner *r;
    int failed;
    tcase_set_timeout(t, 60);
    tcase_add_test(t, waits_and_turns);
    suite_add_tcase(s, t);
    t = tcase_create("strangers");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, strangers_are_turned_away);
    tcase_add_loop_test(t, frames_that_are_none, 0, 11);
    tcase_add_loop_test(t, kept_within_bounds, 0, 2);
    tcase_add_test(t, kept_without_bytes);
    tcase_add_test(t, lists);
    tcase_add_test(t, errors_say_what_they_mean);
    tcase_add_test(t, environment);
    tcase_add_test(t, checksums);
    suite_add_tcase(s, t);
    r = srunner_create(contract_suite());
    srunner_add_suite(r, s);
    srunner_run_all(r, CK_ENV);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
