/* SPDX-License-Identifier: MIT
 * object.h: serve.h's sums by weft's collective object, over send and recv of a transport between processes. */
#ifndef BENCH_OBJECT_H
#define BENCH_OBJECT_H

#ifndef WEFT_VERSION
#error "include a weft header and the transport before object.h"
#endif

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static weft_transport object_net;
static weft_algorithm object_algorithm;
static weft_collective *object_now;
static void *object_memory;
static weft_tensor object_tensor;

static void object_must(weft_status s, const char *what) {
    if (s == WEFT_OK) return;
    fprintf(stderr, "%s: %s\n", what, weft_strerror(s));
    exit(1);
}

/* All have come: by messages on a tag that no object has. */
static void object_barrier(void) {
    weft_request q[2];
    weft_status s;
    uint32_t i;
    int k;
    for (i = 1; i < object_net.size; i++) {
        const uint32_t to = (object_net.rank + i) % object_net.size;
        const uint32_t from = (object_net.rank + object_net.size - i) % object_net.size;
        memset(q, 0, sizeof q);
        object_must(object_net.recv(object_net.ctx, from, 32767, NULL, 0, &q[0]), "barrier");
        object_must(object_net.send(object_net.ctx, to, 32767, NULL, 0, &q[1]), "barrier");
        for (k = 0; k < 2; k++) {
            while ((s = object_net.test(object_net.ctx, &q[k])) == WEFT_AGAIN)
                object_net.wait(object_net.ctx, UINT64_MAX);
            object_must(s, "barrier");
        }
    }
}

/* Another vector, another object: on another channel, since others may still hear the old one's last messages. */
static void object_for(float *x, size_t count) {
    static uint32_t channel;
    weft_collective_desc d;
    weft_detail detail;
    size_t bytes;
    if (object_now) {
        if (object_tensor.data == x && object_tensor.count == count) return;
        object_barrier();
        weft_collective_close(object_now);
        free(object_memory);
    }
    object_tensor.data = x;
    object_tensor.count = count;
    object_tensor.dtype = WEFT_F32;
    memset(&d, 0, sizeof d);
    d.struct_size = sizeof d;
    d.tensors.tensor = &object_tensor;
    d.tensors.count = 1;
    d.transport = &object_net;
    d.algorithm = object_algorithm;
    d.channel = channel++ % (WEFT_CHANNELS - 1);
    bytes = weft_collective_memory(&d, NULL);
    object_memory = malloc(bytes);
    object_must(weft_collective_init(&object_now, &d, object_memory, bytes, &detail), "collective");
}

static void object_all_reduce(float *x, size_t count) {
    weft_status s;
    object_for(x, count);
    s = weft_collective_begin(object_now, WEFT_OP_ALL_REDUCE, NULL, 0);
    while (s == WEFT_AGAIN) {
        object_net.wait(object_net.ctx, UINT64_MAX);
        s = weft_collective_poll(object_now);
    }
    object_must(s, "all-reduce");
}

#endif
