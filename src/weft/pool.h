/* SPDX-License-Identifier: MIT
 * pool.h: the host's threads, as two callbacks. Both are optional: without them everything runs on the calling
 * thread. */
#include "base.h"
/*==== API ====*/

typedef void (*weft_pool_body)(void *arg, size_t index);
typedef void (*weft_pool_task)(void *arg);

/* The results of the library are bit-identical with and without a pool, for any number of threads. Those run in the
 * default floating-point environment: init can only probe the thread that it is called on. */
typedef struct weft_pool {
    void *ctx;
    /* Calls body(arg, i) once for every i in [0, n), in any order, on any threads, and returns when all are done.
     * The bodies are independent and never call back into the library or the pool. NULL: serial. */
    void (*parallel_for)(void *ctx, size_t n, weft_pool_body body, void *arg);
    /* Starts task(arg) on another thread and returns at once; an error says that it was not started. NULL: not
     * available. Everything written before submit is visible to the task. */
    weft_status (*submit)(void *ctx, weft_pool_task task, void *arg);
} weft_pool;
/*==== IMPLEMENTATION ====*/

WEFT_FN void weft_parallel_for(const weft_pool *pool, size_t n, weft_pool_body body, void *arg) {
    size_t i;
    if (pool && pool->parallel_for && n > 1) {
        pool->parallel_for(pool->ctx, n, body, arg);
        return;
    }
    for (i = 0; i < n; i++) body(arg, i);
}
