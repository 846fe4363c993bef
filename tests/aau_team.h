/* SPDX-License-Identifier: MIT
 * aau_team.h: for tests: N workers with DSGD-AAU objects in one thread and in virtual time, each with parameters and a
 * goal of its own, to which its gradient steps lead, at its own pace.
 *
 *     aau_desc d = aau_default(seed, &graph);      // a quiet network; or set d.sim = weft_sim_torture(seed, n)
 *     size_t count[] = {12, 0, 7};
 *     d.tensors = 3; d.count = count; d.steps = 20;
 *     aau t;
 *     ok = aau_open(&t, &d) && aau_run(&t);        // all take their steps, and leave
 *     ok = ok && aau_conserved(&t);                // the mean moved by the gradient steps, and by nothing else
 *     if (!aau_close(&t)) puts(t.why);             // names the seed
 *
 * Checkers, apart from the library: every averaging is applied by its leader and as many leaves as it says (from the
 * trace), the sum of all parameters, canaries, and what the simulator finds wrong.
 *
 * Include after ../grawa.h and ../dsgd_aau.h (with their IMPLEMENTATIONs). Nothing here depends on a test framework. */
#ifndef AAU_TEAM_H
#define AAU_TEAM_H

#include "cluster.h"

typedef struct aau aau;
typedef struct aau_worker aau_worker;

typedef struct aau_desc {
    weft_sim_desc sim; /* the network */
    const weft_graph *graph;
    dsgd_aau_desc d; /* for every worker; params, transport, graph and trace are filled in */
    size_t tensors;
    const size_t *count;
    const weft_dtype *dtype; /* NULL: f64 */
    uint64_t steps;          /* of every worker; then it leaves */
    uint64_t compute_ns;     /* of a gradient */
    double straggle, slow;   /* with this probability it takes so many times longer */
    int deaf;                /* nobody polls while it computes */
    double eta;
    int apart;                       /* every worker starts from its own parameters */
    int stay;                        /* whoever has taken its steps does not leave, but goes on answering */
    uint64_t (*pace)(aau_worker *w); /* ns of the next gradient; NULL: as above */
    int (*prepare)(aau_worker *w);   /* before dsgd_aau_init: may change w->desc. 0: give up */
    int recover;                     /* neighbours of a worker that comes back are told so */
    void *user;
} aau_desc;

enum { AAU_COMPUTING, AAU_WAITING, AAU_JOINING, AAU_LEAVING, AAU_STAYING, AAU_GONE };

struct aau_worker {
    aau *t;
    uint32_t rank;
    weft_transport net;
    dsgd_aau_desc desc;
    dsgd_aau *x;
    unsigned char *memory;
    size_t bytes;
    weft_tensors params, goal, before;
    weft_status status;
    int phase;
    uint64_t steps, due_ns, rng, life, waited_ns, longest_ns;
    double *drift; /* of each element: what gradient steps have moved it by */
    double *first; /* and what it was at the beginning */
};

/* One averaging, as its members tell of it. */
typedef struct aau_star {
    uint32_t leader, seen, led, size;
    uint64_t tx, life;
} aau_star;

struct aau {
    aau_desc desc;
    weft_sim sim;
    uint32_t size;
    size_t elements;
    aau_worker *worker;
    aau_star *star;
    size_t stars, star_room;
    uint64_t sizes[64]; /* averagings by their number of workers */
    uint64_t errors, crashed, alone;
    char why[1024]; /* the first failure */
};

/* Remembers the first failure; always 0. */
static inline int aau_fail(aau *t, const char *format, ...) {
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

static inline int aau_fail_status(aau_worker *w, const char *what) {
    const weft_detail *d = w->x ? dsgd_aau_detail(w->x) : NULL;
    return aau_fail(w->t, "worker %lu: %s: %s (peer %ld, phase %s, field %s, expected %llu, got %llu)",
                    (unsigned long)w->rank, what, weft_strerror(w->status), d ? (long)(int32_t)d->peer : -1L,
                    d && d->phase ? d->phase : "-", d && d->field ? d->field : "-",
                    d ? (unsigned long long)d->expected : 0, d ? (unsigned long long)d->got : 0);
}

static inline aau_desc aau_default(uint64_t seed, const weft_graph *graph) {
    aau_desc d;
    memset(&d, 0, sizeof d);
    d.sim.seed = seed;
    d.sim.size = graph->workers;
    d.sim.watch = d.sim.scribble = 1;
    d.sim.latency_ns = 1000;
    d.graph = graph;
    d.d.struct_size = sizeof d.d;
    d.steps = 10;
    d.compute_ns = 1000000;
    d.eta = 0.25;
    return d;
}

static inline void aau_trace(void *ctx, const weft_event *e) {
    aau_worker *w = (aau_worker *)ctx;
    aau *t = w->t;
    size_t i;
    aau_star *s;
    if (e->kind != WEFT_EVENT_COMMITTED || e->peer >= t->size) return;
    for (i = t->stars; i-- > 0 && t->stars - i < 4096;) {
        s = &t->star[i];
        if (s->leader != e->peer || s->tx != e->round || s->life != t->worker[e->peer].life) continue;
        s->seen++;
        s->led += e->peer == w->rank;
        if (s->size != e->value)
            aau_fail(t, "an averaging of %lu and of %llu", (unsigned long)s->size, (unsigned long long)e->value);
        return;
    }
    if (t->stars == t->star_room) {
        t->star_room = t->star_room ? 2 * t->star_room : 1024;
        t->star = (aau_star *)realloc(t->star, t->star_room * sizeof *t->star);
    }
    s = &t->star[t->stars++];
    s->leader = e->peer;
    s->tx = e->round;
    s->life = t->worker[e->peer].life;
    s->size = (uint32_t)e->value;
    s->seen = 1;
    s->led = e->peer == w->rank;
    t->sizes[s->size < 63 ? s->size : 63]++;
}

/* Was every averaging applied by all its members? Only if nobody was lost in one. */
static inline int aau_whole_stars(aau *t) {
    size_t i;
    for (i = 0; i < t->stars; i++)
        if (t->star[i].seen != t->star[i].size || t->star[i].led != 1)
            return aau_fail(t, "averaging %llu of worker %lu: %lu of %lu have applied it",
                            (unsigned long long)t->star[i].tx, (unsigned long)t->star[i].leader,
                            (unsigned long)t->star[i].seen, (unsigned long)t->star[i].size);
    return 1;
}

/* An object in memory that starts at an odd address and ends at a canary. */
static inline int aau_worker_init(aau_worker *w) {
    weft_detail why;
    w->bytes = dsgd_aau_memory(&w->desc, NULL);
    w->memory = (unsigned char *)malloc(w->bytes + 1 + CLUSTER_CANARY);
    if (!w->memory) return aau_fail(w->t, "no memory");
    memset(w->memory, 0xC3, w->bytes + 1);
    memset(w->memory + 1 + w->bytes, 0xA5, CLUSTER_CANARY);
    w->status = dsgd_aau_init_detail(&w->x, &w->desc, w->memory + 1, w->bytes, &why);
    if (w->status != WEFT_OK)
        return aau_fail(w->t, "worker %lu: init: %s (%s)", (unsigned long)w->rank, weft_strerror(w->status),
                        why.field ? why.field : "-");
    return 1;
}

static inline void aau_worker_free(aau_worker *w) {
    if (w->x) dsgd_aau_close(w->x);
    w->x = NULL;
    if (w->memory && !cluster_canary(w->memory + 1 + w->bytes))
        aau_fail(w->t, "worker %lu wrote behind its memory", (unsigned long)w->rank);
    free(w->memory);
    w->memory = NULL;
}

static inline void aau_flat(const weft_tensors *g, double *out) {
    size_t k, i;
    for (k = 0; k < g->count; k++)
        for (i = 0; i < g->tensor[k].count; i++) *out++ = cluster_get(&g->tensor[k], i);
}

/* ---- what a worker does ---- */

static inline uint64_t aau_pace(aau_worker *w) {
    const aau_desc *d = &w->t->desc;
    uint64_t ns;
    if (d->pace) return d->pace(w);
    ns = d->compute_ns - d->compute_ns / 10 + cluster_draw(&w->rng) % (d->compute_ns / 5 + 1);
    if (d->straggle > 0 && (cluster_uniform(&w->rng) + 1) / 2 < d->straggle) ns = (uint64_t)((double)ns * d->slow);
    return ns;
}

static inline void aau_compute(aau_worker *w) {
    uint64_t ns = aau_pace(w);
    w->phase = AAU_COMPUTING;
    w->due_ns = weft_sim_now(&w->t->sim) + ns;
    if (w->t->desc.deaf)
        weft_sim_busy(&w->t->sim, w->rank, ns);
    else
        weft_sim_sleep(&w->t->sim, w->rank, ns);
}

/* x <- x - eta (x - goal), and what that has moved. */
static inline void aau_gradient_step(aau_worker *w) {
    size_t k, i, n = 0;
    for (k = 0; k < w->params.count; k++)
        for (i = 0; i < w->params.tensor[k].count; i++, n++) {
            double x = cluster_get(&w->params.tensor[k], i);
            cluster_set(&w->params.tensor[k], i, x - w->t->desc.eta * (x - cluster_get(&w->goal.tensor[k], i)));
            w->drift[n] += cluster_get(&w->params.tensor[k], i) - x;
        }
}

/* Called again when the library wants it, if nothing happens before. */
static inline void aau_timer(aau_worker *w, uint64_t also) {
    uint64_t at = dsgd_aau_wake_ns(w->x), now = weft_sim_now(&w->t->sim);
    if (also < at) at = also;
    if (at != UINT64_MAX) weft_sim_sleep(&w->t->sim, w->rank, at > now ? at - now : 1);
}

/* Whoever tries to reach a worker that is gone for good learns so, as when a process has ended. */
static inline void aau_notice_gone(aau_worker *w) {
    aau *t = w->t;
    uint32_t k, n;
    const uint32_t *j = weft_graph_neighbours(t->desc.graph, w->rank, &n);
    for (k = 0; k < n; k++) {
        if (t->worker[j[k]].phase != AAU_GONE || dsgd_aau_link(w->x, j[k]) != WEFT_LINK_OPENING) continue;
        dsgd_aau_peer_lost(w->x, j[k]);
        weft_sim_wake(&t->sim, w->rank, weft_sim_now(&t->sim) + 1);
    }
}

static inline int aau_gone(aau_worker *w) {
    aau *t = w->t;
    uint32_t k, n;
    const uint32_t *j = weft_graph_neighbours(t->desc.graph, w->rank, &n);
    w->phase = AAU_GONE;
    for (k = 0; k < n; k++) {
        aau_worker *o = &t->worker[j[k]];
        if (!o->x || !weft_sim_alive(&t->sim, o->rank) || dsgd_aau_link(o->x, w->rank) != WEFT_LINK_OPENING) continue;
        dsgd_aau_peer_lost(o->x, w->rank);
        weft_sim_wake(&t->sim, o->rank, weft_sim_now(&t->sim));
    }
    return 1;
}

static inline int aau_step(void *user, uint32_t rank) {
    aau_worker *w = (aau_worker *)user;
    aau *t = w->t;
    uint64_t now = weft_sim_now(&t->sim);
    (void)rank;
    for (;;) {
        aau_notice_gone(w);
        switch (w->phase) {
        case AAU_COMPUTING:
            if (now < w->due_ns) { /* news in the middle of it */
                w->status = dsgd_aau_poll(w->x);
                if (w->status < 0) t->errors++;
                aau_timer(w, w->due_ns);
                return 0;
            }
            aau_gradient_step(w);
            w->steps++;
            w->waited_ns = now;
            w->phase = AAU_WAITING;
            w->status = dsgd_aau_step(w->x);
            break;
        default: w->status = dsgd_aau_poll(w->x); break;
        }
        if (w->status < 0) {
            if (w->phase == AAU_JOINING && w->status == WEFT_ERR_PEER_LOST) return aau_gone(w); /* all have left */
            t->errors++;
            if (w->status == WEFT_ERR_NONFINITE || w->status == WEFT_ERR_ORDER) {
                aau_fail_status(w, "step");
                return 1;
            }
            if (dsgd_aau_state(w->x) & DSGD_AAU_MAY_STEP) w->status = WEFT_OK;
        }
        if (w->phase == AAU_STAYING || w->status != WEFT_OK) {
            aau_timer(w, UINT64_MAX);
            return 0;
        }
        if (w->phase == AAU_LEAVING) return aau_gone(w);
        if (w->phase == AAU_WAITING && now - w->waited_ns > w->longest_ns) w->longest_ns = now - w->waited_ns;
        if (w->steps < t->desc.steps) {
            aau_compute(w);
            if (t->desc.deaf) return 0;
            continue;
        }
        if (t->desc.stay) {
            w->phase = AAU_STAYING;
            return 0;
        }
        w->phase = AAU_LEAVING;
        w->status = dsgd_aau_leave(w->x);
        if (w->status == WEFT_OK) return aau_gone(w);
        if (w->status < 0) {
            aau_fail_status(w, "leave");
            return 1;
        }
    }
}

/* The worker begins, from the start or anew. */
static inline void aau_begin(aau_worker *w) {
    w->phase = AAU_JOINING;
    w->status = dsgd_aau_start(w->x);
    weft_sim_worker(&w->t->sim, w->rank, aau_step, w);
}

static inline void aau_change(void *user, uint32_t rank, int alive) {
    aau *t = (aau *)user;
    uint32_t k, n;
    const uint32_t *j = weft_graph_neighbours(t->desc.graph, rank, &n);
    if (!t->worker[rank].t) return; /* not open yet */
    t->crashed += !alive;
    if (!alive || !t->desc.recover) return;
    {
        aau_worker *w = &t->worker[rank];
        aau_worker_free(w);
        w->life++;
        w->desc.join = DSGD_AAU_JOIN;
        weft_sim_transport(&t->sim, rank, &w->net);
        cluster_fill(&w->params, 99 + rank, 1e3); /* nothing of what it was before */
        if (!aau_worker_init(w)) return;
        aau_begin(w);
    }
    for (k = 0; k < n; k++)
        if (t->worker[j[k]].x && weft_sim_alive(&t->sim, j[k]) && t->worker[j[k]].phase != AAU_GONE) {
            dsgd_aau_peer_up(t->worker[j[k]].x, rank);
            weft_sim_wake(&t->sim, j[k], weft_sim_now(&t->sim));
        } else {
            dsgd_aau_peer_lost(t->worker[rank].x, j[k]);
        }
}

static inline int aau_open(aau *t, const aau_desc *d) {
    uint32_t r;
    size_t i;
    int ok = 1;
    memset(t, 0, sizeof *t);
    t->desc = *d;
    t->size = d->sim.size;
    t->desc.sim.on_change = aau_change;
    t->desc.sim.user = t;
    t->worker = (aau_worker *)calloc(t->size, sizeof *t->worker);
    if (!t->worker || weft_sim_init(&t->sim, &t->desc.sim) != WEFT_OK) return aau_fail(t, "no simulated network");
    for (i = 0; i < d->tensors; i++) t->elements += d->count[i];
    for (r = 0; r < t->size; r++) {
        aau_worker *w = &t->worker[r];
        weft_dtype wide[16] = {WEFT_F64, WEFT_F64, WEFT_F64, WEFT_F64, WEFT_F64, WEFT_F64, WEFT_F64, WEFT_F64,
                               WEFT_F64, WEFT_F64, WEFT_F64, WEFT_F64, WEFT_F64, WEFT_F64, WEFT_F64, WEFT_F64};
        w->t = t;
        w->rank = r;
        w->rng = d->sim.seed * 1000003u + r * 7919u + 5;
        w->params = cluster_tensors(d->tensors, d->count, d->dtype ? d->dtype : wide);
        w->goal = cluster_tensors(d->tensors, d->count, d->dtype ? d->dtype : wide);
        cluster_fill(&w->params, d->sim.seed + 17 + (d->apart ? r : 0), 1.0);
        cluster_fill(&w->goal, d->sim.seed + 1000 + r, 2.0);
        w->drift = (double *)calloc(t->elements + 1, sizeof *w->drift);
        w->first = (double *)calloc(t->elements + 1, sizeof *w->first);
        aau_flat(&w->params, w->first);
        weft_sim_transport(&t->sim, r, &w->net);
        w->desc = d->d;
        w->desc.params = w->params;
        w->desc.transport = &w->net;
        w->desc.graph = d->graph;
        w->desc.trace = aau_trace;
        w->desc.trace_ctx = w;
        if (d->apart) w->desc.initial = DSGD_AAU_INITIAL_KEEP;
        ok = ok && (!d->prepare || d->prepare(w)) && aau_worker_init(w);
    }
    return ok;
}

static inline void aau_begin_all(aau *t) {
    uint32_t r;
    for (r = 0; r < t->size; r++)
        if (t->worker[r].desc.join == DSGD_AAU_FOUND) aau_begin(&t->worker[r]);
}

/* Until all have taken their steps and left. */
static inline int aau_finish(aau *t) {
    weft_sim_end end = weft_sim_run(&t->sim, UINT64_C(50000000));
    if (end != WEFT_SIM_DONE) {
        uint32_t r;
        char line[900];
        size_t n = 0;
        for (r = 0; r < t->size && n + 60 < sizeof line; r++) {
            aau_worker *w = &t->worker[r];
            n += (size_t)snprintf(line + n, sizeof line - n, "\n  worker %lu: phase %d, step %llu, machine %c",
                                  (unsigned long)r, w->phase, (unsigned long long)w->steps,
                                  w->x && weft_sim_alive(&t->sim, r) ? "CWPL"[w->x->core.st] : '-');
        }
        return aau_fail(t, "%.300s%s", weft_sim_text(&t->sim), n ? line : "");
    }
    return !t->why[0];
}

static inline int aau_run(aau *t) {
    aau_begin_all(t);
    return aau_finish(t);
}

/* The sum of all workers' parameters (but those of `without`) has moved by the gradient steps, and by nothing else. */
static inline int aau_conserved_without(aau *t, uint32_t without, double tolerance) {
    double *sum = (double *)calloc(t->elements + 1, sizeof *sum), *x = (double *)calloc(t->elements + 1, sizeof *x);
    uint32_t r;
    size_t i;
    int ok = 1;
    for (r = 0; r < t->size; r++) {
        if (r == without) continue;
        aau_flat(&t->worker[r].params, x);
        for (i = 0; i < t->elements; i++) sum[i] += x[i] - t->worker[r].drift[i] - t->worker[r].first[i];
    }
    for (i = 0; ok && i < t->elements; i++)
        if (!(fabs(sum[i]) <= tolerance * t->size))
            ok = aau_fail(t, "element %zu: the sum of all is off by %g", i, sum[i]);
    free(sum);
    free(x);
    return ok;
}

static inline int aau_conserved_to(aau *t, double tolerance) {
    return aau_conserved_without(t, UINT32_MAX, tolerance);
}

static inline int aau_conserved(aau *t) {
    return aau_conserved_to(t, 1e-12);
}

/* The largest distance of any worker's element from the mean over workers. */
static inline double aau_spread(aau *t) {
    double *mean = (double *)calloc(t->elements + 1, sizeof *mean), *x = (double *)calloc(t->elements + 1, sizeof *x);
    double most = 0;
    uint32_t r;
    size_t i;
    for (r = 0; r < t->size; r++) {
        aau_flat(&t->worker[r].params, x);
        for (i = 0; i < t->elements; i++) mean[i] += x[i] / t->size;
    }
    for (r = 0; r < t->size; r++) {
        aau_flat(&t->worker[r].params, x);
        for (i = 0; i < t->elements; i++)
            if (fabs(x[i] - mean[i]) > most) most = fabs(x[i] - mean[i]);
    }
    free(mean);
    free(x);
    return most;
}

static inline uint64_t aau_total(aau *t, size_t offset) {
    uint64_t n = 0;
    uint32_t r;
    for (r = 0; r < t->size; r++) {
        dsgd_aau_stats_t s;
        uint64_t v;
        memset(&s, 0, sizeof s);
        dsgd_aau_stats(t->worker[r].x, &s);
        memcpy(&v, (unsigned char *)&s + offset, sizeof v);
        n += v;
    }
    return n;
}
#define AAU_TOTAL(t, field) aau_total((t), offsetof(dsgd_aau_stats_t, field))

/* Ends everything; 0 if memory was overrun, the transport's contract broken, or anything had failed before. */
static inline int aau_close(aau *t) {
    uint32_t r;
    int ok;
    for (r = 0; t->worker && r < t->size; r++) {
        aau_worker *w = &t->worker[r];
        aau_worker_free(w);
        if (!cluster_tensors_whole(&w->params))
            aau_fail(t, "worker %lu: somebody wrote behind a tensor", (unsigned long)r);
        cluster_tensors_free(&w->params);
        cluster_tensors_free(&w->goal);
        free(w->drift);
        free(w->first);
    }
    if (t->sim.worker && weft_sim_violation(&t->sim)) aau_fail(t, "%s", weft_sim_violation(&t->sim));
    if (t->sim.worker && weft_sim_outstanding(&t->sim)) aau_fail(t, "requests are left after close");
    if (t->sim.worker) weft_sim_free(&t->sim);
    ok = !t->why[0];
    free(t->worker);
    free(t->star);
    t->worker = NULL;
    return ok;
}

/* ---- graphs ---- */

enum {
    AAU_RING,
    AAU_CHAIN,
    AAU_STAR,
    AAU_COMPLETE,
    AAU_TORUS,
    AAU_HYPERCUBE,
    AAU_EXPONENTIAL,
    AAU_ER,
    AAU_SMALL,
    AAU_KINDS
};

/* A graph of about n workers; free(memory). */
static inline void *aau_graph(weft_graph *g, int kind, uint32_t n, uint64_t seed) {
    void *m = NULL;
    size_t bytes = 0;
    uint32_t side = 1, bits = 0;
    int pass;
    while ((side + 1) * (side + 1) <= n) side++;
    while (2u << bits <= n) bits++;
    for (pass = 0; pass < 2; pass++) {
        weft_status s = WEFT_OK;
        switch (kind) {
        case AAU_RING: s = weft_graph_ring(g, n, m, bytes); break;
        case AAU_CHAIN: s = weft_graph_chain(g, n, m, bytes); break;
        case AAU_STAR: s = weft_graph_star(g, n, m, bytes); break;
        case AAU_COMPLETE: s = weft_graph_complete(g, n, m, bytes); break;
        case AAU_TORUS: s = weft_graph_torus(g, side, n / side, m, bytes); break;
        case AAU_HYPERCUBE: s = weft_graph_hypercube(g, bits, m, bytes); break;
        case AAU_EXPONENTIAL: s = weft_graph_exponential(g, n, m, bytes); break;
        case AAU_ER: s = weft_graph_erdos_renyi(g, n, n < 12 ? 0.6 : 0.25, seed, m, bytes); break;
        default: s = weft_graph_small_world(g, n, 4 < n - 1 ? 4 : 2, 0.2, seed, m, bytes); break;
        }
        if (s != WEFT_OK) {
            fprintf(stderr, "graph of kind %d: %s\n", kind, weft_strerror(s));
            abort();
        }
        if (!pass) m = malloc(bytes = g->bytes);
    }
    return m;
}

#endif /* AAU_TEAM_H */
