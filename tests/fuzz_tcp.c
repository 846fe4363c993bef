/* SPDX-License-Identifier: MIT
 * libFuzzer: what comes over a TCP connection, and lists of workers. Input is a program: posts and cancels of receives
 * and sends, hellos, frames with a sound checksum of any contents, and plain bytes; the other side is played by the
 * input. Buffers must stay what their requests say, and every request must come to an end. */
#define GRAWA_IMPLEMENTATION
#include "../grawa.h"
#include "transports/weft_tcp.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { REQUESTS = 8, ROOM = 40000, PEER = 1 };

static void need(int ok, const char *why) {
    if (ok) return;
    fprintf(stderr, "%s\n", why);
    abort();
}

typedef struct posted {
    weft_request q;
    int live;
    size_t room;
    unsigned char *at; /* exactly so long: the sanitizer watches */
} posted;

/* Bytes as if they had been read from the socket. 0: the connection has been given up. */
static int feed(weft_tcp *t, const unsigned char *p, size_t n) {
    weft_tcp_link *l = &t->link[PEER];
    while (n) {
        size_t m = WEFT_TCP_BUFFER - l->end;
        if (m > n) m = n;
        memcpy(l->buffer + l->end, p, m);
        l->end += m;
        p += m;
        n -= m;
        if (weft_tcp_parse(t, l, PEER)) continue;
        weft_tcp_drop(t, l, EPROTO);
        return 0;
    }
    return 1;
}

static void wire(const uint8_t *data, size_t size) {
    static weft_tcp t;
    posted q[REQUESTS];
    weft_tcp_link *l;
    size_t i;
    int up = 1;
    weft_tcp_blank(&t);
    memset(q, 0, sizeof q);
    need(weft_tcp_read_list(&t, "127.0.0.1:1,127.0.0.1:2") == WEFT_OK, "list");
    t.options.linger_ns = 1;
    l = &t.link[PEER];
    l->state = WEFT_TCP_UP;
    l->connects = 0;
    l->sums = size && data[0] & 1;
    while (size >= 4) {
        posted *r = &q[data[1] % REQUESTS];
        const uint32_t tag = data[2] & 3u;
        const size_t n = (size_t)data[3] * (data[2] & 128 ? 157 : 1);
        const unsigned op = data[0] % 7;
        data += 4;
        size -= 4;
        if (op <= 1 && !r->live) {
            r->room = n;
            r->at = (unsigned char *)malloc(n ? n : 1);
            need(r->at != NULL, "memory");
            memset(r->at, 0, n);
            r->live = (op == 0 ? weft_tcp_recv(&t, PEER, tag, r->at, n, &r->q)
                               : weft_tcp_send(&t, PEER, tag, r->at, n, &r->q)) == WEFT_OK;
            if (!r->live) free(r->at);
        } else if (op == 2 && r->live) {
            weft_tcp_cancel(&t, &r->q);
            r->live = 0;
            free(r->at);
        } else if (op == 3 && r->live) {
            weft_tcp_op *o = (weft_tcp_op *)r->q.word[0];
            if (o->over) {
                const weft_status s = weft_tcp_test(&t, &r->q);
                need(s == WEFT_OK || s == WEFT_ERR_TRUNCATED || s == WEFT_ERR_PEER_LOST, "status");
                need(s != WEFT_OK || r->q.bytes <= r->room, "length");
                r->live = 0;
                free(r->at);
            }
        } else if (op == 4 && up) { /* a frame of any contents whose head is sound, and maybe its payload */
            unsigned char head[WEFT_TCP_HEAD], *payload = (unsigned char *)calloc(1, n + 4);
            const unsigned kind = size ? data[0] % 6 : 2;
            need(payload != NULL, "memory");
            weft_tcp_head(&t, head, kind, l->sums ? WEFT_TCP_SUM : 0, tag, n);
            up = feed(&t, head, sizeof head);
            if (up && kind == WEFT_TCP_DATA) {
                weft_tcp_put(payload + n, 4, weft_tcp_crc(&t, 0, payload, n));
                up = feed(&t, payload, n + (l->sums ? 4 : 0));
            }
            free(payload);
        } else if (op == 5 && up) { /* whatever */
            const size_t m = n < size ? n : size;
            up = feed(&t, data, m);
            data += m;
            size -= m;
        } else if (op == 6 && l->state == WEFT_TCP_UP && !l->out.busy) { /* as if it had gone out */
            if (weft_tcp_choose(&t, l)) {
                l->out.busy = 0;
                if (l->out.op) weft_tcp_finish(&t, l->out.op, WEFT_OK);
                l->out.op = NULL;
            }
        }
        need(l->early_bytes <= WEFT_TCP_EARLY, "kept too much");
    }
    if (l->state == WEFT_TCP_UP) weft_tcp_drop(&t, l, 0);
    for (i = 0; i < REQUESTS; i++)
        if (q[i].live) {
            need(((weft_tcp_op *)q[i].q.word[0])->over, "a request outlives its connection");
            weft_tcp_cancel(&t, &q[i].q);
            free(q[i].at);
        }
    weft_tcp_close(&t);
}

static void peers(const uint8_t *data, size_t size) {
    char *text = (char *)malloc(size + 1);
    static weft_tcp t;
    need(text != NULL, "memory");
    memcpy(text, data, size);
    text[size] = 0;
    weft_tcp_blank(&t);
    if (size < 4096 && weft_tcp_read_list(&t, text) == WEFT_OK) need(t.size >= 1 && t.address[0].port[0], "address");
    weft_tcp_close(&t);
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size && data[0] == '@')
        peers(data + 1, size - 1);
    else
        wire(data, size);
    return 0;
}
