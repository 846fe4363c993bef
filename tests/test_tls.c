/* SPDX-License-Identifier: MIT
 * weft_tls.h: the contract of transport.h holds over TLS, and nobody who is not a worker of this crowd gets a byte in,
 * nor a worker as another one than it is. Certificates are made here, strangers are played by OpenSSL itself. */
#define WEFT_TCP_TLS
#include "tcp_crowd.h"

#include <openssl/x509v3.h>
#include <signal.h>

typedef struct identity {
    X509 *certificate;
    EVP_PKEY *key;
} identity;

static identity authority, other_authority, rank[MOST], other[MOST];
static identity all[64]; /* and those that are made on the way: they live as long as the program */
static unsigned made;

/* ---- Certificates ---- */

/* Most of them are made before there are tests. */
static void need(int ok) {
    if (ok) return;
    fprintf(stderr, "no certificates: %s\n", strerror(errno));
    ERR_print_errors_fp(stderr);
    exit(1);
}

static void extend(X509 *c, int nid, const char *text) {
    X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, NULL, nid, text);
    need(e && X509_add_ext(c, e, -1));
    X509_EXTENSION_free(e);
}

static void name_it(X509 *c, const char *name, int bytes) {
    need(X509_NAME_add_entry_by_NID(X509_get_subject_name(c), NID_commonName, MBSTRING_ASC,
                                         (const unsigned char *)name, bytes, -1, 0));
}

/* Valid from and to so many days from now. by: NULL: itself; second: another common name, or NULL. */
static identity make_with(const char *name, int bytes, const char *second, const identity *by, int from, int to,
                          int can_sign) {
    static long serial = 1;
    identity i;
    i.key = EVP_EC_gen("P-256");
    i.certificate = X509_new();
    need(i.key && i.certificate);
    X509_set_version(i.certificate, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(i.certificate), serial++);
    X509_gmtime_adj(X509_getm_notBefore(i.certificate), from * 86400L);
    X509_gmtime_adj(X509_getm_notAfter(i.certificate), to * 86400L);
    X509_set_pubkey(i.certificate, i.key);
    if (name) name_it(i.certificate, name, bytes);
    if (second) name_it(i.certificate, second, -1);
    X509_set_issuer_name(i.certificate, X509_get_subject_name(by ? by->certificate : i.certificate));
    extend(i.certificate, NID_basic_constraints, can_sign ? "critical,CA:TRUE" : "critical,CA:FALSE");
    need(X509_sign(i.certificate, by ? by->key : i.key, EVP_sha256()) > 0 && made < 64);
    return all[made++] = i;
}

static identity make(const char *name, const identity *by, int from, int to, int can_sign) {
    return make_with(name, -1, NULL, by, from, to, can_sign);
}

static char base[400]; /* beside this program */

static const char *in(const char *where, const char *file) {
    static char path[64][512];
    static int turn;
    turn = (turn + 1) % 64;
    snprintf(path[turn], sizeof path[turn], "%s/%s%s%s", base, where, *file ? "/" : "", file);
    return path[turn];
}

static void write_certificate(const char *path, const identity *i) {
    FILE *f = fopen(path, "wb");
    need(f && PEM_write_X509(f, i->certificate));
    fclose(f);
}

static void write_key(const char *path, const identity *i, const char *password) {
    FILE *f = fopen(path, "wb");
    need(f && fchmod(fileno(f), 0600) == 0);
    need(PEM_write_PrivateKey(f, i->key, password ? EVP_aes_128_cbc() : NULL, (const unsigned char *)password,
                                   password ? (int)strlen(password) : 0, NULL, NULL));
    fclose(f);
}

static void write_crowd(const char *where, const identity *by, const identity *who) {
    char file[32];
    int i;
    mkdir(in(where, ""), 0700);
    write_certificate(in(where, "authority.pem"), by);
    for (i = 0; i < MOST; i++) {
        sprintf(file, "rank-%d.pem", i);
        write_certificate(in(where, file), &who[i]);
        sprintf(file, "rank-%d.key", i);
        write_key(in(where, file), &who[i], NULL);
    }
}

static void make_all(void) {
    char name[32];
    int i;
    need(mkdtemp(base) != NULL);
    authority = make("a crowd", NULL, -1, 100, 1);
    other_authority = make("another crowd", NULL, -1, 100, 1);
    for (i = 0; i < MOST; i++) {
        sprintf(name, "rank-%d", i);
        rank[i] = make(name, &authority, -1, 100, 0);
        other[i] = make(name, &other_authority, -1, 100, 0);
    }
    write_crowd("crowd", &authority, rank);
    write_crowd("other", &other_authority, other);
}

/* ---- A stranger, as client or server ---- */

typedef struct stranger {
    int fd;
    SSL_CTX *ctx;
    SSL *ssl;
    int shaken; /* 1: the handshake is over; -1: it has failed */
} stranger;

static int anybody(int good, X509_STORE_CTX *x) {
    (void)good;
    (void)x;
    return 1;
}

static int as_it_is(int good, X509_STORE_CTX *x) {
    (void)x;
    return good;
}

static stranger be(int fd, int server, const identity *who, const identity *between, int version) {
    stranger s;
    s.fd = fd;
    s.shaken = 0;
    s.ctx = SSL_CTX_new(TLS_method());
    ck_assert(s.ctx != NULL);
    SSL_CTX_set_max_proto_version(s.ctx, version);
    SSL_CTX_set_mode(s.ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_verify(s.ctx, SSL_VERIFY_PEER, anybody);
    if (who) {
        ck_assert_int_eq(SSL_CTX_use_certificate(s.ctx, who->certificate), 1);
        ck_assert_int_eq(SSL_CTX_use_PrivateKey(s.ctx, who->key), 1);
    }
    if (between) ck_assert_int_eq((int)SSL_CTX_add1_chain_cert(s.ctx, between->certificate), 1);
    s.ssl = SSL_new(s.ctx);
    ck_assert(s.ssl != NULL);
    fcntl(fd, F_SETFL, O_NONBLOCK);
    SSL_set_fd(s.ssl, fd);
    if (server)
        SSL_set_accept_state(s.ssl);
    else
        SSL_set_connect_state(s.ssl);
    return s;
}

/* OpenSSL's own sockets raise it; ours must not. */
static void pipe_signal(int on) {
    signal(SIGPIPE, on ? SIG_DFL : SIG_IGN);
}

static int blocked(stranger *s, int r) {
    const int e = SSL_get_error(s->ssl, r);
    return e == SSL_ERROR_WANT_READ || e == SSL_ERROR_WANT_WRITE;
}

static void shake(stranger *s) {
    int r;
    if (s->shaken) return;
    pipe_signal(0);
    ERR_clear_error();
    r = SSL_do_handshake(s->ssl);
    if (r == 1)
        s->shaken = 1;
    else if (!blocked(s, r))
        s->shaken = -1;
    pipe_signal(1);
}

static int say(stranger *s, const void *p, size_t n) {
    int r;
    pipe_signal(0);
    ERR_clear_error();
    r = SSL_write(s->ssl, p, (int)n);
    pipe_signal(1);
    return r;
}

static void leave(stranger *s) {
    SSL_free(s->ssl);
    SSL_CTX_free(s->ctx);
    close(s->fd);
}

static void hello_of(uint32_t who, unsigned char hello[WEFT_TCP_HEAD + WEFT_TCP_HELLO_BYTES]) {
    static weft_tcp t;
    weft_tcp_blank(&t);
    t.options.rank = who;
    ck_assert_int_eq(weft_tcp_read_list(&t, list), WEFT_OK);
    weft_tcp_hello(&t, 0, hello);
    weft_tcp_close(&t);
}

static void check_words(const char *said, const char *expected) {
    if (!strstr(said, expected)) ck_abort_msg("\"%s\" does not say \"%s\"", said, expected);
}

/* ---- Who is not let in ---- */

/* Workers 0 and 1 of three are there. */
static void start_two(void) {
    find_ports(3);
    workers = 3;
    start(0, 0, 0);
    ck_assert_uint_eq(ERR_peek_error(), 0);
    start(1, 0, 0);
    while (!all_up()) pump_all();
}

static void honest_go_on(void) {
    static unsigned char from[50000], to[50000];
    weft_request a, b;
    fill(from, sizeof from, 3);
    memset(to, 0, sizeof to);
    ck_assert_int_eq(post_recv(0, 1, 1, to, sizeof to, &b), WEFT_OK);
    ck_assert_int_eq(post_send(1, 0, 1, from, sizeof from, &a), WEFT_OK);
    ck_assert_int_eq(finish(0, &b), WEFT_OK);
    ck_assert_int_eq(finish(1, &a), WEFT_OK);
    ck_assert_int_eq(memcmp(from, to, sizeof to), 0);
}

enum {
    NO_CERTIFICATE,
    OTHER_AUTHORITY,
    RANK_OF_ANOTHER,
    RANK_OF_THE_LISTENER,
    RANK_OF_NOBODY,
    EXPIRED,
    NOT_YET,
    SELF_SIGNED,
    SIGNED_BY_A_WORKER,
    NO_NAME,
    TWO_NAMES,
    NAME_WITH_ZERO,
    NAME_WITH_MORE,
    NAME_WITH_BLANK,
    NAME_WITH_SIGN,
    FOR_ANOTHER_PURPOSE,
    OLDER_TLS,
    PLAINTEXT,
    GARBAGE,
    HTTP,
    DEAR_GROUP,
    OTHER_CROWD,
    HELLO_OF_ITSELF,
    STRANGERS
};

static const char *const WORDS[STRANGERS] = {
    "it shows no certificate",
    "the certificate of rank-2 is not signed by this worker's authority",
    "it says that it is another than its certificate does",
    "but not of rank-0, got that of rank-0",
    "expected the certificate of one of rank-0 to rank-2, but not of rank-0, got that of rank-3",
    "the certificate of rank-2 has expired, on ",
    "the certificate of rank-2: certificate is not yet valid",
    "the certificate of rank-2 is not signed by this worker's authority",
    "the certificate of rank-",
    "got that of somebody without a name",
    "got that of rank-2",
    "got that of rank-2?",
    "got that of rank-2.example.com",
    "got that of rank-?2",
    "got that of rank-+2",
    "the certificate of rank-2: unsuitable certificate purpose",
    "it speaks an older TLS, and 1.3 is expected here",
    "it speaks plaintext, and TLS is expected here",
    "it speaks neither TLS nor",
    "it speaks neither TLS nor",
    "no suitable key share",
    "its hello is none, or its list of workers is another",
    "its hello is none, or its list of workers is another",
};

/* One after the other tries to be worker 2, and would say its hello and a message. */
START_TEST(strangers) {
    unsigned char bytes[WEFT_TCP_HEAD + WEFT_TCP_HELLO_BYTES + WEFT_TCP_HEAD + 8], *hello = bytes;
    identity fresh = {NULL, NULL}, boss = {NULL, NULL};
    const identity *who = NULL, *between = NULL;
    int version = TLS1_3_VERSION, raw = 0;
    size_t n = sizeof bytes;
    uint64_t received;
    weft_tcp_link *l = &tcp[0].link[2];
    start_two();
    l = &tcp[0].link[2];
    hello_of(2, hello);
    memset(bytes + WEFT_TCP_HEAD + WEFT_TCP_HELLO_BYTES, 0, WEFT_TCP_HEAD + 8);
    weft_tcp_head(&tcp[0], bytes + WEFT_TCP_HEAD + WEFT_TCP_HELLO_BYTES, WEFT_TCP_DATA, 0, 1, 8);
    switch (_i) {
    case NO_CERTIFICATE: break;
    case OTHER_AUTHORITY: who = &other[2]; break;
    case RANK_OF_ANOTHER: who = &rank[1]; break;
    case RANK_OF_THE_LISTENER: who = &rank[0]; break;
    case RANK_OF_NOBODY: who = &rank[3]; break;
    case EXPIRED: fresh = make("rank-2", &authority, -100, -1, 0); break;
    case NOT_YET: fresh = make("rank-2", &authority, 2, 100, 0); break;
    case SELF_SIGNED: fresh = make("rank-2", NULL, -1, 100, 1); break;
    case SIGNED_BY_A_WORKER: /* even if that one's certificate says that it may */
        boss = make("rank-1", &authority, -1, 100, 1);
        fresh = make("rank-2", &boss, -1, 100, 0);
        between = &boss;
        break;
    case NO_NAME: fresh = make(NULL, &authority, -1, 100, 0); break;
    case TWO_NAMES: fresh = make_with("rank-2", -1, "rank-1", &authority, -1, 100, 0); break;
    case NAME_WITH_ZERO: fresh = make_with("rank-2\0.", 8, NULL, &authority, -1, 100, 0); break;
    case NAME_WITH_MORE: fresh = make("rank-2.example.com", &authority, -1, 100, 0); break;
    case NAME_WITH_BLANK: fresh = make("rank- 2", &authority, -1, 100, 0); break;
    case NAME_WITH_SIGN: fresh = make("rank-+2", &authority, -1, 100, 0); break;
    case FOR_ANOTHER_PURPOSE:
        fresh = make("rank-2", &authority, -1, 100, 0);
        extend(fresh.certificate, NID_ext_key_usage, "codeSigning");
        X509_sign(fresh.certificate, authority.key, EVP_sha256());
        break;
    case OLDER_TLS:
        who = &rank[2];
        version = TLS1_2_VERSION;
        break;
    case PLAINTEXT: raw = 1; break;
    case GARBAGE:
        fill(bytes, sizeof bytes, 77);
        bytes[0] = 0x42;
        raw = 1;
        break;
    case HTTP:
        n = (size_t)sprintf((char *)bytes, "GET / HTTP/1.0\r\n\r\n");
        raw = 1;
        break;
    case DEAR_GROUP: who = &rank[2]; break;
    case OTHER_CROWD:
        who = &rank[2];
        hello[WEFT_TCP_HEAD + 16] ^= 1;
        break;
    default:
        who = &rank[1];
        hello_of(0, hello);
    }
    if (fresh.certificate) who = &fresh;
    received = tcp[0].received;
    {
        stranger s = be(dial(0), 0, who, between, version);
        int said = 0;
        if (_i == DEAR_GROUP) ck_assert_int_eq((int)SSL_set1_groups_list(s.ssl, "ffdhe8192"), 1);
        if (raw) ck_assert_int_eq((int)send(s.fd, bytes, n, 0), (int)n);
        while (!tcp[0].refused && l->state == WEFT_TCP_DOWN) {
            if (!raw) shake(&s);
            if (!said && s.shaken == 1) said = say(&s, bytes, n) > 0;
            pump_all();
        }
        ck_assert_uint_eq(tcp[0].refused, 1);
        ck_assert_int_eq(l->state, WEFT_TCP_DOWN);
        ck_assert_int_eq(l->came, 0);
        ck_assert_uint_eq(ERR_peek_error(), 0); /* the caller's queue: it pumped last */
        ck_assert_uint_eq(l->early_bytes, 0);
        ck_assert_uint_eq(tcp[0].received, received);
        check_words(tcp[0].refusal, WORDS[_i]);
        leave(&s);
    }
    honest_go_on();
    ck_assert_uint_eq(tcp[0].refused, 1);
    close_all();
}
END_TEST

/* The same stranger with everything in order is let in: what turns the others away is what is wrong with them. */
START_TEST(no_stranger) {
    unsigned char bytes[WEFT_TCP_HEAD + WEFT_TCP_HELLO_BYTES + WEFT_TCP_HEAD + 8], got[8], old;
    weft_request q;
    stranger s;
    int i, said = 0;
    start_two();
    hello_of(2, bytes);
    weft_tcp_head(&tcp[0], bytes + WEFT_TCP_HEAD + WEFT_TCP_HELLO_BYTES, WEFT_TCP_DATA, 0, 1, 8);
    memset(bytes + sizeof bytes - 8, 5, 8);
    s = be(dial(0), 0, &rank[2], NULL, TLS1_3_VERSION);
    while (tcp[0].link[2].state != WEFT_TCP_UP || tcp[0].link[2].early_bytes < 8) {
        shake(&s);
        if (!said && s.shaken == 1) said = say(&s, bytes, sizeof bytes) == sizeof bytes;
        pump_all();
    }
    ck_assert_int_eq(post_recv(0, 2, 1, got, 8, &q), WEFT_OK);
    ck_assert_int_eq(finish(0, &q), WEFT_OK);
    for (i = 0; i < 8; i++) ck_assert_uint_eq(got[i], 5);
    ck_assert_uint_eq(tcp[0].refused, 0);
    /* no tickets, no resumption, no early data */
    while (SSL_read(s.ssl, &old, 1) != 1) pump_all();
    ck_assert_int_eq(SSL_SESSION_is_resumable(SSL_get_session(s.ssl)), 0);
    ck_assert_uint_eq(SSL_SESSION_get_max_early_data(SSL_get_session(s.ssl)), 0);
    /* half of a message, and the connection is cut: a lost peer */
    ck_assert_int_eq(post_recv(0, 2, 1, got, 8, &q), WEFT_OK);
    if (_i) { /* after a good-bye, or without */
        ck_assert_int_gt(say(&s, bytes + WEFT_TCP_HEAD + WEFT_TCP_HELLO_BYTES, WEFT_TCP_HEAD + 3), 0);
        SSL_shutdown(s.ssl);
    } else
        ck_assert_int_gt(say(&s, bytes + WEFT_TCP_HEAD + WEFT_TCP_HELLO_BYTES, WEFT_TCP_HEAD + 3), 0);
    leave(&s);
    ck_assert_int_eq(finish(0, &q), WEFT_ERR_PEER_LOST);
    ck_assert_uint_eq(ERR_peek_error(), 0);
    check_words(tcp[0].link[2].words, _i ? "" : "the connection was cut off");
    ck_assert_int_eq(tcp[0].link[2].words[0] != 0, !_i);
    ck_assert_int_eq(tcp[0].link[2].trouble != 0, !_i);
    honest_go_on();
    close_all();
}
END_TEST

/* After a handshake that is sound, and while messages go both ways: new keys, as often as the other side likes. */
START_TEST(new_keys_meanwhile) {
    enum { LONG = 3000000 };
    static unsigned char from[LONG], to[LONG];
    unsigned char hello[WEFT_TCP_HEAD + WEFT_TCP_HELLO_BYTES], back[4096], room[WEFT_TCP_HEAD];
    weft_request q;
    stranger s;
    int said = 0, keys = 0;
    size_t read = 0;
    start_two();
    fill(from, LONG, 4);
    hello_of(2, hello);
    s = be(dial(0), 0, &rank[2], NULL, TLS1_3_VERSION);
    while (tcp[0].link[2].state != WEFT_TCP_UP) {
        shake(&s);
        if (!said && s.shaken == 1) said = say(&s, hello, sizeof hello) == sizeof hello;
        pump_all();
    }
    weft_tcp_head(&tcp[0], room, WEFT_TCP_ROOM, 0, 1, 0);
    ck_assert_int_eq(say(&s, room, sizeof room), sizeof room);
    while (tcp[0].link[2].room[1].room == 0) pump_all();
    ck_assert_int_eq(post_send(0, 2, 1, from, LONG, &q), WEFT_OK);
    while (read < sizeof hello + WEFT_TCP_HEAD + LONG) {
        const int r = SSL_read(s.ssl, back, sizeof back);
        if (r > 0) {
            size_t i;
            for (i = 0; i < (size_t)r; i++, read++)
                if (read >= sizeof hello + WEFT_TCP_HEAD) to[read - sizeof hello - WEFT_TCP_HEAD] = back[i];
            if (read / 100000 > (size_t)keys && SSL_key_update(s.ssl, SSL_KEY_UPDATE_REQUESTED) == 1) {
                keys++;
                say(&s, room, 0);
                SSL_do_handshake(s.ssl);
            }
        } else
            ck_assert(blocked(&s, r));
        pump_all();
    }
    ck_assert_int_eq(finish(0, &q), WEFT_OK);
    ck_assert_int_gt(keys, 10);
    ck_assert_int_eq(memcmp(from, to, LONG), 0);
    leave(&s);
    close_all();
}
END_TEST

/* A handshake that is begun and not ended: silence, or the end of the connection; early and late in it. */
START_TEST(half_a_handshake) {
    stranger s;
    uint64_t received;
    int i, place = -1;
    char c;
    start_two();
    received = tcp[0].received;
    s = be(dial(0), 0, &rank[2], NULL, TLS1_3_VERSION);
    if (_i & 2) { /* the first bytes of a hello of TLS's */
        ck_assert_int_eq((int)send(s.fd, "\x16\x03\x01\x01\x00\x01", 6, 0), 6);
    } else
        shake(&s);
    while (place < 0 || ((weft_tls *)tcp[0].guest[place].wire.tls)->first < 0) {
        pump_all();
        for (i = 0; i < (int)tcp[0].guests; i++)
            if (tcp[0].guest[i].wire.fd >= 0) place = i;
    }
    honest_go_on();
    received = tcp[0].received;
    ck_assert_uint_eq(tcp[0].refused, 0);
    if (_i & 1) {
        close(s.fd);
        while (!tcp[0].refused) pump_all();
        check_words(tcp[0].refusal, "it hung up in the middle of the handshake");
        s.fd = -1;
    } else {
        tcp[0].guest[place].since_ns -= WEFT_TCP_MANNERS_NS + 1;
        pump_all();
        check_words(tcp[0].refusal, "it did not say in time who it is");
        while (recv(s.fd, &c, 1, MSG_DONTWAIT) > 0) continue;
        ck_assert(is_hung_up(s.fd));
    }
    ck_assert_uint_eq(tcp[0].refused, 1);
    ck_assert_uint_eq(tcp[0].received, received);
    honest_go_on();
    leave(&s);
    close_all();
}
END_TEST

/* Time goes by for those who are in a handshake. */
static void let_guests_wait(uint64_t ns) {
    uint32_t i;
    for (i = 0; i < tcp[0].guests; i++) tcp[0].guest[i].heard_ns -= ns;
}

/* Many who begin and go silent do not keep out the one who belongs here. */
START_TEST(silence_of_many) {
    stranger s[3 * WEFT_TCP_GUESTS];
    int k;
    start_two();
    for (k = 0; k < 3 * WEFT_TCP_GUESTS; k++) {
        s[k] = be(dial(0), 0, &rank[2], NULL, TLS1_3_VERSION);
        shake(&s[k]);
        pump_all();
    }
    while (tcp[0].refused < 3 * WEFT_TCP_GUESTS - tcp[0].guests) {
        let_guests_wait(WEFT_TCP_PAUSE_NS);
        pump_all();
    }
    start(2, 0, 0);
    for (k = 0; !all_up(); k++) {
        if (k % 8 == 0) let_guests_wait(WEFT_TCP_PAUSE_NS / 2);
        pump_all();
    }
    honest_go_on();
    for (k = 0; k < 3 * WEFT_TCP_GUESTS; k++) leave(&s[k]);
    close_all();
}
END_TEST

/* Who is in the middle of a handshake keeps its place, however many come after it and say nothing; and those who came
 * with it and have said nothing go first. */
START_TEST(handshake_among_many) {
    enum { MUTE = 3 * WEFT_TCP_GUESTS };
    unsigned char hello[WEFT_TCP_HEAD + WEFT_TCP_HELLO_BYTES];
    int mute[MUTE], k, said = 0;
    stranger s;
    start_two();
    hello_of(2, hello);
    s = be(dial(0), 0, &rank[2], NULL, TLS1_3_VERSION); /* the first, and so the oldest */
    shake(&s);
    for (k = 0; k < 4; k++) pump_all();
    ck_assert_int_eq(s.shaken, 0);
    for (k = 0; k < MUTE; k++) {
        mute[k] = dial(0);
        pump_all();
    }
    while (tcp[0].refused < MUTE + 1 - tcp[0].guests) {
        let_guests_wait(WEFT_TCP_MUTE_NS / 2);
        pump_all();
        if (tcp[0].refused < 8) continue; /* from here on it speaks on, at times */
        shake(&s);
    }
    while (tcp[0].link[2].state != WEFT_TCP_UP) {
        shake(&s);
        ck_assert_int_ge(s.shaken, 0);
        if (!said && s.shaken == 1) said = say(&s, hello, sizeof hello) == sizeof hello;
        pump_all();
    }
    honest_go_on();
    leave(&s);
    for (k = 0; k < MUTE; k++) close(mute[k]);
    close_all();
}
END_TEST

/* ---- Whom a worker does not talk to ---- */

enum {
    SERVER_RANK_OF_ANOTHER,
    SERVER_OTHER_AUTHORITY,
    SERVER_EXPIRED,
    SERVER_SELF_SIGNED,
    SERVER_SIGNED_BY_A_WORKER,
    SERVER_OLDER_TLS,
    SERVER_PLAINTEXT,
    SERVER_GARBAGE,
    SERVER_HANGS_UP,
    SERVERS
};

static const char *const SERVER_WORDS[SERVERS] = {
    "expected the certificate of rank-0, got that of rank-2",
    "the certificate of rank-0 is not signed by this worker's authority",
    "the certificate of rank-0 has expired, on ",
    "the certificate of rank-0 is not signed by this worker's authority",
    "the certificate of rank-",
    "it does not take this worker (rank-1): tlsv1 alert protocol version",
    "it speaks plaintext, and TLS is expected here",
    "it speaks neither TLS nor",
    "it hung up before it had said anything: does it expect plaintext?",
};

/* Somebody else listens where worker 0 is expected. Worker 1 tells it nothing. */
START_TEST(servers) {
    identity fresh = {NULL, NULL}, boss = {NULL, NULL};
    const identity *who = &rank[0], *between = NULL;
    struct sockaddr_in a;
    const int on = 1;
    int at = socket(AF_INET, SOCK_STREAM, 0), fd, version = TLS1_3_VERSION;
    int said = 0;
    unsigned char bytes[256];
    weft_tcp_link *l;
    find_ports(3);
    workers = 3;
    a = address_of(0);
    setsockopt(at, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    ck_assert_int_eq(bind(at, (struct sockaddr *)(void *)&a, sizeof a), 0);
    ck_assert_int_eq(listen(at, 1), 0);
    start(1, 0, 0);
    l = &tcp[1].link[0];
    hello_of(0, bytes);
    switch (_i) {
    case SERVER_RANK_OF_ANOTHER: who = &rank[2]; break;
    case SERVER_OTHER_AUTHORITY: who = &other[0]; break;
    case SERVER_EXPIRED: fresh = make("rank-0", &authority, -100, -1, 0); break;
    case SERVER_SELF_SIGNED: fresh = make("rank-0", NULL, -1, 100, 1); break;
    case SERVER_SIGNED_BY_A_WORKER:
        boss = make("rank-1", &authority, -1, 100, 1);
        fresh = make("rank-0", &boss, -1, 100, 0);
        between = &boss;
        break;
    case SERVER_OLDER_TLS: version = TLS1_2_VERSION; break;
    case SERVER_GARBAGE:
        fill(bytes, sizeof bytes, 78);
        bytes[0] = 0x42;
        break;
    default: break;
    }
    if (fresh.certificate) who = &fresh;
    while (l->state == WEFT_TCP_DOWN) pump_all();
    fd = accept(at, NULL, NULL);
    ck_assert_int_ge(fd, 0);
    {
        stranger s = be(fd, 1, who, between, version);
        if (_i == SERVER_PLAINTEXT || _i == SERVER_GARBAGE)
            ck_assert_int_eq((int)send(fd, bytes, WEFT_TCP_HEAD + WEFT_TCP_HELLO_BYTES, 0),
                             WEFT_TCP_HEAD + WEFT_TCP_HELLO_BYTES);
        else if (_i == SERVER_HANGS_UP)
            ck_assert_int_eq(shutdown(fd, SHUT_WR), 0);
        while (!tcp[1].refused && l->state != WEFT_TCP_UP) {
            if (_i < SERVER_PLAINTEXT) shake(&s);
            if (s.shaken == 1 && !said) said = say(&s, bytes, WEFT_TCP_HEAD + WEFT_TCP_HELLO_BYTES) > 0;
            pump_all();
        }
        ck_assert_uint_eq(ERR_peek_error(), 0);
        ck_assert_uint_eq(tcp[1].refused, 1);
        ck_assert_int_eq(l->state, WEFT_TCP_DOWN);
        ck_assert_int_eq(l->trouble, EPROTO);
        check_words(l->words, SERVER_WORDS[_i]);
        leave(&s);
    }
    ck_assert_uint_eq(tcp[1].received, 0);
    ck_assert_uint_eq(tcp[1].sent, 0);
    close(at);
    close_all();
}
END_TEST

/* ---- What the two sides say of it ---- */

/* Drives worker 1, which connects, and worker 0 until both know that they do not understand each other. */
static void try_and_give_up(const char *why1, const char *refusal0) {
    while (!tcp[0].refused || !(tcp[1].link[0].words[0] || tcp[1].link[0].trouble == 0) || !tcp[1].link[0].tries)
        pump_all();
    ck_assert_int_ne(tcp[0].link[1].state, WEFT_TCP_UP);
    ck_assert_uint_eq(tcp[0].received, 0);
    tcp[0].options.connect_ns = tcp[1].options.connect_ns = 1;
    ck_assert_int_eq(weft_tcp_join(&tcp[1]), WEFT_ERR_TIMEOUT);
    check_words(tcp[1].why, why1);
    ck_assert_int_eq(weft_tcp_join(&tcp[0]), WEFT_ERR_TIMEOUT);
    check_words(tcp[0].why, refusal0);
    check_words(tcp[0].why, name_of(1));
    close_all();
}

START_TEST(both_sides_say_why) {
    find_ports(2);
    workers = 2;
    if (_i == 1) folder = NULL;
    start(0, 0, 0);
    folder = _i == 0 ? NULL : _i == 1 ? in("crowd", "") : in("other", "");
    start(1, 0, 0);
    switch (_i) {
    case 0: try_and_give_up("it expects TLS", "it speaks plaintext, and TLS is expected here"); break;
    case 1:
        try_and_give_up("it hung up before it had said anything: does it expect plaintext?",
                        "it speaks TLS, and plaintext is expected here");
        break;
    default:
        try_and_give_up("the certificate of rank-0 is not signed by this worker's authority",
                        "it does not take this worker (rank-0): tlsv1 alert unknown ca");
    }
    folder = in("crowd", "");
}
END_TEST

/* Who is turned away after it has found the other side in order hears of it, too. */
START_TEST(turned_away) {
    struct sockaddr_in a;
    socklen_t bytes = sizeof a;
    int at = socket(AF_INET, SOCK_STREAM, 0), fd;
    stranger s;
    weft_tcp_link *l;
    find_ports(2);
    workers = 2;
    a = address_of(0);
    ck_assert_int_eq(bind(at, (struct sockaddr *)(void *)&a, bytes), 0);
    ck_assert_int_eq(listen(at, 1), 0);
    start(1, 0, 0);
    l = &tcp[1].link[0];
    while (l->state == WEFT_TCP_DOWN) pump_all();
    fd = accept(at, NULL, NULL);
    s = be(fd, 1, &rank[0], NULL, TLS1_3_VERSION);
    SSL_set_verify(s.ssl, SSL_VERIFY_PEER, as_it_is); /* and it knows no authority at all */
    while (l->state != WEFT_TCP_DOWN) {
        shake(&s);
        pump_all();
    }
    check_words(l->words, "it does not take this worker (rank-1): tlsv1 alert unknown ca");
    ck_assert_uint_eq(tcp[1].received, 0);
    leave(&s);
    close(at);
    close_all();
}
END_TEST

/* ---- Files ---- */

static void check_files(const weft_tcp_options *o, const char *words) {
    static weft_tcp t;
    weft_transport unused;
    ck_assert_int_eq(weft_tcp_open(&t, &unused, o), WEFT_ERR_ARGUMENT);
    check_words(t.why, words);
    ck_assert(t.tls == NULL && t.listener < 0);
    ck_assert_uint_eq(ERR_peek_error(), 0);
}

START_TEST(files) {
    weft_tcp_options o;
    identity old, ca;
    const char *a = in("crowd", "authority.pem"), *k;
    static weft_tcp t;
    weft_transport unused;
    find_ports(2);
    o = options_of(1);
    o.tls_folder = in("nowhere", "");
    check_files(&o, "/nowhere/authority.pem: No such file");
    o = options_of(1);
    o.certificate = in("crowd", "rank-0.pem");
    check_files(&o, "rank-0.pem: this worker is rank-1, the certificate is that of rank-0");
    o = options_of(1);
    o.key = in("crowd", "rank-0.key");
    check_files(&o, "rank-0.key: it is not the key of the certificate");
    o = options_of(1);
    o.key = in("crowd", "rank-1.pem");
    chmod(o.key, 0600);
    check_files(&o, "rank-1.pem: expected a private key as PEM");
    o = options_of(1);
    o.certificate = in("crowd", "rank-1.key");
    check_files(&o, "rank-1.key: expected a certificate as PEM");
    o = options_of(1);
    o.authority = in("crowd", "rank-1.key");
    check_files(&o, "rank-1.key: expected certificates as PEM");
    o = options_of(1);
    o.authority = in("other", "authority.pem");
    check_files(&o, "rank-1.pem: the certificate of rank-1 is not signed by this worker's authority");
    o = options_of(1);
    o.tls_folder = NULL;
    o.certificate = in("crowd", "rank-1.pem");
    check_files(&o, "TLS: expected a folder, or authority, certificate and key");
    mkdir(in("made", ""), 0700);
    old = make("rank-1", &authority, -50, -1, 0);
    write_certificate(in("made", "rank-1.pem"), &old);
    write_key(in("made", "rank-1.key"), &old, NULL);
    o = options_of(1);
    o.tls_folder = in("made", "");
    o.authority = a;
    check_files(&o, "the certificate of rank-1 has expired, on ");
    ca = make("rank-1", &authority, -1, 50, 0);
    write_certificate(in("made", "rank-1.pem"), &ca);
    write_key(in("made", "rank-1.key"), &ca, "secret");
    check_files(&o, "rank-1.key: expected a private key as PEM, without a password");
    write_key(k = in("made", "rank-1.key"), &ca, NULL);
    chmod(k, 0640);
    check_files(&o, "rank-1.key: a key that others can read is no secret");
    chmod(k, 0400);
    ck_assert_int_eq(weft_tcp_open(&t, &unused, &o), WEFT_OK);
    weft_tcp_close(&t);
}
END_TEST

/* With TLS every address is allowed; without it only those of this machine. */
START_TEST(every_address) {
    static weft_tcp t;
    weft_transport unused;
    weft_tcp_options o;
    find_ports(2);
    o = options_of(0);
    o.listen_host = "0.0.0.0";
    ck_assert_int_eq(weft_tcp_open(&t, &unused, &o), WEFT_OK);
    weft_tcp_close(&t);
    o.tls_folder = NULL;
    ck_assert_int_eq(weft_tcp_open(&t, &unused, &o), WEFT_ERR_TRANSPORT);
    check_words(t.why, "0.0.0.0 is not a loopback address, and nothing would be encrypted: TLS");
}
END_TEST

/* The whole, from the environment. */
START_TEST(environment) {
    static weft_tcp t;
    weft_transport unused;
    find_ports(1);
    setenv("WEFT_PEERS", list, 1);
    setenv("WEFT_RANK", "0", 1);
    setenv("WEFT_TCP_TLS_DIR", in("nowhere", ""), 1);
    ck_assert_int_eq(weft_tcp_transport(&t, &unused, NULL), WEFT_ERR_ARGUMENT);
    check_words(t.why, "/nowhere/authority.pem: No such file");
    setenv("WEFT_TCP_TLS_DIR", in("crowd", ""), 1);
    ck_assert_int_eq(weft_tcp_transport(&t, &unused, NULL), WEFT_OK);
    ck_assert(t.tls != NULL);
    weft_tcp_close(&t);
    unsetenv("WEFT_TCP_TLS_DIR");
}
END_TEST

static void sweep(const char *where) {
    static const char *const end[] = {"pem", "key"};
    char file[32];
    int i;
    remove(in(where, "authority.pem"));
    for (i = 0; i < 2 * MOST; i++) {
        sprintf(file, "rank-%d.%s", i / 2, end[i % 2]);
        remove(in(where, file));
    }
    rmdir(in(where, ""));
}

int main(int argc, char **argv) {
    static char crowd[512];
    Suite *s = suite_create("strangers");
    TCase *t;
    SRunner *r;
    int failed;
    need(argc > 0 && snprintf(base, sizeof base, "%s.XXXXXX", argv[0]) < (int)sizeof base);
    make_all();
    snprintf(crowd, sizeof crowd, "%s", in("crowd", ""));
    folder = crowd;
    r = srunner_create(contract_suite());
    srunner_add_suite(r, s);
    t = tcase_create("strangers");
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, strangers, 0, STRANGERS);
    tcase_add_loop_test(t, no_stranger, 0, 2);
    tcase_add_test(t, new_keys_meanwhile);
    tcase_add_loop_test(t, half_a_handshake, 0, 4);
    tcase_add_test(t, silence_of_many);
    tcase_add_test(t, handshake_among_many);
    tcase_add_loop_test(t, servers, 0, SERVERS);
    tcase_add_loop_test(t, both_sides_say_why, 0, 3);
    tcase_add_test(t, turned_away);
    suite_add_tcase(s, t);
    s = suite_create("files");
    srunner_add_suite(r, s);
    t = tcase_create("files");
    tcase_add_test(t, files);
    tcase_add_test(t, every_address);
    tcase_add_test(t, environment);
    suite_add_tcase(s, t);
    srunner_run_all(r, CK_ENV);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    sweep("crowd");
    sweep("other");
    sweep("made");
    rmdir(base);
    return failed != 0;
}
