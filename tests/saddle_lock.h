/* SPDX-License-Identifier: MIT
 * saddle_lock.h: for tests: N workers with SADDLe objects in one thread over a simulated network, in lock-step: all
 * take a step, gradients as they are wanted, until all are done with it.
 *
 *     lock_desc d = lock_default(4);
 *     d.s.variant = SADDLE_N;
 *     lock k;
 *     ok = lock_open(&k, &d) && lock_steps(&k, 7);
 *     if (!lock_close(&k)) puts(k.why);
 *
 * Include after ../grawa.h and ../saddle.h (with their IMPLEMENTATIONs). Nothing here depends on a test framework. */
#ifndef SADDLE_LOCK_H
#define SADDLE_LOCK_H

#include "cluster.h"

#define LOCK_MOST 16

typedef struct lock lock;
typedef struct lock_worker lock_worker;

typedef weft_status (*lock_make_graph)(weft_graph *graph, uint32_t workers, void *memory, size_t bytes);

typedef struct lock_desc {
    weft_sim_desc sim;
    saddle_desc s; /* for every worker; params, transport and graph are filled in */
    lock_make_graph graph;
    size_t tensors;
    const size_t *count;
    const weft_dtype *dtype; /* NULL: f32 */
    int unequal;             /* initial parameters differ */
    int (*prepare)(lock_worker *w);
    void (*gradient)(lock_worker *w, const saddle_want *want); /* NULL: lock_pull */
    void *user;
} lock_desc;

struct lock_worker {
    lock *k;
    uint32_t rank;
    weft_transport net;
    saddle_desc desc;
    saddle *x;
    unsigned char *memory;
    size_t bytes;
    weft_tensors params;
    weft_status status;
    uint64_t step, asked;
    int gone;
};

struct lock {
    lock_desc desc;
    weft_sim sim;
    weft_graph graph;
    void *graph_memory;
    uint32_t size;
    lock_worker worker[LOCK_MOST];
    char why[600];
};

static const size_t lock_count[4] = {5, 0, 300, 12};

static inline int lock_fail(lock *k, const char *format, ...) {
    va_list ap;
    if (k->why[0]) return 0;
    va_start(ap, format);
    vsnprintf(k->why, sizeof k->why, format, ap);
    va_end(ap);
    return 0;
}

static inline int lock_fail_status(lock_worker *w, const char *what) {
    const weft_detail *d = w->x ? saddle_detail(w->x) : NULL;
    return lock_fail(w->k, "worker %u: %s: %s (peer %ld, phase %s, field %s, expected %llu, got %llu)", w->rank, what,
                     weft_strerror(w->status), d ? (long)(int32_t)d->peer : -1L, d && d->phase ? d->phase : "-",
                     d && d->field ? d->field : "-", d ? (unsigned long long)d->expected : 0,
                     d ? (unsigned long long)d->got : 0);
}

static inline lock_desc lock_default(uint32_t workers) {
    lock_desc d;
    memset(&d, 0, sizeof d);
    d.sim.seed = 1;
    d.sim.size = workers;
    d.sim.watch = d.sim.scribble = 1;
    d.sim.latency_ns = 1000;
    d.s.struct_size = sizeof d.s;
    d.s.learning_rate = 0.0625;
    d.graph = weft_graph_ring;
    d.tensors = 4;
    d.count = lock_count;
    return d;
}

static inline int lock_init(lock_worker *w) {
    weft_detail why;
    w->bytes = saddle_memory(&w->desc, NULL);
    w->memory = (unsigned char *)malloc(w->bytes + 1 + CLUSTER_CANARY);
    memset(w->memory, 0xC3, w->bytes + 1);
    memset(w->memory + 1 + w->bytes, 0xA5, CLUSTER_CANARY);
    w->status = saddle_init_detail(&w->x, &w->desc, w->memory + 1, w->bytes, &why);
    if (w->status != WEFT_OK)
        return lock_fail(w->k, "worker %u: init: %s (%s)", w->rank, weft_strerror(w->status),
                         why.field ? why.field : "-");
    return 1;
}

static inline void lock_free(lock_worker *w) {
    if (w->x) saddle_close(w->x);
    w->x = NULL;
    if (w->memory && !cluster_canary(w->memory + 1 + w->bytes))
        lock_fail(w->k, "worker %u wrote behind its memory", w->rank);
    free(w->memory);
    w->memory = NULL;
}

static inline int lock_open(lock *k, const lock_desc *d) {
    uint32_t r;
    int ok = 1;
    memset(k, 0, sizeof *k);
    k->desc = *d;
    k->size = d->sim.size;
    if (weft_sim_init(&k->sim, &k->desc.sim) != WEFT_OK) return lock_fail(k, "no simulated network");
    d->graph(&k->graph, k->size, NULL, 0);
    k->graph_memory = malloc(k->graph.bytes);
    if (d->graph(&k->graph, k->size, k->graph_memory, k->graph.bytes) != WEFT_OK) return lock_fail(k, "no graph");
    for (r = 0; r < k->size; r++) {
        lock_worker *w = &k->worker[r];
        w->k = k;
        w->rank = r;
        w->params = cluster_tensors(d->tensors, d->count, d->dtype);
        cluster_fill(&w->params, 99 + (d->unequal ? r : 0), 1.0);
        weft_sim_transport(&k->sim, r, &w->net);
        w->desc = d->s;
        w->desc.params = w->params;
        w->desc.transport = &w->net;
        w->desc.graph = &k->graph;
        if (d->unequal) w->desc.initial = SADDLE_INITIAL_KEEP;
        ok = ok && (!d->prepare || d->prepare(w)) && lock_init(w);
    }
    return ok;
}

static inline int lock_close(lock *k) {
    uint32_t r;
    for (r = 0; r < k->size; r++) {
        lock_worker *w = &k->worker[r];
        lock_free(w);
        if (!cluster_tensors_whole(&w->params)) lock_fail(k, "worker %u: somebody wrote behind a tensor", r);
        cluster_tensors_free(&w->params);
    }
    free(k->graph_memory);
    if (k->sim.worker && weft_sim_violation(&k->sim)) lock_fail(k, "%s", weft_sim_violation(&k->sim));
    if (k->sim.worker && weft_sim_outstanding(&k->sim)) lock_fail(k, "requests are left after close");
    if (k->sim.worker) weft_sim_free(&k->sim);
    return !k->why[0];
}

static inline double lock_target(uint32_t rank, uint64_t step, size_t i) {
    return (double)((rank * 7 + step * 3 + i) % 11) / 4 - 1;
}

/* The gradient of a quadratic of the worker's own, whose curvature differs from element to element. */
static inline void lock_pull(lock_worker *w, const saddle_want *want) {
    size_t t, i;
    for (t = 0; t < want->at.count; t++)
        for (i = 0; i < want->at.tensor[t].count; i++)
            cluster_set(&want->into.tensor[t], i,
                        (1 + (double)((i + w->rank) % 3)) *
                            (cluster_get(&want->at.tensor[t], i) - lock_target(w->rank, w->step, i + 100 * t)));
}

/* Goes on with its step as far as it can; 1 if the step is over (or has failed). */
static inline int lock_go(lock_worker *w) {
    saddle_want want;
    int times;
    for (times = 0; times < 1000; times++) {
        w->status = saddle_next(w->x, &want);
        if (w->status != WEFT_WANT_GRADIENT) break;
        w->asked++;
        if (w->k->desc.gradient)
            w->k->desc.gradient(w, &want);
        else
            lock_pull(w, &want);
    }
    if (w->status == WEFT_OK) w->step++;
    return w->status != WEFT_AGAIN;
}

/* One step of all who are not gone. */
static inline int lock_step(lock *k) {
    int done[LOCK_MOST] = {0}, times;
    uint32_t r, left = 1;
    for (times = 0; left && times < 20000; times++) {
        for (r = left = 0; r < k->size; r++) {
            lock_worker *w = &k->worker[r];
            if (w->gone || done[r]) {
                if (!w->gone) saddle_poll(w->x);
                continue;
            }
            done[r] = lock_go(w);
            if (done[r] && w->status < 0) return lock_fail_status(w, "step");
            left += !done[r];
        }
        if (left) weft_sim_advance(&k->sim, 1000);
    }
    return left ? lock_fail(k, "a step never ends") : 1;
}

static inline int lock_steps(lock *k, uint64_t n) {
    while (n--)
        if (!lock_step(k)) return 0;
    return 1;
}

/* Each takes steps for itself, until all have completed the one of this number. */
static inline int lock_run(lock *k, uint64_t until) {
    uint32_t r, left = 1;
    int times;
    for (times = 0; left && times < 20000; times++) {
        for (r = left = 0; r < k->size; r++) {
            lock_worker *w = &k->worker[r];
            if (w->gone) continue;
            if (w->x->step >= until) {
                saddle_poll(w->x);
                continue;
            }
            left++;
            if (lock_go(w) && w->status < 0) return lock_fail_status(w, "step");
        }
        weft_sim_advance(&k->sim, 1000);
    }
    return left ? lock_fail(k, "steps never end") : 1;
}

/* The same, where workers may be lost on the way. */
static inline int lock_run_living(lock *k, uint64_t until) {
    uint32_t r, left = 1;
    int times;
    for (times = 0; left && times < 20000; times++) {
        for (r = left = 0; r < k->size; r++) {
            lock_worker *w = &k->worker[r];
            if (!weft_sim_alive(&k->sim, r) || w->x->step >= until) continue;
            left++;
            if (lock_go(w) && w->status < 0 && weft_sim_alive(&k->sim, r)) return lock_fail_status(w, "step");
        }
        weft_sim_advance(&k->sim, 1000);
    }
    return left ? lock_fail(k, "steps never end") : 1;
}

/* Messages move, and nobody takes a step. */
static inline void lock_pump(lock *k, int times) {
    uint32_t r;
    while (times--) {
        for (r = 0; r < k->size; r++)
            if (!k->worker[r].gone) k->worker[r].status = saddle_poll(k->worker[r].x);
        weft_sim_advance(&k->sim, 2000);
    }
}

/* The mean over the workers of an element. */
static inline double lock_mean(const lock *k, size_t tensor, size_t i) {
    double sum = 0;
    uint32_t r, n = 0;
    for (r = 0; r < k->size; r++) {
        if (k->worker[r].gone) continue;
        sum += cluster_get(&k->worker[r].params.tensor[tensor], i);
        n++;
    }
    return sum / n;
}

#endif /* SADDLE_LOCK_H */
