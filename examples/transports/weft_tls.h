/* SPDX-License-Identifier: MIT
 * weft_tls.h: TLS for the connections of weft_tcp.h, through OpenSSL 3 (-lssl -lcrypto). weft_tcp.h includes it where
 * WEFT_TCP_TLS is defined; not to be included by itself.
 *
 * TLS 1.3 and nothing else, without tickets, resumption and early data. Both sides show a certificate, and each looks
 * at the other's: it is signed by the authority itself (nothing between them, so that no worker's certificate can make
 * another), it is valid today, and its subject has one common name, "rank-N". Who is connected to must be the worker
 * that was meant; who connects is the worker that its certificate names, whatever it says afterwards. So the worker
 * that holds rank-3.key cannot speak as any but worker 3, and the list of peers needs nothing that it does not have
 * without TLS. (Fingerprints in the list would do, too; but the list would then have to be written anew, everywhere,
 * with every new certificate.) An authority is for one crowd of workers: do not take one that signs for others.
 *
 * `certificates` beside this file makes a folder of all that is needed; by hand it is
 *
 *     openssl req -x509 -newkey rsa:3072 -nodes -subj /CN=crowd -keyout authority.key -out authority.pem -days 365
 *     openssl req -newkey rsa:3072 -nodes -subj /CN=rank-0 -keyout rank-0.key -out rank-0.csr
 *     openssl x509 -req -in rank-0.csr -CA authority.pem -CAkey authority.key -out rank-0.pem -days 365
 *
 * and the last two again for each other worker. A key that others than its owner can read is refused.
 *
 * Sockets do not block and neither does anything here. Errors are words: of a connection, and in weft_tcp.why. The
 * thread's error queue of OpenSSL is empty after each call, whatever was in it before. */
#ifndef WEFT_TLS_H
#define WEFT_TLS_H

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509_vfy.h>
#include <sys/stat.h>

#if OPENSSL_VERSION_NUMBER < 0x30000000L
#error "weft_tls.h needs OpenSSL 3"
#endif

enum { WEFT_TLS_RECORD = 16384, WEFT_TLS_NAME = 48 };

/* Of a worker: weft_tcp.tls. */
typedef struct weft_tls_own {
    SSL_CTX *ctx;
    BIO_METHOD *way; /* to the socket, without SIGPIPE */
} weft_tls_own;

/* Of a connection: weft_tcp_wire.tls. */
typedef struct weft_tls {
    SSL *ssl;
    const weft_tcp *tcp;
    int fd;
    uint32_t expected; /* who is meant; WEFT_NO_RANK: any other worker */
    uint32_t rank;     /* whom its certificate names */
    int known;         /* it has shown one, and it is good */
    int first;         /* the first byte that came; -1: none */
    int ended;         /* nothing more comes */
    int trouble;       /* errno of the socket */
    char words[WEFT_TCP_WORDS];
} weft_tls;

/* ---- The way to the socket ---- */

WEFT_INLINE int weft_tls_push(BIO *b, const char *p, int n) {
    weft_tls *s = (weft_tls *)BIO_get_data(b);
    const ssize_t sent = send(s->fd, p, (size_t)n, MSG_NOSIGNAL | MSG_DONTWAIT);
    BIO_clear_retry_flags(b);
    if (sent >= 0) return (int)sent;
    if (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)
        BIO_set_retry_write(b);
    else
        s->trouble = errno;
    return -1;
}

WEFT_INLINE int weft_tls_pull(BIO *b, char *p, int n) {
    weft_tls *s = (weft_tls *)BIO_get_data(b);
    const ssize_t got = recv(s->fd, p, (size_t)n, MSG_DONTWAIT);
    BIO_clear_retry_flags(b);
    if (got > 0 && s->first < 0) s->first = (unsigned char)*p;
    if (got > 0) return (int)got;
    if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)) {
        BIO_set_retry_read(b);
        return -1;
    }
    s->trouble = got < 0 ? errno : 0;
    s->ended = 1;
    return 0;
}

WEFT_INLINE long weft_tls_control(BIO *b, int what, long n, void *p) {
    (void)n;
    (void)p;
    if (what == BIO_CTRL_EOF) return ((weft_tls *)BIO_get_data(b))->ended;
    return what == BIO_CTRL_FLUSH;
}

/* ---- Whose certificate it is ---- */

/* The common name into `name`, with ? for what cannot be printed. Returns whether it is "rank-N", and which. */
WEFT_INLINE int weft_tls_whose(X509 *c, char name[WEFT_TLS_NAME], uint32_t *rank) {
    X509_NAME *subject = c ? X509_get_subject_name(c) : NULL;
    const int first = subject ? X509_NAME_get_index_by_NID(subject, NID_commonName, -1) : -1;
    const ASN1_STRING *text;
    const unsigned char *p;
    char canonical[WEFT_TLS_NAME];
    unsigned long n = 0;
    int i, bytes;
    snprintf(name, WEFT_TLS_NAME, "somebody without a name");
    if (first < 0) return 0;
    text = X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, first));
    p = ASN1_STRING_get0_data(text);
    bytes = ASN1_STRING_length(text);
    for (i = 0; i < bytes && i < WEFT_TLS_NAME - 1; i++) name[i] = p[i] > 32 && p[i] < 127 ? (char)p[i] : '?';
    name[i] = 0;
    if (X509_NAME_get_index_by_NID(subject, NID_commonName, first) >= 0 || bytes > 15) return 0;
    for (i = 5; i < bytes; i++) n = n * 10 + (unsigned long)(p[i] - '0') % 10;
    snprintf(canonical, sizeof canonical, "rank-%lu", n);
    *rank = (uint32_t)n;
    return n < WEFT_NO_RANK && strlen(canonical) == (size_t)bytes && memcmp(canonical, p, (size_t)bytes) == 0;
}

/* What is wrong with a certificate, in words. */
WEFT_INLINE void weft_tls_blame(char *words, size_t room, X509 *c, int error) {
    char name[WEFT_TLS_NAME];
    uint32_t rank;
    struct tm day;
    weft_tls_whose(c, name, &rank);
    if (error == X509_V_ERR_CERT_HAS_EXPIRED && c && ASN1_TIME_to_tm(X509_get0_notAfter(c), &day))
        snprintf(words, room, "the certificate of %s has expired, on %d-%02d-%02d", name, day.tm_year + 1900,
                 day.tm_mon + 1, day.tm_mday);
    else if (error == X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY || error == X509_V_ERR_CERT_SIGNATURE_FAILURE ||
             error == X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT || error == X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN)
        snprintf(words, room, "the certificate of %s is not signed by this worker's authority", name);
    else
        snprintf(words, room, "the certificate of %s: %s", name, X509_verify_cert_error_string(error));
}

/* OpenSSL asks for each certificate on the way from the authority to the other side's own. */
WEFT_INLINE int weft_tls_verify(int good, X509_STORE_CTX *x) {
    SSL *ssl = (SSL *)X509_STORE_CTX_get_ex_data(x, SSL_get_ex_data_X509_STORE_CTX_idx());
    weft_tls *s = (weft_tls *)SSL_get_app_data(ssl);
    X509 *c = X509_STORE_CTX_get_current_cert(x);
    char name[WEFT_TLS_NAME];
    uint32_t rank = 0;
    if (!good) {
        weft_tls_blame(s->words, sizeof s->words, c, X509_STORE_CTX_get_error(x));
        return 0;
    }
    if (X509_STORE_CTX_get_error_depth(x) > 0) return 1;
    if (!weft_tls_whose(c, name, &rank) || rank >= s->tcp->size || rank == s->tcp->rank ||
        (s->expected != WEFT_NO_RANK && rank != s->expected)) {
        if (s->expected != WEFT_NO_RANK)
            snprintf(s->words, sizeof s->words, "expected the certificate of rank-%u, got that of %s",
                     (unsigned)s->expected, name);
        else
            snprintf(s->words, sizeof s->words,
                     "expected the certificate of one of rank-0 to rank-%u, but not of rank-%u, got that of %s",
                     (unsigned)s->tcp->size - 1, (unsigned)s->tcp->rank, name);
        X509_STORE_CTX_set_error(x, X509_V_ERR_HOSTNAME_MISMATCH);
        return 0;
    }
    s->rank = rank;
    s->known = 1;
    return 1;
}

/* ---- This worker's own ---- */

/* A key is never asked for on a terminal. */
WEFT_INLINE int weft_tls_no_password(char *p, int room, int writing, void *with) {
    (void)p;
    (void)room;
    (void)writing;
    (void)with;
    return -1;
}

WEFT_INLINE void weft_tls_unload(weft_tcp *t) {
    weft_tls_own *own = (weft_tls_own *)t->tls;
    if (!own) return;
    SSL_CTX_free(own->ctx);
    BIO_meth_free(own->way);
    free(own);
    t->tls = NULL;
}

/* One of the files: that of the option, or that of the folder. NULL: t->why says it. */
WEFT_INLINE FILE *weft_tls_file(weft_tcp *t, const char *given, const char *end, char *path, size_t room) {
    const char *folder = t->options.tls_folder;
    FILE *f = NULL;
    int n;
    if (given)
        n = snprintf(path, room, "%s", given);
    else if (folder && strcmp(end, "authority.pem") == 0)
        n = snprintf(path, room, "%s/%s", folder, end);
    else
        n = snprintf(path, room, "%s/rank-%u%s", folder ? folder : "", (unsigned)t->rank, end);
    if (!given && !folder) {
        snprintf(t->why, sizeof t->why, "TLS: expected a folder, or authority, certificate and key");
    } else if (n < 0 || (size_t)n >= room) {
        snprintf(t->why, sizeof t->why, "TLS: the name of a file is too long: %.200s", path);
    } else if ((f = fopen(path, "rb")) == NULL)
        snprintf(t->why, sizeof t->why, "%.300s: %.100s", path, strerror(errno));
    return f;
}

WEFT_INLINE int weft_tls_complain(weft_tcp *t, const char *path, const char *what) {
    snprintf(t->why, sizeof t->why, "%.300s: %.180s", path, what);
    return 0;
}

WEFT_INLINE int weft_tls_read_authority(weft_tcp *t, SSL_CTX *ctx) {
    char path[1024];
    FILE *f = weft_tls_file(t, t->options.authority, "authority.pem", path, sizeof path);
    X509 *c;
    int n = 0, ok = 1;
    if (!f) return 0;
    for (; ok && (c = PEM_read_X509(f, NULL, weft_tls_no_password, NULL)) != NULL; n++) {
        ok = X509_STORE_add_cert(SSL_CTX_get_cert_store(ctx), c);
        X509_free(c);
    }
    fclose(f);
    return (ok && n) || weft_tls_complain(t, path, "expected certificates as PEM");
}

/* The certificate, which must be one that the others will take. */
WEFT_INLINE int weft_tls_read_certificate(weft_tcp *t, SSL_CTX *ctx) {
    char path[1024], name[WEFT_TLS_NAME], words[WEFT_TCP_WORDS];
    FILE *f = weft_tls_file(t, t->options.certificate, ".pem", path, sizeof path);
    X509_STORE_CTX *x;
    X509 *c;
    uint32_t rank = 0;
    int ok = 0;
    if (!f) return 0;
    c = PEM_read_X509(f, NULL, weft_tls_no_password, NULL);
    fclose(f);
    x = X509_STORE_CTX_new();
    if (!c || !x || !X509_STORE_CTX_init(x, SSL_CTX_get_cert_store(ctx), c, NULL)) {
        weft_tls_complain(t, path, "expected a certificate as PEM");
    } else if (!weft_tls_whose(c, name, &rank) || rank != t->rank) {
        snprintf(words, sizeof words, "this worker is rank-%u, the certificate is that of %s", (unsigned)t->rank, name);
        weft_tls_complain(t, path, words);
    } else {
        X509_STORE_CTX_set_depth(x, 0);
        if (X509_verify_cert(x) != 1) {
            weft_tls_blame(words, sizeof words, c, X509_STORE_CTX_get_error(x));
            weft_tls_complain(t, path, words);
        } else
            ok = SSL_CTX_use_certificate(ctx, c) == 1 || weft_tls_complain(t, path, "OpenSSL does not take it");
    }
    X509_STORE_CTX_free(x);
    X509_free(c);
    return ok;
}

WEFT_INLINE int weft_tls_read_key(weft_tcp *t, SSL_CTX *ctx) {
    char path[1024];
    FILE *f = weft_tls_file(t, t->options.key, ".key", path, sizeof path);
    EVP_PKEY *k = NULL;
    struct stat st;
    int ok = 0;
    if (!f) return 0;
    if (fstat(fileno(f), &st) != 0 || st.st_mode & (S_IRWXG | S_IRWXO))
        weft_tls_complain(t, path, "a key that others can read is no secret: chmod 600, and better a new one");
    else if ((k = PEM_read_PrivateKey(f, NULL, weft_tls_no_password, NULL)) == NULL)
        weft_tls_complain(t, path, "expected a private key as PEM, without a password");
    else
        ok = SSL_CTX_use_PrivateKey(ctx, k) == 1 || weft_tls_complain(t, path, "it is not the key of the certificate");
    EVP_PKEY_free(k);
    fclose(f);
    return ok;
}

/* Reads the files, if the options name any. */
WEFT_INLINE weft_status weft_tls_load(weft_tcp *t) {
    weft_tls_own *own = (weft_tls_own *)calloc(1, sizeof *own);
    SSL_CTX *ctx;
    int ok;
    if (!own) return weft_tcp_say(t, WEFT_ERR_MEMORY, "out of memory", NULL);
    t->tls = own;
    ERR_clear_error();
    own->way = BIO_meth_new(BIO_TYPE_SOURCE_SINK, "weft");
    own->ctx = ctx = SSL_CTX_new(TLS_method());
    if (!own->way || !ctx || !BIO_meth_set_write(own->way, weft_tls_push) ||
        !BIO_meth_set_read(own->way, weft_tls_pull) || !BIO_meth_set_ctrl(own->way, weft_tls_control) ||
        !SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION) || !SSL_CTX_set_max_proto_version(ctx, TLS1_3_VERSION) ||
        !SSL_CTX_set_ciphersuites(
            ctx, "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256") ||
        /* a stranger picks the group: those of finite fields would cost 0.1 s of the caller's time a ClientHello */
        !SSL_CTX_set1_groups_list(ctx, "X25519:P-256:P-384") || !SSL_CTX_set_num_tickets(ctx, 0) ||
        !SSL_CTX_set_max_early_data(ctx, 0)) {
        ERR_clear_error();
        weft_tls_unload(t);
        return weft_tcp_say(t, WEFT_ERR_TRANSPORT, "OpenSSL has no TLS 1.3 here", NULL);
    }
    SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET | SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    /* a send that is cancelled goes on from a copy */
    SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_NO_AUTO_CHAIN);
    SSL_CTX_set_read_ahead(ctx, 1);
    SSL_CTX_set_default_read_buffer_len(ctx, 65536);
    SSL_CTX_set_max_cert_list(ctx, 16384);
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, weft_tls_verify);
    SSL_CTX_set_verify_depth(ctx, 0); /* nobody between the authority and a worker */
    ok = weft_tls_read_authority(t, ctx) && weft_tls_read_certificate(t, ctx) && weft_tls_read_key(t, ctx);
    ERR_clear_error();
    if (ok) return WEFT_OK;
    weft_tls_unload(t);
    return WEFT_ERR_ARGUMENT;
}

/* ---- A connection ---- */

WEFT_INLINE void weft_tls_end(weft_tcp_wire *w) {
    weft_tls *s = (weft_tls *)w->tls;
    if (!s) return;
    SSL_free(s->ssl);
    free(s);
    w->tls = NULL;
}

/* For a socket that is connected. peer: whom this side has connected to; WEFT_NO_RANK: who has connected says who it
 * is. 0: no memory. */
WEFT_INLINE int weft_tls_begin(const weft_tcp *t, weft_tcp_wire *w, uint32_t peer) {
    const weft_tls_own *own = (const weft_tls_own *)t->tls;
    weft_tls *s = (weft_tls *)calloc(1, sizeof *s);
    BIO *b;
    if (!s) return 0;
    w->tls = s;
    s->tcp = t;
    s->fd = w->fd;
    s->expected = peer;
    s->first = -1;
    s->ssl = SSL_new(own->ctx);
    b = s->ssl ? BIO_new(own->way) : NULL;
    if (!b) {
        weft_tls_end(w);
        return 0;
    }
    BIO_set_data(b, s);
    BIO_set_init(b, 1);
    SSL_set_bio(s->ssl, b, b);
    SSL_set_app_data(s->ssl, s);
    if (peer == WEFT_NO_RANK)
        SSL_set_accept_state(s->ssl);
    else
        SSL_set_connect_state(s->ssl);
    return 1;
}

/* Why it does not go on. */
WEFT_INLINE void weft_tls_explain(weft_tls *s, int error) {
    const unsigned long e = ERR_peek_last_error();
    const int reason = error == SSL_ERROR_SSL && ERR_GET_LIB(e) == ERR_LIB_SSL ? ERR_GET_REASON(e) : 0;
    const char *text = ERR_reason_error_string(e), *what = NULL;
    if (s->words[0]) return;
    if (reason > SSL_AD_REASON_OFFSET && reason < SSL_AD_REASON_OFFSET + 256) {
        snprintf(s->words, sizeof s->words, "it does not take this worker (rank-%u): %.80s", (unsigned)s->tcp->rank,
                 text ? text : "alert");
        return;
    }
    if (s->known && error == SSL_ERROR_SSL && !s->ended)
        what = text;
    else if (s->first == WEFT_TCP_HELLO)
        what = "it speaks plaintext, and TLS is expected here";
    else if (s->first >= 0 && s->first != 0x16 && s->first != 0x15 && !s->known)
        what = "it speaks neither TLS nor what weft_tcp.h does";
    else if (reason == SSL_R_UNSUPPORTED_PROTOCOL || reason == SSL_R_WRONG_SSL_VERSION)
        what = "it speaks an older TLS, and 1.3 is expected here";
    else if (reason == SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE)
        what = "it shows no certificate";
    else if (s->trouble && s->trouble != EPIPE && s->trouble != ECONNRESET)
        what = strerror(s->trouble);
    else if (s->ended || s->trouble)
        what = s->known        ? "the connection was cut off"
               : s->first < 0 ? "it hung up before it had said anything: does it expect plaintext?"
                              : "it hung up in the middle of the handshake";
    else
        what = text;
    snprintf(s->words, sizeof s->words, "%s", what ? what : "TLS failed");
}

/* What a call that did nothing waits for; 0: it failed, and s->words says how. */
WEFT_INLINE short weft_tls_needs(weft_tls *s, int r) {
    const int error = SSL_get_error(s->ssl, r);
    if (error == SSL_ERROR_WANT_READ) return POLLIN;
    if (error == SSL_ERROR_WANT_WRITE) return POLLOUT;
    /* where the socket does not take any more, there may be an answer to be read that says why */
    if (error != SSL_ERROR_ZERO_RETURN && (s->ended || error == SSL_ERROR_SSL)) weft_tls_explain(s, error);
    return 0;
}

/* 1: the other side is who it says; 0: not yet, see w->read_needs; -1: it is not. */
WEFT_INLINE int weft_tls_shake(weft_tcp_wire *w) {
    weft_tls *s = (weft_tls *)w->tls;
    int r;
    ERR_clear_error();
    r = SSL_do_handshake(s->ssl);
    if (r != 1) {
        w->read_needs = weft_tls_needs(s, r);
        if (!w->read_needs) weft_tls_explain(s, SSL_ERROR_SYSCALL);
        ERR_clear_error();
        if (w->read_needs) return 0;
        /* OpenSSL does not answer what is no TLS: fatal alert, protocol version */
        if (s->first == WEFT_TCP_HELLO) (void)!send(s->fd, "\x15\x03\x03\0\2\2\x46", 7, MSG_NOSIGNAL | MSG_DONTWAIT);
        return -1;
    }
    ERR_clear_error();
    w->read_needs = POLLIN;
    if (s->known && SSL_get_verify_result(s->ssl) == X509_V_OK) return 1;
    snprintf(s->words, sizeof s->words, "it shows no certificate");
    return -1;
}

/* Is it the worker of this rank, by its certificate? */
WEFT_INLINE int weft_tls_is(const weft_tcp_wire *w, uint32_t rank) {
    const weft_tls *s = (const weft_tls *)w->tls;
    return s && s->known && s->rank == rank;
}

/* Bytes that have left the socket and have not been read. */
WEFT_INLINE int weft_tls_holds(const weft_tcp_wire *w) {
    const weft_tls *s = (const weft_tls *)w->tls;
    return s && SSL_has_pending(s->ssl);
}

/* What went wrong, if anything did. */
WEFT_INLINE void weft_tls_words(const weft_tcp_wire *w, char words[WEFT_TCP_WORDS]) {
    const weft_tls *s = (const weft_tls *)w->tls;
    if (s && s->words[0]) memcpy(words, s->words, WEFT_TCP_WORDS);
}

/* As weft_tcp_push. What is short goes as one record; long payloads go from where they are. */
WEFT_INLINE ssize_t weft_tls_send(weft_tcp_wire *w, const struct iovec *part, int parts) {
    weft_tls *s = (weft_tls *)w->tls;
    unsigned char together[WEFT_TLS_RECORD];
    size_t at = 0; /* within the first part */
    ssize_t sent = 0;
    while (parts) {
        const unsigned char *from = (const unsigned char *)part->iov_base + at;
        size_t n = part->iov_len - at, done = 0;
        int i, r;
        if (n < sizeof together) {
            memcpy(together, from, n);
            for (i = 1; i < parts && n < sizeof together; i++) {
                const size_t left = sizeof together - n, more = part[i].iov_len < left ? part[i].iov_len : left;
                memcpy(together + n, part[i].iov_base, more);
                n += more;
            }
            from = together;
        }
        ERR_clear_error();
        r = SSL_write_ex(s->ssl, from, n, &done);
        if (r != 1) {
            const short needs = weft_tls_needs(s, r);
            ERR_clear_error();
            if (needs) w->write_needs = needs;
            if (sent) break;
            return needs || s->trouble ? -1 : -2;
        }
        w->write_needs = POLLOUT;
        sent += (ssize_t)done;
        for (at += done; parts && at >= part->iov_len; parts--) at -= part++->iov_len;
    }
    return sent;
}

/* As weft_tcp_pull. */
WEFT_INLINE ssize_t weft_tls_recv(weft_tcp_wire *w, const struct iovec *part, int parts) {
    weft_tls *s = (weft_tls *)w->tls;
    ssize_t got = 0;
    size_t at = 0;
    int records;
    for (records = 0; parts && records < 16; records++) {
        size_t n = 0;
        int r;
        ERR_clear_error();
        r = SSL_read_ex(s->ssl, (unsigned char *)part->iov_base + at, part->iov_len - at, &n);
        if (r != 1) {
            const short needs = weft_tls_needs(s, r);
            ERR_clear_error();
            if (needs) w->read_needs = needs;
            if (got) break;
            if (needs) return -1;
            errno = s->trouble ? s->trouble : EPROTO;
            return SSL_get_shutdown(s->ssl) & SSL_RECEIVED_SHUTDOWN && !s->words[0] ? 0 : -2;
        }
        w->read_needs = POLLIN;
        got += (ssize_t)n;
        for (at += n; parts && at >= part->iov_len; parts--) at -= part++->iov_len;
    }
    return got;
}

/* Nothing more comes from here. 1: the other side will know. */
WEFT_INLINE int weft_tls_part(weft_tcp_wire *w) {
    weft_tls *s = (weft_tls *)w->tls;
    int r, ok;
    ERR_clear_error();
    r = SSL_shutdown(s->ssl);
    ok = r >= 0 || !weft_tls_needs(s, r);
    ERR_clear_error();
    return ok;
}

#endif /* WEFT_TLS_H */
