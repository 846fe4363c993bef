/* SPDX-License-Identifier: MIT
 * peer_tcp.c: ours between processes over weft_tcp.h. One process a rank:   peer_tcp RANK LIST auto|ring   where LIST
 * has the addresses of all. Compiled with plain -O2 and no -march. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#define GRAWA_IMPLEMENTATION
#include "grawa.h"
#include "transports/weft_tcp.h"

#include "object.h"
#include "place.h"
#include "serve.h"

int main(int argc, char **argv) {
    static weft_tcp tcp;
    char line[SERVE_LINE];
    weft_tcp_options o;
    serve s;
    if (argc != 4) return 2;
    memset(&o, 0, sizeof o);
    memset(&s, 0, sizeof s);
    o.rank = (uint32_t)atoi(argv[1]);
    o.peers = argv[2];
    object_algorithm = strcmp(argv[3], "ring") ? WEFT_ALGORITHM_AUTO : WEFT_ALGORITHM_RING;
    if (weft_tcp_open(&tcp, &object_net, &o) != WEFT_OK || weft_tcp_join(&tcp) != WEFT_OK) {
        fprintf(stderr, "bench-peer-tcp: %s\n", tcp.why);
        return 1;
    }
    s.rank = (int)object_net.rank;
    s.ranks = (int)object_net.size;
    s.hello = "weft_tcp.h";
    s.all_reduce = object_all_reduce;
    s.barrier = object_barrier;
    place(s.rank, s.ranks);
    while (fgets(line, sizeof line, stdin) && serve_command(&s, line)) continue;
    object_barrier(); /* nobody hangs up while another one still sums */
    weft_tcp_close(&tcp);
    free(s.x);
    return 0;
}
