/* SPDX-License-Identifier: MIT
 * Stands in for examples/pool/weft_pthread_pool.h on machines without threads: the indices of a loop come in an order
 * that depends on the number of threads asked for. */
#ifndef WEFT_PTHREAD_POOL_H
#define WEFT_PTHREAD_POOL_H

typedef struct weft_pthread_pool {
    weft_pool pool;
    size_t threads;
} weft_pthread_pool;

WEFT_FN void weft_pthread_pool_for(void *ctx, size_t n, weft_pool_body body, void *arg) {
    const size_t threads = ((const weft_pthread_pool *)ctx)->threads;
    size_t first, i;
    for (first = threads; first-- > 0;)
        for (i = first; i < n; i += threads) body(arg, i);
}

WEFT_FN weft_status weft_pthread_pool_create(weft_pthread_pool *p, size_t threads) {
    memset(p, 0, sizeof *p);
    p->pool.ctx = p;
    p->pool.parallel_for = weft_pthread_pool_for;
    p->threads = threads;
    return WEFT_OK;
}

WEFT_FN void weft_pthread_pool_destroy(weft_pthread_pool *p) { (void)p; }

#endif
