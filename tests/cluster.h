/* SPDX-License-Identifier: MIT
 * cluster.h: for tests: N workers with GRAWA objects in one thread and in virtual time, each with its own parameters.
 *
 *     cluster_desc d = cluster_default(seed, 4);   // a quiet network; or set d.sim = weft_sim_torture(seed, 4)
 *     size_t count[] = {12, 0, 7};
 *     d.tensors = 3; d.count = count;
 *     d.grawa.period_steps = 2;                    // everything but params and transport
 *     cluster c;
 *     ok = cluster_open(&c, &d) && cluster_steps(&c, 6);
 *     if (!ok) puts(c.why);                        // names the seed
 *     cluster_close(&c);
 *
 * Three ways to drive the workers:
 *   cluster_steps  in lock-step: all take a local step, then all call grawa_step, until nothing is in progress
 *   cluster_run    each at its own pace in virtual time (w->step_ns), until it has taken so many steps
 *   by hand        CLUSTER_ALL(&c, w, grawa_average(w->g, ...)), or a verb of one worker into w->status, then
 *                  cluster_settle
 * and cluster_blocking for a worker that has a thread of its own.
 *
 * Include after ../grawa.h (with GRAWA_IMPLEMENTATION). Nothing here depends on a test framework. */
#ifndef CLUSTER_H
#define CLUSTER_H

#include "../examples/transports/weft_sim.h"
#include <stdarg.h>

/* ---- numbers ---- */

/* One draw of a generator of its own, so that a test's data do not depend on the network's. */
static inline uint64_t cluster_draw(uint64_t *state) {
    uint64_t z = *state += UINT64_C(0x9E3779B97F4A7C15);
    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}

/* Uniform in [-1, 1). */
static inline double cluster_uniform(uint64_t *state) {
    return (double)(cluster_draw(state) >> 11) * 0x1p-52 - 1.0;
}

/* 0 .. n-1 */
static inline uint32_t cluster_below(uint64_t *state, uint32_t n) {
    return (uint32_t)(cluster_draw(state) % n);
}

/* binary16 and bfloat16 by definition, to check the library's own conversions. */
static inline double cluster_of_half(uint16_t h) {
    int e = h >> 10 & 31, m = h & 1023;
    double v = e == 31 ? (m ? (double)NAN : (double)INFINITY) : e ? ldexp(1024 + m, e - 25) : ldexp(m, -24);
    return h & 0x8000 ? -v : v;
}

static inline uint16_t cluster_to_half(double v) {
    uint16_t sign = signbit(v) ? 0x8000 : 0;
    double a = fabs(v), r;
    int e;
    if (isnan(v)) return 0x7E00;
    if (isinf(v)) return (uint16_t)(sign | 0x7C00);
    (void)frexp(a, &e);
    if (e < -13) e = -13;
    r = nearbyint(ldexp(a, 11 - e)); /* in units of the last place */
    a = ldexp(r, e - 11);
    if (a >= 65520) return (uint16_t)(sign | 0x7C00);
    if (a < ldexp(1, -14)) return (uint16_t)(sign | (uint16_t)ldexp(a, 24));
    (void)frexp(a, &e);
    return (uint16_t)(sign | (uint16_t)((e + 14) << 10) | (uint16_t)(ldexp(a, 11 - e) - 1024));
}

static inline float cluster_of_bits(uint32_t bits) {
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

static inline uint16_t cluster_to_bf16(float v) {
    uint32_t b;
    memcpy(&b, &v, sizeof b);
    if (isnan(v)) return 0x7FC0;
    return (uint16_t)((b + 0x7FFF + (b >> 16 & 1)) >> 16);
}

static inline double cluster_get(const weft_tensor *t, size_t i) {
    switch (t->dtype) {
    case WEFT_F32: return (double)((const float *)t->data)[i];
    case WEFT_F64: return ((const double *)t->data)[i];
    case WEFT_BF16: return (double)cluster_of_bits((uint32_t)((const uint16_t *)t->data)[i] << 16);
    case WEFT_F16: return cluster_of_half(((const uint16_t *)t->data)[i]);
    }
    return 0;
}

/* Rounded to the tensor's type (through f32 for the 16-bit ones, as a trainer would have it). */
static inline void cluster_set(const weft_tensor *t, size_t i, double v) {
    switch (t->dtype) {
    case WEFT_F32: ((float *)t->data)[i] = (float)v; break;
    case WEFT_F64: ((double *)t->data)[i] = v; break;
    case WEFT_BF16: ((uint16_t *)t->data)[i] = cluster_to_bf16((float)v); break;
    case WEFT_F16: ((uint16_t *)t->data)[i] = cluster_to_half((double)(float)v); break;
    }
}

/* ---- tensors that a test owns ---- */

#define CLUSTER_CANARY 16 /* bytes behind every tensor and object that nobody may touch */

/* A list of tensors with memory of its own. dtype NULL: f32 each. */
static inline weft_tensors cluster_tensors(size_t n, const size_t *count, const weft_dtype *dtype) {
    weft_tensor *t = (weft_tensor *)calloc(n + 1, sizeof *t);
    weft_tensors list;
    size_t i;
    for (i = 0; i < n; i++) {
        size_t bytes;
        t[i].dtype = dtype ? dtype[i] : WEFT_F32;
        t[i].count = count[i];
        bytes = count[i] * weft_dtype_bytes(t[i].dtype);
        t[i].data = calloc(1, bytes + CLUSTER_CANARY);
        memset((unsigned char *)t[i].data + bytes, 0xA5, CLUSTER_CANARY);
    }
    list.tensor = t;
    list.count = n;
    return list;
}

static inline int cluster_canary(const void *after) {
    const unsigned char *p = (const unsigned char *)after;
    int i;
    for (i = 0; i < CLUSTER_CANARY; i++)
        if (p[i] != 0xA5) return 0;
    return 1;
}

static inline int cluster_tensors_whole(const weft_tensors *l) {
    size_t i;
    for (i = 0; i < l->count; i++)
        if (l->tensor[i].data && !cluster_canary((unsigned char *)l->tensor[i].data +
                                                 l->tensor[i].count * weft_dtype_bytes(l->tensor[i].dtype)))
            return 0;
    return 1;
}

static inline void cluster_tensors_free(weft_tensors *l) {
    size_t i;
    for (i = 0; i < l->count; i++) free(l->tensor[i].data);
    free((void *)(uintptr_t)l->tensor);
    l->tensor = NULL;
    l->count = 0;
}

static inline void cluster_copy(const weft_tensors *from, const weft_tensors *to) {
    size_t i;
    for (i = 0; i < from->count; i++)
        memcpy(to->tensor[i].data, from->tensor[i].data,
               from->tensor[i].count * weft_dtype_bytes(from->tensor[i].dtype));
}

static inline int cluster_same_bits(const weft_tensors *a, const weft_tensors *b) {
    size_t i;
    for (i = 0; i < a->count; i++)
        if (memcmp(a->tensor[i].data, b->tensor[i].data, a->tensor[i].count * weft_dtype_bytes(a->tensor[i].dtype)) !=
            0)
            return 0;
    return a->count == b->count;
}

static inline uint64_t cluster_hash(const weft_tensors *l) {
    uint64_t h = UINT64_C(0xCBF29CE484222325);
    size_t i, k;
    for (i = 0; i < l->count; i++) {
        const unsigned char *p = (const unsigned char *)l->tensor[i].data;
        for (k = 0; k < l->tensor[i].count * weft_dtype_bytes(l->tensor[i].dtype); k++)
            h = (h ^ p[k]) * UINT64_C(0x100000001B3);
    }
    return h;
}

static inline void cluster_fill(const weft_tensors *l, uint64_t seed, double scale) {
    uint64_t rng = seed;
    size_t i, k;
    for (i = 0; i < l->count; i++)
        for (k = 0; k < l->tensor[i].count; k++) cluster_set(&l->tensor[i], k, scale * cluster_uniform(&rng));
}

/* ---- the cluster ---- */

typedef struct cluster cluster;
typedef struct cluster_worker cluster_worker;

/* Before grawa_init: may change w->desc and the initial parameters. 0: give up. */
typedef int (*cluster_prepare_fn)(cluster_worker *w);
/* One local step: changes w->params as a trainer would and returns the gradient for grawa_step (as a rule w->grads), or
 * NULL for a step that was skipped. */
typedef const weft_tensors *(*cluster_train_fn)(cluster_worker *w);
/* The gradient that WEFT_WANT_GRADIENT asks for, or NULL. */
typedef const weft_tensors *(*cluster_probe_fn)(cluster_worker *w);
/* cluster_run: a grawa_step or a round of this worker has come back (w->status, w->joined). */
typedef void (*cluster_back_fn)(cluster_worker *w);

typedef struct cluster_desc {
    weft_sim_desc sim;         /* the network; sim.size workers */
    const weft_transport *net; /* or transports of the test's own, sim.size of them */
    grawa_desc grawa;          /* for every worker; params and transport are filled in */
    size_t tensors;
    const size_t *count;
    const weft_dtype *dtype;      /* NULL: f32 */
    const weft_dtype *grad_dtype; /* NULL: as dtype */
    int start_unequal;            /* parameters differ from the beginning (and grawa.initial says what becomes of it) */
    uint64_t data_seed;
    cluster_prepare_fn prepare; /* NULL: nothing */
    cluster_train_fn train;     /* NULL: cluster_noise */
    cluster_probe_fn probe;     /* NULL: cluster_noise_probe */
    cluster_back_fn back;
    void *user;
} cluster_desc;

typedef enum cluster_doing { CLUSTER_BEGINS, CLUSTER_COMPUTES, CLUSTER_WAITS, CLUSTER_DONE } cluster_doing;

struct cluster_worker {
    cluster *c;
    uint32_t rank;
    weft_transport net;
    grawa_desc desc;
    grawa *g;
    unsigned char *memory;
    size_t bytes;
    weft_tensors params, grads;
    uint64_t rng;       /* of its data */
    weft_status status; /* of its last verb */
    uint64_t step;      /* local steps taken */
    /* cluster_run */
    uint64_t step_ns;         /* what a local step takes */
    uint64_t goal;            /* steps */
    int poll_while_computing; /* as a host with time to spare; otherwise it is deaf until its step is over */
    uint64_t poll_every_ns;   /* while it waits, it polls so often at least (deadlines); 0: only when there is news */
    int leaves;               /* says good-bye at its goal */
    cluster_doing doing;
    int leaving;
    uint64_t until;     /* it computes until then */
    uint64_t joined_ns; /* when it last had to wait for others */
    uint64_t back_ns;   /* when that was over */
    uint64_t pause_ns;  /* set by `back`: wait for so long before the next step */
    int joined;         /* the verb that has come back was not done at once */
    void *user;
};

struct cluster {
    cluster_desc desc;
    weft_sim sim;
    uint32_t size;
    cluster_worker *worker;
    char why[1024]; /* the first failure */
};

/* Remembers the first failure; always 0. */
static inline int cluster_fail(cluster *c, const char *format, ...) {
    va_list ap;
    size_t n;
    if (c->why[0]) return 0;
    snprintf(c->why, sizeof c->why, "seed %llu, data %llu: ", (unsigned long long)c->desc.sim.seed,
             (unsigned long long)c->desc.data_seed);
    n = strlen(c->why);
    va_start(ap, format);
    vsnprintf(c->why + n, sizeof c->why - n, format, ap);
    va_end(ap);
    return 0;
}

/* The status of a worker's last verb, with its detail, as the failure. */
static inline int cluster_fail_status(cluster_worker *w, const char *what) {
    const weft_detail *d = w->g ? grawa_detail(w->g) : NULL;
    return cluster_fail(w->c, "worker %lu: %s: %s (peer %ld, round %llu, phase %s, field %s, expected %llu, got %llu)",
                        (unsigned long)w->rank, what, weft_strerror(w->status), d ? (long)(int32_t)d->peer : -1L,
                        d ? (unsigned long long)d->round : 0, d && d->phase ? d->phase : "-",
                        d && d->field ? d->field : "-", d ? (unsigned long long)d->expected : 0,
                        d ? (unsigned long long)d->got : 0);
}

/* Gradients that are noise of the worker's own, and plain SGD with them. */
static inline const weft_tensors *cluster_noise_probe(cluster_worker *w) {
    cluster_fill(&w->grads, cluster_draw(&w->rng), 0.5 + (double)w->rank);
    return &w->grads;
}

static inline const weft_tensors *cluster_noise(cluster_worker *w) {
    const weft_tensors *g = cluster_noise_probe(w);
    size_t t, i;
    for (t = 0; t < g->count; t++)
        for (i = 0; i < g->tensor[t].count; i++)
            cluster_set(&w->params.tensor[t], i,
                        cluster_get(&w->params.tensor[t], i) - 0.05 * cluster_get(&g->tensor[t], i));
    return g;
}

static inline cluster_desc cluster_default(uint64_t seed, uint32_t workers) {
    cluster_desc d;
    memset(&d, 0, sizeof d);
    d.sim.seed = seed;
    d.sim.size = workers;
    d.sim.watch = d.sim.scribble = 1;
    d.sim.latency_ns = 1000;
    d.grawa.struct_size = sizeof d.grawa;
    d.data_seed = seed;
    return d;
}

/* An object in memory that starts at an odd address and ends at a canary. */
static inline int cluster_worker_init(cluster_worker *w) {
    weft_detail why;
    w->bytes = grawa_memory(&w->desc, NULL);
    w->memory = (unsigned char *)malloc(w->bytes + 1 + CLUSTER_CANARY);
    if (!w->memory) return cluster_fail(w->c, "no memory");
    memset(w->memory, 0xC3, w->bytes + 1);
    memset(w->memory + 1 + w->bytes, 0xA5, CLUSTER_CANARY);
    w->status = grawa_init_detail(&w->g, &w->desc, w->memory + 1, w->bytes, &why);
    if (w->status != WEFT_OK)
        return cluster_fail(w->c, "worker %lu: init: %s (%s)", (unsigned long)w->rank, weft_strerror(w->status),
                            why.field ? why.field : "-");
    return 1;
}

static inline void cluster_worker_free(cluster_worker *w) {
    if (w->g) grawa_close(w->g);
    w->g = NULL;
    if (w->memory && !cluster_canary(w->memory + 1 + w->bytes))
        cluster_fail(w->c, "worker %lu wrote behind its memory", (unsigned long)w->rank);
    free(w->memory);
    w->memory = NULL;
}

static inline int cluster_open(cluster *c, const cluster_desc *d) {
    uint32_t r;
    int ok = 1;
    memset(c, 0, sizeof *c);
    c->desc = *d;
    c->size = d->sim.size;
    if (!c->desc.train) c->desc.train = cluster_noise;
    if (!c->desc.probe) c->desc.probe = cluster_noise_probe;
    c->worker = (cluster_worker *)calloc(c->size, sizeof *c->worker);
    if (!c->worker || weft_sim_init(&c->sim, &c->desc.sim) != WEFT_OK) return cluster_fail(c, "no simulated network");
    for (r = 0; r < c->size; r++) {
        cluster_worker *w = &c->worker[r];
        w->c = c;
        w->rank = r;
        w->user = d->user;
        w->poll_while_computing = 1;
        w->rng = d->data_seed * 1000003 + r;
        w->params = cluster_tensors(d->tensors, d->count, d->dtype);
        w->grads = cluster_tensors(d->tensors, d->count, d->grad_dtype ? d->grad_dtype : d->dtype);
        cluster_fill(&w->params, d->data_seed + (d->start_unequal ? 77 * r : 0), 1.0);
        if (d->net)
            w->net = d->net[r];
        else
            weft_sim_transport(&c->sim, r, &w->net);
        w->desc = d->grawa;
        w->desc.params = w->params;
        w->desc.transport = &w->net;
        ok = ok && (!d->prepare || d->prepare(w)) && cluster_worker_init(w);
    }
    return ok;
}

/* Ends everything; 0 if memory was overrun, the transport's contract broken, or anything had failed before. */
static inline int cluster_close(cluster *c) {
    uint32_t r;
    int ok;
    for (r = 0; c->worker && r < c->size; r++) {
        cluster_worker *w = &c->worker[r];
        cluster_worker_free(w);
        if (!cluster_tensors_whole(&w->params) || !cluster_tensors_whole(&w->grads))
            cluster_fail(c, "worker %lu: somebody wrote behind a tensor", (unsigned long)r);
        cluster_tensors_free(&w->params);
        cluster_tensors_free(&w->grads);
    }
    if (c->sim.worker && weft_sim_violation(&c->sim)) cluster_fail(c, "%s", weft_sim_violation(&c->sim));
    if (c->sim.worker && weft_sim_outstanding(&c->sim)) cluster_fail(c, "requests are left after close");
    if (c->sim.worker) weft_sim_free(&c->sim);
    ok = !c->why[0];
    free(c->worker);
    c->worker = NULL;
    return ok;
}

/* ---- by hand, and in lock-step ---- */

static inline int cluster_poll_step(void *user, uint32_t rank) {
    cluster_worker *w = (cluster_worker *)user;
    (void)rank;
    if (w->status == WEFT_AGAIN) w->status = grawa_poll(w->g);
    return w->status != WEFT_AGAIN;
}

/* Polls every worker whose last verb said WEFT_AGAIN until it says something else; that is then its status. 0: some
 * never came to an end. */
static inline int cluster_settle(cluster *c) {
    uint32_t r;
    weft_sim_end end;
    for (r = 0; r < c->size; r++)
        if (c->worker[r].status == WEFT_AGAIN) weft_sim_worker(&c->sim, r, cluster_poll_step, &c->worker[r]);
    end = weft_sim_run(&c->sim, UINT64_C(20000000));
    return end == WEFT_SIM_DONE ? 1 : cluster_fail(c, "settle: %s", weft_sim_text(&c->sim));
}

static inline int cluster_listen_step(void *user, uint32_t rank) {
    cluster_worker *w = (cluster_worker *)user;
    (void)rank;
    if (w->status >= 0 && w->status != WEFT_WANT_GRADIENT) w->status = grawa_poll(w->g);
    return 0;
}

/* Lets so much virtual time pass (0: only what is due now) while everybody polls whenever there is news. */
static inline void cluster_advance(cluster *c, uint64_t ns) {
    uint32_t r;
    for (r = 0; r < c->size; r++)
        if (weft_sim_alive(&c->sim, r)) weft_sim_worker(&c->sim, r, cluster_listen_step, &c->worker[r]);
    weft_sim_advance(&c->sim, ns);
    for (r = 0; r < c->size; r++)
        if (weft_sim_alive(&c->sim, r)) weft_sim_worker(&c->sim, r, NULL, NULL);
}

/* Every worker does `verb` (an expression over `w`); then all settle and must be done. */
#define CLUSTER_EACH(c, w, verb)                                                                                       \
    do {                                                                                                               \
        cluster_worker *w = (c)->worker;                                                                               \
        for (; w < (c)->worker + (c)->size; w++) w->status = (verb);                                                   \
    } while (0)
#define CLUSTER_ALL(c, w, verb)                                                                                        \
    do {                                                                                                               \
        CLUSTER_EACH(c, w, verb);                                                                                      \
        if (cluster_settle(c)) cluster_fine(c, #verb);                                                                 \
    } while (0)

static inline int cluster_fine(cluster *c, const char *what) {
    uint32_t r;
    for (r = 0; r < c->size; r++)
        if (c->worker[r].status != WEFT_OK) return cluster_fail_status(&c->worker[r], what);
    return 1;
}

/* Everybody's step is over: settles, with the probes that are asked for. */
static inline int cluster_finish_round(cluster *c) {
    uint32_t r, asked;
    do {
        if (!cluster_settle(c)) return 0;
        for (r = asked = 0; r < c->size; r++) {
            cluster_worker *w = &c->worker[r];
            if (w->status == WEFT_WANT_GRADIENT) w->status = grawa_probe(w->g, c->desc.probe(w)), asked = 1;
        }
    } while (asked);
    return cluster_fine(c, "step");
}

/* k local steps by all, in lock-step. */
static inline int cluster_steps(cluster *c, uint64_t k) {
    uint32_t r;
    while (k--) {
        for (r = 0; r < c->size; r++) {
            cluster_worker *w = &c->worker[r];
            const weft_tensors *grads = c->desc.train(w);
            w->step++;
            w->status = grawa_step(w->g, grads);
        }
        if (!cluster_finish_round(c)) return 0;
    }
    return 1;
}

/* First contact by all. */
static inline int cluster_start(cluster *c) {
    CLUSTER_ALL(c, w, grawa_start(w->g));
    return !c->why[0];
}

/* k local steps by one worker on the thread that calls, with the blocking verb. */
static inline weft_status cluster_blocking(cluster_worker *w, uint64_t k) {
    weft_status s = WEFT_OK;
    while (k-- && s == WEFT_OK) {
        const weft_tensors *grads = w->c->desc.train(w);
        w->step++;
        s = grawa_step(w->g, grads);
        for (;;) {
            if (s == WEFT_AGAIN)
                s = grawa_wait(w->g);
            else if (s == WEFT_WANT_GRADIENT)
                s = grawa_probe(w->g, w->c->desc.probe(w));
            else
                break;
        }
    }
    return w->status = s;
}

/* ---- each at its own pace ---- */

static inline int cluster_turn(void *user, uint32_t rank) {
    cluster_worker *w = (cluster_worker *)user;
    cluster *c = w->c;
    for (;;) {
        uint64_t now = weft_sim_now(&c->sim);
        switch (w->doing) {
        case CLUSTER_BEGINS:
            if (w->step >= w->goal) {
                w->doing = CLUSTER_DONE;
                if (w->leaves) {
                    w->leaving = 1;
                    w->doing = CLUSTER_WAITS;
                    w->status = grawa_leave(w->g);
                }
                break;
            }
            w->until = now + w->pause_ns + w->step_ns;
            w->pause_ns = 0;
            w->doing = CLUSTER_COMPUTES;
            if (w->poll_while_computing)
                weft_sim_sleep(&c->sim, rank, w->until - now);
            else
                weft_sim_busy(&c->sim, rank, w->until - now);
            if (w->until > now) return 0;
            break;
        case CLUSTER_COMPUTES: {
            const weft_tensors *grads;
            if (now < w->until) {
                if (w->poll_while_computing && (w->status = grawa_poll(w->g)) < 0)
                    w->doing = CLUSTER_WAITS;
                else
                    return 0;
                break;
            }
            grads = c->desc.train(w);
            w->step++;
            w->status = grawa_step(w->g, grads);
            w->joined = w->status != WEFT_OK;
            if (w->joined) w->joined_ns = now;
            w->doing = CLUSTER_WAITS;
            break;
        }
        case CLUSTER_WAITS:
            if (w->status == WEFT_AGAIN) w->status = grawa_poll(w->g);
            if (w->status == WEFT_AGAIN) {
                if (w->poll_every_ns) weft_sim_sleep(&c->sim, rank, w->poll_every_ns);
                return 0;
            }
            if (w->status == WEFT_WANT_GRADIENT) {
                w->status = grawa_probe(w->g, c->desc.probe(w));
                break;
            }
            w->back_ns = now;
            if (w->status < 0) {
                cluster_fail_status(w, "run");
                w->doing = CLUSTER_DONE;
                break;
            }
            if (c->desc.back && !w->leaving) c->desc.back(w);
            w->joined = 0;
            w->doing = w->leaving ? CLUSTER_DONE : CLUSTER_BEGINS;
            break;
        case CLUSTER_DONE: return 1;
        }
    }
}

/* Every worker takes `steps` more local steps, each at its own pace in virtual time, and does its part in the rounds.
 * Workers that have arrived at their goal are silent (or gone, if they leave): so goals must fit the trigger. */
static inline int cluster_run(cluster *c, uint64_t steps) {
    uint32_t r;
    weft_sim_end end;
    for (r = 0; r < c->size; r++) {
        cluster_worker *w = &c->worker[r];
        if (!weft_sim_alive(&c->sim, r)) continue;
        w->goal = w->step + steps;
        w->doing = CLUSTER_BEGINS;
        w->leaving = 0;
        weft_sim_worker(&c->sim, r, cluster_turn, w);
    }
    end = weft_sim_run(&c->sim, UINT64_C(20000000));
    if (end != WEFT_SIM_DONE) return cluster_fail(c, "run: %s", weft_sim_text(&c->sim));
    return !c->why[0];
}

#endif /* CLUSTER_H */
