/* SPDX-License-Identifier: MIT
 * subspace_team.h: for tests: N workers with subspace objects in one thread and in virtual time, each with gradients of
 * its own.
 *
 *     team_desc d = team_default(seed, 4);         // a quiet network; or set d.sim = weft_sim_torture(seed, 4)
 *     size_t count[] = {12, 0, 7};
 *     d.tensors = 3; d.count = count;
 *     d.s.momentum = 0.9;                          // everything but gradients and transport
 *     team t;
 *     ok = team_open(&t, &d);
 *     team_fill(&t, 5);                            // gradients: something common, and something of each worker's own
 *     ok = ok && team_aggregate(&t);               // all submit everything, and settle
 *     if (!team_close(&t)) puts(t.why);            // names the seed
 *
 * By hand: TEAM_ALL(&t, w, subspace_submit(w->a, 0, 1)), or a verb of one worker into w->status, then team_settle.
 *
 * Include after ../grawa.h and ../subspace.h (with their IMPLEMENTATIONs). Nothing here depends on a test framework. */
#ifndef SUBSPACE_TEAM_H
#define SUBSPACE_TEAM_H

#include "cluster.h"

typedef struct team team;
typedef struct team_worker team_worker;

typedef struct team_desc {
    weft_sim_desc sim;         /* the network; sim.size workers */
    const weft_transport *net; /* or transports of the test's own, sim.size of them */
    subspace_desc s;           /* for every worker; gradients and transport are filled in */
    size_t tensors;
    const size_t *count;
    const weft_dtype *dtype;         /* NULL: f32 */
    int (*prepare)(team_worker *w);  /* before subspace_init: may change w->desc. 0: give up */
    void *user;
} team_desc;

struct team_worker {
    team *t;
    uint32_t rank;
    weft_transport net;
    subspace_desc desc;
    subspace *a;
    unsigned char *memory;
    size_t bytes;
    weft_tensors grads;
    weft_status status; /* of its last verb */
};

struct team {
    team_desc desc;
    weft_sim sim;
    uint32_t size;
    team_worker *worker;
    char why[1024]; /* the first failure */
};

/* Remembers the first failure; always 0. */
static inline int team_fail(team *t, const char *format, ...) {
    va_list ap;
    size_t n;
    if (t->why[0]) return 0;
    snprintf(t->why, sizeof t->why, "seed %llu: ", (unsigned long long)t->desc.sim.seed);
    n = strlen(t->why);
    va_start(ap, format);
    vsnprintf(t->why + n, sizeof t->why - n, format, ap);
    va_end(ap);
    return 0;
}

static inline int team_fail_status(team_worker *w, const char *what) {
    const weft_detail *d = w->a ? subspace_detail(w->a) : NULL;
    return team_fail(w->t, "worker %lu: %s: %s (peer %ld, round %llu, phase %s, field %s, expected %llu, got %llu)",
                     (unsigned long)w->rank, what, weft_strerror(w->status), d ? (long)(int32_t)d->peer : -1L,
                     d ? (unsigned long long)d->round : 0, d && d->phase ? d->phase : "-",
                     d && d->field ? d->field : "-", d ? (unsigned long long)d->expected : 0,
                     d ? (unsigned long long)d->got : 0);
}

static inline team_desc team_default(uint64_t seed, uint32_t workers) {
    team_desc d;
    memset(&d, 0, sizeof d);
    d.sim.seed = seed;
    d.sim.size = workers;
    d.sim.watch = d.sim.scribble = 1;
    d.sim.latency_ns = 1000;
    d.s.struct_size = sizeof d.s;
    return d;
}

/* An object in memory that starts at an odd address and ends at a canary. */
static inline int team_worker_init(team_worker *w) {
    weft_detail why;
    w->bytes = subspace_memory(&w->desc, NULL);
    w->memory = (unsigned char *)malloc(w->bytes + 1 + CLUSTER_CANARY);
    if (!w->memory) return team_fail(w->t, "no memory");
    memset(w->memory, 0xC3, w->bytes + 1);
    memset(w->memory + 1 + w->bytes, 0xA5, CLUSTER_CANARY);
    w->status = subspace_init_detail(&w->a, &w->desc, w->memory + 1, w->bytes, &why);
    if (w->status != WEFT_OK)
        return team_fail(w->t, "worker %lu: init: %s (%s)", (unsigned long)w->rank, weft_strerror(w->status),
                         why.field ? why.field : "-");
    return 1;
}

static inline void team_worker_free(team_worker *w) {
    if (w->a) subspace_close(w->a);
    w->a = NULL;
    if (w->memory && !cluster_canary(w->memory + 1 + w->bytes))
        team_fail(w->t, "worker %lu wrote behind its memory", (unsigned long)w->rank);
    free(w->memory);
    w->memory = NULL;
}

static inline int team_open(team *t, const team_desc *d) {
    uint32_t r;
    int ok = 1;
    memset(t, 0, sizeof *t);
    t->desc = *d;
    t->size = d->sim.size;
    t->worker = (team_worker *)calloc(t->size, sizeof *t->worker);
    if (!t->worker || weft_sim_init(&t->sim, &t->desc.sim) != WEFT_OK) return team_fail(t, "no simulated network");
    for (r = 0; r < t->size; r++) {
        team_worker *w = &t->worker[r];
        w->t = t;
        w->rank = r;
        w->grads = cluster_tensors(d->tensors, d->count, d->dtype);
        if (d->net)
            w->net = d->net[r];
        else
            weft_sim_transport(&t->sim, r, &w->net);
        w->desc = d->s;
        w->desc.gradients = w->grads;
        w->desc.transport = &w->net;
        ok = ok && (!d->prepare || d->prepare(w)) && team_worker_init(w);
    }
    return ok;
}

/* Ends everything; 0 if memory was overrun, the transport's contract broken, or anything had failed before. */
static inline int team_close(team *t) {
    uint32_t r;
    int ok;
    for (r = 0; t->worker && r < t->size; r++) {
        team_worker *w = &t->worker[r];
        team_worker_free(w);
        if (!cluster_tensors_whole(&w->grads))
            team_fail(t, "worker %lu: somebody wrote behind a tensor", (unsigned long)r);
        cluster_tensors_free(&w->grads);
    }
    if (t->sim.worker && weft_sim_violation(&t->sim)) team_fail(t, "%s", weft_sim_violation(&t->sim));
    if (t->sim.worker && weft_sim_outstanding(&t->sim)) team_fail(t, "requests are left after close");
    if (t->sim.worker) weft_sim_free(&t->sim);
    ok = !t->why[0];
    free(t->worker);
    t->worker = NULL;
    return ok;
}

static inline int team_poll_step(void *user, uint32_t rank) {
    team_worker *w = (team_worker *)user;
    (void)rank;
    if (w->status == WEFT_AGAIN) w->status = subspace_poll(w->a);
    return w->status != WEFT_AGAIN;
}

/* Polls every worker whose last verb said WEFT_AGAIN until it says something else; that is then its status. 0: some
 * never came to an end. */
static inline int team_settle(team *t) {
    uint32_t r;
    weft_sim_end end;
    for (r = 0; r < t->size; r++)
        if (t->worker[r].status == WEFT_AGAIN) weft_sim_worker(&t->sim, r, team_poll_step, &t->worker[r]);
    end = weft_sim_run(&t->sim, UINT64_C(20000000));
    return end == WEFT_SIM_DONE ? 1 : team_fail(t, "settle: %s", weft_sim_text(&t->sim));
}

static inline int team_listen_step(void *user, uint32_t rank) {
    team_worker *w = (team_worker *)user;
    (void)rank;
    if (w->a && w->status >= 0) w->status = subspace_poll(w->a);
    return 0;
}

/* Lets so much virtual time pass while everybody polls whenever there is news. */
static inline void team_advance(team *t, uint64_t ns) {
    uint32_t r;
    for (r = 0; r < t->size; r++)
        if (weft_sim_alive(&t->sim, r)) weft_sim_worker(&t->sim, r, team_listen_step, &t->worker[r]);
    weft_sim_advance(&t->sim, ns);
    for (r = 0; r < t->size; r++)
        if (weft_sim_alive(&t->sim, r)) weft_sim_worker(&t->sim, r, NULL, NULL);
}

static inline int team_fine(team *t, const char *what) {
    uint32_t r;
    for (r = 0; r < t->size; r++)
        if (t->worker[r].status != WEFT_OK) return team_fail_status(&t->worker[r], what);
    return 1;
}

/* Every worker does `verb` (an expression over `w`); then all settle. */
#define TEAM_EACH(t, w, verb)                                                                                          \
    do {                                                                                                               \
        team_worker *w = (t)->worker;                                                                                  \
        for (; w < (t)->worker + (t)->size; w++) w->status = (verb);                                                   \
    } while (0)
#define TEAM_ALL(t, w, verb)                                                                                           \
    do {                                                                                                               \
        TEAM_EACH(t, w, verb);                                                                                         \
        team_settle(t);                                                                                                \
    } while (0)

/* All submit all tensors at once; then all must hold the aggregate. */
static inline int team_aggregate(team *t) {
    TEAM_ALL(t, w, subspace_submit(w->a, 0, w->grads.count));
    return !t->why[0] && team_fine(t, "round");
}

/* Gradients of a round: something common, and something of each worker's own. */
static inline void team_fill_one(const weft_tensors *g, uint64_t seed, uint32_t rank, double noise) {
    uint64_t common = seed * 2654435761u + 17, own = seed * 1000003u + rank * 7919u + 3;
    size_t k, i;
    for (k = 0; k < g->count; k++)
        for (i = 0; i < g->tensor[k].count; i++) {
            double c = cluster_uniform(&common);
            cluster_set(&g->tensor[k], i, (1.0 + 0.25 * rank) * (c + noise * cluster_uniform(&own)));
        }
}

static inline void team_fill(team *t, uint64_t seed) {
    uint32_t r;
    for (r = 0; r < t->size; r++) team_fill_one(&t->worker[r].grads, seed, r, 1.0);
}

static inline int team_alike(team *t) {
    uint32_t r;
    for (r = 1; r < t->size; r++)
        if (!cluster_same_bits(&t->worker[0].grads, &t->worker[r].grads))
            return team_fail(t, "workers 0 and %lu hold different aggregates", (unsigned long)r);
    return 1;
}

static inline size_t team_elements(const team *t) {
    return weft_tensors_elements(&t->worker[0].grads);
}

/* All elements of a list, one after the other. */
static inline void team_flat(const weft_tensors *g, double *out) {
    size_t k, i;
    for (k = 0; k < g->count; k++)
        for (i = 0; i < g->tensor[k].count; i++) *out++ = cluster_get(&g->tensor[k], i);
}

static inline void team_unflat(const weft_tensors *g, const double *in) {
    size_t k, i;
    for (k = 0; k < g->count; k++)
        for (i = 0; i < g->tensor[k].count; i++) cluster_set(&g->tensor[k], i, *in++);
}

/* ---- the same in one address space ---- */

typedef struct pile {
    subspace *a;
    subspace_desc desc;
    unsigned char *memory;
    size_t bytes;
    uint32_t n;
    weft_tensors *grads; /* n lists */
    weft_tensors out;
} pile;

/* An object for subspace_combine, of the settings of d, for n gradients. */
static inline weft_status pile_open(pile *p, const subspace_desc *d, uint32_t n, size_t tensors, const size_t *count,
                                    const weft_dtype *dtype) {
    uint32_t i;
    weft_status s;
    memset(p, 0, sizeof *p);
    p->n = n;
    p->grads = (weft_tensors *)calloc(n + 1, sizeof *p->grads);
    for (i = 0; i < n; i++) p->grads[i] = cluster_tensors(tensors, count, dtype);
    p->out = cluster_tensors(tensors, count, dtype);
    p->desc = *d;
    p->desc.struct_size = sizeof p->desc;
    p->desc.gradients = p->out;
    p->desc.transport = NULL;
    p->desc.view = NULL;
    p->desc.timeout_ns = 0;
    p->desc.trace = NULL;
    p->desc.here = n;
    p->bytes = subspace_memory(&p->desc, NULL);
    p->memory = (unsigned char *)malloc(p->bytes + 1 + CLUSTER_CANARY);
    memset(p->memory, 0xC3, p->bytes + 1);
    memset(p->memory + 1 + p->bytes, 0xA5, CLUSTER_CANARY);
    s = subspace_init(&p->a, &p->desc, p->memory + 1, p->bytes);
    return s;
}

static inline weft_status pile_combine(pile *p, const double *samples) {
    return subspace_combine(p->a, p->grads, p->n, samples, &p->out);
}

/* 0: somebody wrote where nobody may. */
static inline int pile_close(pile *p) {
    uint32_t i;
    int ok = cluster_canary(p->memory + 1 + p->bytes) && cluster_tensors_whole(&p->out);
    if (p->a) subspace_close(p->a);
    for (i = 0; i < p->n; i++) {
        ok = ok && cluster_tensors_whole(&p->grads[i]);
        cluster_tensors_free(&p->grads[i]);
    }
    free(p->grads);
    cluster_tensors_free(&p->out);
    free(p->memory);
    return ok;
}

#endif /* SUBSPACE_TEAM_H */
