/* SPDX-License-Identifier: MIT
 * hpsgd_lock.h: for tests: N workers with HPSGD objects in one thread, in lock-step: all take a local step, then all
 * call hpsgd_step, until none has to wait. Gradients pull each worker towards targets of its own.
 *
 *     lock_desc d = lock_default(3);
 *     d.h.mode = HPSGD_FIXED;
 *     lock k;
 *     ok = lock_open(&k, &d) && lock_steps(&k, 7) && lock_drain(&k);
 *     if (!lock_close(&k)) puts(k.why);
 *
 * Include after ../grawa.h and ../hpsgd.h (with their IMPLEMENTATIONs). Nothing here depends on a test framework. */
#ifndef HPSGD_LOCK_H
#define HPSGD_LOCK_H

#include "cluster.h"

#define LOCK_MOST 8

typedef struct lock lock;
typedef struct lock_worker lock_worker;

typedef struct lock_desc {
    weft_sim_desc sim;
    hpsgd_desc h; /* for every worker; params and transport are filled in */
    size_t tensors;
    const size_t *count;
    const weft_dtype *dtype; /* NULL: f32 */
    int unequal;             /* initial parameters differ */
    int (*prepare)(lock_worker *w);
} lock_desc;

struct lock_worker {
    lock *k;
    uint32_t rank;
    weft_transport net;
    hpsgd_desc desc;
    hpsgd *h;
    unsigned char *memory;
    size_t bytes;
    weft_tensors params, out;
    weft_status status;
    uint64_t step;
    int gone;
};

struct lock {
    lock_desc desc;
    weft_sim sim;
    uint32_t size;
    lock_worker worker[LOCK_MOST];
    char why[600];
};

static const size_t lock_count[3] = {5, 0, 12};

static inline int lock_fail(lock *k, const char *format, ...) {
    va_list ap;
    if (k->why[0]) return 0;
    va_start(ap, format);
    vsnprintf(k->why, sizeof k->why, format, ap);
    va_end(ap);
    return 0;
}

static inline int lock_fail_status(lock_worker *w, const char *what) {
    const weft_detail *d = w->h ? hpsgd_detail(w->h) : NULL;
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
    d.h.struct_size = sizeof d.h;
    d.tensors = 3;
    d.count = lock_count;
    return d;
}

static inline int lock_init(lock_worker *w) {
    weft_detail why;
    w->bytes = hpsgd_memory(&w->desc, NULL);
    w->memory = (unsigned char *)malloc(w->bytes + 1 + CLUSTER_CANARY);
    memset(w->memory, 0xC3, w->bytes + 1);
    memset(w->memory + 1 + w->bytes, 0xA5, CLUSTER_CANARY);
    w->status = hpsgd_init_detail(&w->h, &w->desc, w->memory + 1, w->bytes, &why);
    if (w->status != WEFT_OK)
        return lock_fail(w->k, "worker %u: init: %s (%s)", w->rank, weft_strerror(w->status),
                         why.field ? why.field : "-");
    return 1;
}

static inline void lock_free(lock_worker *w) {
    if (w->h) hpsgd_close(w->h);
    w->h = NULL;
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
    for (r = 0; r < k->size; r++) {
        lock_worker *w = &k->worker[r];
        w->k = k;
        w->rank = r;
        w->params = cluster_tensors(d->tensors, d->count, d->dtype);
        w->out = cluster_tensors(d->tensors, d->count, d->dtype);
        cluster_fill(&w->params, 99 + (d->unequal ? r : 0), 1.0);
        weft_sim_transport(&k->sim, r, &w->net);
        w->desc = d->h;
        w->desc.params = w->params;
        w->desc.transport = &w->net;
        ok = ok && (!d->prepare || d->prepare(w)) && lock_init(w);
    }
    return ok;
}

static inline int lock_close(lock *k) {
    uint32_t r;
    for (r = 0; r < k->size; r++) {
        lock_worker *w = &k->worker[r];
        lock_free(w);
        if (!cluster_tensors_whole(&w->params) || !cluster_tensors_whole(&w->out))
            lock_fail(k, "worker %u: somebody wrote behind a tensor", r);
        cluster_tensors_free(&w->params);
        cluster_tensors_free(&w->out);
    }
    if (k->sim.worker && weft_sim_violation(&k->sim)) lock_fail(k, "%s", weft_sim_violation(&k->sim));
    if (k->sim.worker && weft_sim_outstanding(&k->sim)) lock_fail(k, "requests are left after close");
    if (k->sim.worker) weft_sim_free(&k->sim);
    return !k->why[0];
}

/* Messages move; no verb that touches a model. */
static inline void lock_pump(lock *k, int times) {
    uint32_t r;
    while (times--) {
        for (r = 0; r < k->size; r++)
            if (k->worker[r].h && !k->worker[r].gone) hpsgd_progress(k->worker[r].h);
        weft_sim_advance(&k->sim, 2000);
    }
}

/* Until nobody says WEFT_AGAIN or WEFT_STALL any more. Errors stay in the status. */
static inline int lock_settle(lock *k) {
    uint32_t r, waiting = 1;
    int times;
    for (times = 0; waiting && times < 2000; times++) {
        weft_sim_advance(&k->sim, 2000);
        for (r = waiting = 0; r < k->size; r++) {
            lock_worker *w = &k->worker[r];
            if (w->gone || (w->status != WEFT_AGAIN && w->status != WEFT_STALL)) continue;
            w->status = hpsgd_poll(w->h);
            waiting += w->status == WEFT_AGAIN || w->status == WEFT_STALL;
        }
    }
    return waiting ? lock_fail(k, "it never settles") : 1;
}

static inline int lock_fine(lock *k, const char *what) {
    uint32_t r;
    for (r = 0; r < k->size; r++)
        if (!k->worker[r].gone && k->worker[r].status != WEFT_OK) return lock_fail_status(&k->worker[r], what);
    return 1;
}

#define LOCK_ALL(k, w, verb)                                                                                           \
    do {                                                                                                               \
        lock_worker *w = (k)->worker;                                                                                  \
        for (; w < (k)->worker + (k)->size; w++)                                                                       \
            if (!w->gone) w->status = (verb);                                                                          \
        if (lock_settle(k)) lock_fine(k, #verb);                                                                       \
    } while (0)

static inline double lock_target(uint32_t rank, uint64_t step, size_t i) {
    return (double)((rank * 7 + step * 3 + i) % 11) / 4 - 1;
}

/* One local step of SGD, each operation rounded to the type. */
static inline void lock_train(const weft_tensors *x, uint32_t rank, uint64_t step) {
    size_t t, i;
    for (t = 0; t < x->count; t++)
        for (i = 0; i < x->tensor[t].count; i++) {
            const weft_tensor *p = &x->tensor[t];
            double g = cluster_get(p, i) - lock_target(rank, step, i + 100 * t);
            if (p->dtype == WEFT_F64)
                cluster_set(p, i, cluster_get(p, i) - 0.0625 * g);
            else
                cluster_set(p, i, cluster_get(p, i) - (double)(float)(0.0625 * (double)(float)g));
        }
}

static inline int lock_step(lock *k) {
    uint32_t r;
    for (r = 0; r < k->size; r++)
        if (!k->worker[r].gone) lock_train(&k->worker[r].params, r, k->worker[r].step++);
    LOCK_ALL(k, w, hpsgd_step(w->h));
    return !k->why[0];
}

static inline int lock_steps(lock *k, uint64_t n) {
    while (n--)
        if (!lock_step(k)) return 0;
    return 1;
}

static inline int lock_drain(lock *k) {
    LOCK_ALL(k, w, hpsgd_drain(w->h));
    return !k->why[0];
}

/* The same parameters on all workers. */
static inline int lock_alike(lock *k) {
    uint32_t r;
    for (r = 1; r < k->size; r++)
        if (!k->worker[r].gone && !cluster_same_bits(&k->worker[0].params, &k->worker[r].params))
            return lock_fail(k, "workers 0 and %u differ", r);
    return 1;
}

/* A view of those who are not gone. */
static inline int lock_regroup(lock *k, uint32_t epoch) {
    uint32_t member[LOCK_MOST], n = 0, r;
    weft_view v;
    for (r = 0; r < k->size; r++)
        if (!k->worker[r].gone) member[n++] = r;
    v.struct_size = sizeof v;
    v.epoch = epoch;
    v.count = n;
    v.members = member;
    LOCK_ALL(k, w, hpsgd_regroup(w->h, &v));
    return !k->why[0];
}

#endif /* HPSGD_LOCK_H */
