/* SPDX-License-Identifier: MIT
 * libFuzzer: lists of workers, as a file or WEFT_PEERS has them. Input: a rank, and text. A list that is taken has for
 * each worker a name and a port that a resolver can be asked for; written out plainly and read again it is the same one
 * (all workers must agree about it: they compare its hash). One that is refused says in which line. */
#define GRAWA_IMPLEMENTATION
#include "../grawa.h"
#include "transports/weft_tcp.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void need(int ok, const char *why) {
    if (ok) return;
    fprintf(stderr, "%s\n", why);
    abort();
}

enum { MOST = 8192 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static weft_tcp t, again;
    char *text, *plain;
    uint32_t i;
    if (!size || size > MOST) return 0;
    text = (char *)malloc(size); /* exactly so long: the sanitizer watches */
    need(text != NULL, "memory");
    memcpy(text, data + 1, size - 1);
    text[size - 1] = 0;
    weft_tcp_blank(&t);
    t.options.rank = data[0];
    if (weft_tcp_read_list(&t, text) == WEFT_OK) {
        size_t used = 0;
        const size_t room = (size_t)t.size * (sizeof t.address[0] + 4) + 1;
        need(t.size > t.options.rank && t.rank == t.options.rank && t.hash, "rank");
        plain = (char *)malloc(room);
        need(plain != NULL, "memory");
        for (i = 0; i < t.size; i++) {
            const weft_tcp_address *a = &t.address[i];
            const char *p;
            const long port = strtol(a->port, NULL, 10);
            need(a->host[0] && memchr(a->host, 0, sizeof a->host) != NULL, "a worker without a name");
            need(a->port[0] && port > 0 && port < 65536 && a->port[0] != '0', "a port");
            for (p = a->host; *p; p++) need(*p != ',' && *p != '\n' && *p != '#', "a name in several pieces");
            used += (size_t)snprintf(plain + used, room - used, strchr(a->host, ':') ? "[%s]:%s\n" : "%s:%s\n", a->host,
                                     a->port);
        }
        weft_tcp_blank(&again);
        again.options.rank = data[0];
        need(weft_tcp_read_list(&again, plain) == WEFT_OK && again.size == t.size && again.hash == t.hash,
             "the same list is another one");
        weft_tcp_close(&again);
        free(plain);
    } else {
        need(strstr(t.why, "line ") || strstr(t.why, "rank "), "it does not say what is wrong");
    }
    weft_tcp_close(&t);
    free(text);
    return 0;
}
