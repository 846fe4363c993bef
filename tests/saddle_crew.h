/* SPDX-License-Identifier: MIT
 * saddle_crew.h: for tests: SADDLe's workers each at its own pace, in an order drawn from a seed, while links and
 * workers go and come; and a ledger of what each did in every step, from which it is found out afterwards, without
 * asking the library, whether the averaging was what it promises:
 *
 *   weights    by the rule, from the degrees that both ends announced; the same at both ends; rows that add up to 1
 *   models     what a worker made of its neighbours' is what its weights make of what they really sent
 *   the mean   of any workers that averaged with each other and lost nobody stays
 *   copies     a neighbour's public copy is, bit for bit, what the neighbour has of its own
 *   residuals  what was sent and what is kept add up to what was to be sent
 *   counters   tell what happened
 *
 *     crew_desc d = crew_default(seed, 4);
 *     d.k.s.variant = SADDLE_N;
 *     crew c;
 *     ok = crew_open(&c, &d) && crew_run(&c, 12, 500) && crew_check(&c);
 *     if (!crew_close(&c)) puts(c.k.why);
 *
 * Include after ../grawa.h and ../saddle.h (with their IMPLEMENTATIONs). Nothing here depends on a test framework. */
#ifndef SADDLE_CREW_H
#define SADDLE_CREW_H

#include "saddle_lock.h"

enum { CREW_MOST = 8, CREW_STEPS = 80, CREW_PLANS = 16, CREW_BOUND = 6000 };

/* What a worker did in a step. */
typedef struct crew_act {
    int begun, done, again; /* again: the worker had been lost, and did this step once more */
    uint32_t degree;
    double own, weight[CREW_MOST];
    unsigned char in[CREW_MOST], trouble[CREW_MOST], whole[CREW_MOST];
    int troubled; /* a link was lost meanwhile */
    uint64_t kept, copy[CREW_MOST];
    int has_q;
    double *z, *q, *mixed, *g; /* what was to be published, what was; what came of it; the mean of gradients */
    double *kept_before;
    double *sent[CREW_MOST], *sent_before[CREW_MOST]; /* gradients, by whom they are for */
} crew_act;

typedef enum crew_kind {
    CREW_NOTHING,
    CREW_LOSE,    /* a is no more */
    CREW_JOIN,    /* a comes again, with what it had; its neighbours are told one by one */
    CREW_LEAVE,   /* a says good-bye when it may, after step b at the earliest */
    CREW_UNLINK,  /* a is told that b is gone */
    CREW_LINK,    /* a is told that b is there */
    CREW_CUT,     /* the network between a and b breaks, */
    CREW_CONNECT, /* and is there again */
    CREW_ACTS
} crew_kind;

typedef struct crew_plan {
    uint64_t turn; /* when; 0: none */
    crew_kind kind;
    uint32_t a, b;
} crew_plan;

typedef struct crew_desc {
    lock_desc k;
    uint64_t seed;
    crew_plan plan[CREW_PLANS];
    int lazy;     /* some poll seldom */
    int unhealed; /* nobody is told that a lost link is there again */
} crew_desc;

typedef struct crew crew;
typedef struct crew_seat {
    crew *c;
    uint32_t rank;
} crew_seat;

struct crew {
    crew_desc desc;
    lock k;
    crew_seat seat[CREW_MOST];
    size_t elements;
    uint64_t rng, turn, goal;
    int leaving[CREW_MOST], cut[CREW_MOST][CREW_MOST];
    uint64_t commits[CREW_MOST], degrees[CREW_MOST], partners[CREW_MOST], losses[CREW_MOST], asked[CREW_MOST];
    int open_step[CREW_MOST]; /* begun, and not done when the worker was lost */
    double *made[CREW_MOST][CREW_MOST];
    crew_act act[CREW_MOST][CREW_STEPS];
    uint64_t checked, checked_means, checked_gradients, troubles; /* by crew_check */
};

static crew *crew_now; /* the gradient callback has a worker, but no crew */

static inline int crew_fail(crew *c, const char *format, ...) {
    char what[400];
    va_list ap;
    va_start(ap, format);
    vsnprintf(what, sizeof what, format, ap);
    va_end(ap);
    return lock_fail(&c->k, "seed %llu: %s", (unsigned long long)c->desc.seed, what);
}

/* ---- the ledger ---- */

/* A buffer of the model's size (NULL: the parameters), as doubles; NULL: no memory for it yet. */
static inline void crew_read(const saddle *x, unsigned char *buffer, double *to) {
    size_t t, i, n = 0;
    for (t = 0; t < x->desc.params.count; t++) {
        weft_tensor v = x->desc.params.tensor[t];
        v.data = saddle_at(x, buffer, t);
        for (i = 0; i < v.count; i++) to[n++] = cluster_get(&v, i);
    }
}

static inline double *crew_copy(const crew *c, const saddle *x, unsigned char *buffer) {
    double *to = (double *)malloc((c->elements + 1) * sizeof *to);
    crew_read(x, buffer, to);
    return to;
}

static inline uint64_t crew_hash(const saddle *x, unsigned char *buffer) {
    uint64_t h = UINT64_C(0xCBF29CE484222325);
    size_t t, i;
    for (t = 0; t < x->desc.params.count; t++) {
        const weft_tensor *v = &x->desc.params.tensor[t];
        const unsigned char *p = (const unsigned char *)saddle_at(x, buffer, t);
        for (i = 0; i < v->count * weft_dtype_bytes(v->dtype); i++) h = (h ^ p[i]) * UINT64_C(0x100000001B3);
    }
    return h;
}

static inline void crew_forget(crew_act *a) {
    uint32_t r;
    free(a->z);
    free(a->q);
    free(a->mixed);
    free(a->g);
    free(a->kept_before);
    for (r = 0; r < CREW_MOST; r++) {
        free(a->sent[r]);
        free(a->sent_before[r]);
    }
    memset(a, 0, sizeof *a);
}

static inline void crew_begun(crew *c, uint32_t rank, crew_act *a) {
    const saddle *x = c->k.worker[rank].x;
    const int again = a->begun;
    uint32_t k;
    crew_forget(a);
    a->begun = 1;
    a->again = again;
    a->degree = x->degree;
    a->z = crew_copy(c, x, x->sending);
    if (x->desc.feedback == SADDLE_FEEDBACK) a->kept_before = crew_copy(c, x, x->kept);
    for (k = 0; k < x->net.count; k++) {
        a->whole[x->neighbour[k]] = (unsigned char)(x->edge[k].out && x->edge[k].whole);
        if (x->edge[k].kept) a->sent_before[x->neighbour[k]] = crew_copy(c, x, x->edge[k].kept);
    }
    if (x->self_kept) a->sent_before[rank] = crew_copy(c, x, x->self_kept);
}

/* made + what was kept before - what is kept now: what was really sent. */
static inline double *crew_sent(crew *c, const saddle *x, const double *made, const double *before,
                                unsigned char *kept) {
    double *to = (double *)malloc((c->elements + 1) * sizeof *to);
    size_t i;
    if (kept) crew_read(x, kept, to);
    for (i = 0; i < c->elements; i++) to[i] = kept ? made[i] + before[i] - to[i] : made[i];
    return to;
}

static inline void crew_done(crew *c, uint32_t rank, crew_act *a) {
    const saddle *x = c->k.worker[rank].x;
    const int exact = x->gradient_codec.kind == WEFT_CODEC_IDENTITY;
    uint32_t k;
    if (!a->begun || a->done) {
        crew_fail(c, "worker %u ends a step that it has not begun", rank);
        return;
    }
    a->done = 1;
    a->own = x->own_weight;
    a->mixed = crew_copy(c, x, x->desc.order == SADDLE_ATC ? NULL : x->mixed);
    if (x->desc.feedback == SADDLE_DIFFERENCE) {
        a->kept = crew_hash(x, x->kept);
        a->q = crew_copy(c, x, x->kept);
    } else if (x->desc.feedback == SADDLE_FEEDBACK) {
        a->q = crew_sent(c, x, a->z, a->kept_before, x->kept);
    } else if (x->desc.codec.kind == WEFT_CODEC_IDENTITY) {
        a->q = crew_sent(c, x, a->z, NULL, NULL);
    }
    if (a->q && a->degree == 0 && x->desc.feedback == SADDLE_FEEDBACK) { /* nobody to send it to */
        free(a->q);
        a->q = crew_sent(c, x, a->z, NULL, NULL);
    }
    if (x->cross && x->desc.weight_decay <= 0) a->g = crew_copy(c, x, x->sum);
    for (k = 0; k < x->net.count; k++) {
        const saddle_edge *e = &x->edge[k];
        const uint32_t j = x->neighbour[k];
        if (!e->in) continue;
        a->in[j] = 1;
        a->weight[j] = e->weight;
        if (e->copy) a->copy[j] = crew_hash(x, e->copy);
        if (x->cross && (e->kept || exact)) a->sent[j] = crew_sent(c, x, c->made[rank][j], a->sent_before[j], e->kept);
    }
    if (x->cross && (exact || x->self_kept || !x->desc.compress_self))
        a->sent[rank] = crew_sent(c, x, c->made[rank][rank], a->sent_before[rank], x->self_kept);
}

static inline void crew_trace(void *ctx, const weft_event *e) {
    const crew_seat *seat = (const crew_seat *)ctx;
    crew *c = seat->c;
    const uint32_t rank = seat->rank;
    const saddle *x = c->k.worker[rank].x;
    const uint64_t s = e->round;
    uint32_t r;
    if (e->kind == WEFT_EVENT_ROUND_BEGUN && s < CREW_STEPS) {
        crew_begun(c, rank, &c->act[rank][s]);
    } else if (e->kind == WEFT_EVENT_COMMITTED && s < CREW_STEPS) {
        crew_act *a = &c->act[rank][s];
        crew_done(c, rank, a);
        c->commits[rank]++;
        c->degrees[rank] += a->degree;
        for (r = 0; r < c->k.size; r++) c->partners[rank] += a->in[r];
    } else if (e->kind == WEFT_EVENT_PEER_LOST || e->kind == WEFT_EVENT_PEER_LEFT) {
        c->losses[rank] += e->kind == WEFT_EVENT_PEER_LOST;
        if (x->step + 1 < CREW_STEPS && x->published) {
            crew_act *a = &c->act[rank][x->step + 1];
            a->trouble[e->peer] = 1;
            a->troubled = 1;
        }
    }
}

/* ---- workers ---- */

static inline void crew_pull(lock_worker *w, const saddle_want *want) {
    crew *c = crew_now;
    double *made = c->made[w->rank][want->peer];
    size_t t, i, n = 0;
    c->asked[w->rank]++;
    lock_pull(w, want);
    for (t = 0; t < want->into.count; t++)
        for (i = 0; i < want->into.tensor[t].count; i++) made[n++] = cluster_get(&want->into.tensor[t], i);
}

static const size_t crew_count[3] = {5, 0, 34};
static const size_t crew_large[3] = {5, 0, 1100};
static const weft_dtype crew_f64[3] = {WEFT_F64, WEFT_F64, WEFT_F64};
static const weft_dtype crew_mixed[3] = {WEFT_F64, WEFT_F64, WEFT_F32};

static inline crew_desc crew_default(uint64_t seed, uint32_t workers) {
    crew_desc d;
    memset(&d, 0, sizeof d);
    d.k = lock_default(workers);
    d.k.sim.seed = seed;
    d.k.tensors = 3;
    d.k.count = crew_count;
    d.k.dtype = crew_f64;
    d.k.gradient = crew_pull;
    d.k.unequal = 1;
    d.k.s.piece_bytes = 4096;
    d.k.s.isa = WEFT_ISA_SERIAL;
    d.seed = seed;
    return d;
}

static inline int crew_prepare(lock_worker *w) {
    w->desc.trace = crew_trace;
    w->desc.trace_ctx = &crew_now->seat[w->rank];
    return 1;
}

static inline int crew_open(crew *c, const crew_desc *d) {
    uint32_t r, j;
    size_t t;
    memset(c, 0, sizeof *c);
    crew_now = c;
    c->desc = *d;
    c->desc.k.prepare = crew_prepare;
    c->rng = d->seed * 31 + 7;
    for (t = 0; t < d->k.tensors; t++) c->elements += d->k.count[t];
    for (r = 0; r < CREW_MOST; r++) {
        c->seat[r].c = c;
        c->seat[r].rank = r;
        for (j = 0; j < CREW_MOST; j++) c->made[r][j] = (double *)calloc(c->elements + 1, sizeof(double));
    }
    return lock_open(&c->k, &c->desc.k);
}

static inline int crew_close(crew *c) {
    uint32_t r, j;
    for (r = 0; r < CREW_MOST; r++) {
        for (j = 0; j < CREW_STEPS; j++) crew_forget(&c->act[r][j]);
        for (j = 0; j < CREW_MOST; j++) free(c->made[r][j]);
    }
    return lock_close(&c->k);
}

static inline int crew_there(const crew *c, uint32_t r) {
    return weft_sim_alive(&c->k.sim, r) && !c->k.worker[r].gone;
}

/* A lost worker comes again with the parameters that it had. */
static inline int crew_join(crew *c, uint32_t r) {
    lock_worker *w = &c->k.worker[r];
    if (weft_sim_alive(&c->k.sim, r)) weft_sim_lose(&c->k.sim, r);
    lock_free(w);
    weft_sim_revive(&c->k.sim, r);
    weft_sim_transport(&c->k.sim, r, &w->net);
    w->desc.join = 1;
    c->commits[r] = c->degrees[r] = c->partners[r] = c->losses[r] = c->asked[r] = 0;
    c->leaving[r] = 0;
    w->gone = 0;
    w->status = WEFT_OK;
    return lock_init(w);
}

static inline int crew_down(const crew *c, uint32_t i, uint32_t j) {
    const weft_link_state s = saddle_link(c->k.worker[i].x, j);
    return s == WEFT_LINK_DOWN || s == WEFT_LINK_LEFT;
}

/* The hosts learn that everybody who is there can be reached, and that who is gone will not answer. */
static inline void crew_heal(crew *c) {
    uint32_t i, j;
    for (i = 0; i < c->k.size; i++)
        for (j = 0; j < c->k.size; j++)
            if (i != j && crew_there(c, i) && c->k.worker[j].gone &&
                (saddle_link(c->k.worker[i].x, j) == WEFT_LINK_OPENING ||
                 saddle_link(c->k.worker[i].x, j) == WEFT_LINK_UP)) /* it had given up, and said no good-bye */
                saddle_peer_lost(c->k.worker[i].x, j);
    for (i = 0; i < c->k.size; i++)
        for (j = 0; j < c->k.size; j++)
            if (i != j && crew_there(c, i) && crew_there(c, j) && !c->leaving[i] && !c->cut[i][j] &&
                (!c->leaving[j] || !crew_down(c, j, i)) && c->k.worker[i].x->opened &&
                weft_graph_has_edge(&c->k.graph, i, j) && crew_down(c, i, j))
                saddle_peer_up(c->k.worker[i].x, j);
}

static inline int crew_do(crew *c, crew_plan *p) {
    lock *k = &c->k;
    lock_worker *a = &k->worker[p->a];
    uint32_t r;
    p->turn = 0;
    switch (p->kind) {
    case CREW_LOSE:
        if (crew_there(c, p->a)) weft_sim_lose(&k->sim, p->a);
        break;
    case CREW_JOIN:
        if (!crew_join(c, p->a)) return 0;
        for (r = 0; r < k->size; r++)
            if (r != p->a && crew_there(c, r) && !c->leaving[r]) saddle_peer_up(k->worker[r].x, p->a);
        break;
    case CREW_LEAVE:
        if (!crew_there(c, p->a) || c->leaving[p->a]) break;
        if (a->x->step >= p->b && saddle_leave(a->x) != WEFT_ERR_ORDER)
            c->leaving[p->a] = 1;
        else if (a->x->step < c->goal) /* else it may be in a step that nobody takes any more */
            p->turn = c->turn + 1;
        break;
    case CREW_UNLINK:
        if (crew_there(c, p->a)) saddle_peer_lost(a->x, p->b);
        break;
    case CREW_LINK:
        if (crew_there(c, p->a) && !c->leaving[p->a]) saddle_peer_up(a->x, p->b);
        break;
    case CREW_CUT:
    case CREW_CONNECT:
        if (p->kind == CREW_CUT)
            weft_sim_cut_at(&k->sim, p->a, p->b, weft_sim_now(&k->sim));
        else
            weft_sim_connect_at(&k->sim, p->a, p->b, weft_sim_now(&k->sim));
        c->cut[p->a][p->b] = c->cut[p->b][p->a] = p->kind == CREW_CUT;
        break;
    default: break;
    }
    return 1;
}

/* A worker's turn. 0: an error. */
static inline int crew_turn(crew *c, uint32_t r, uint64_t goal) {
    lock_worker *w = &c->k.worker[r];
    weft_status s;
    if (c->leaving[r]) {
        s = saddle_poll(w->x);
        if (s == WEFT_OK) w->gone = 1;
        return s >= 0 ? 1 : crew_fail(c, "worker %u leaves: %s", r, weft_strerror(s));
    }
    if (w->x->step >= goal) {
        s = saddle_poll(w->x);
        return s >= 0 ? 1 : crew_fail(c, "worker %u polls: %s", r, weft_strerror(s));
    }
    if (lock_go(w) && w->status < 0 && w->status != WEFT_ERR_TIMEOUT) {
        lock_fail_status(w, "step");
        return 0;
    }
    return 1;
}

/* Until all who are there have completed the step of this number. From turn `heal` on hosts mend what is lost. */
static inline int crew_run(crew *c, uint64_t goal, uint64_t heal) {
    lock *k = &c->k;
    const uint64_t first = c->turn;
    const uint32_t slice = 1000 + (uint32_t)(k->sim.desc.latency_ns + k->sim.desc.jitter_ns) / 2;
    uint32_t r, begin, left = 1;
    int i, planned = 1;
    crew_now = c;
    c->goal = goal;
    for (; left || planned; c->turn++) {
        if (c->turn - first > heal + CREW_BOUND) {
            for (r = 0; r < k->size; r++)
                if (crew_there(c, r) && k->worker[r].x->step < goal)
                    return crew_fail(c, "worker %u stays in step %llu: %s", r,
                                     (unsigned long long)k->worker[r].x->step + 1, k->worker[r].x->net.phase);
            return crew_fail(c, "a plan is never done");
        }
        for (i = planned = 0; i < CREW_PLANS; i++) {
            crew_plan *p = &c->desc.plan[i];
            if (p->turn && p->turn <= c->turn && !crew_do(c, p)) return 0;
            planned |= p->turn != 0;
        }
        if (c->turn - first >= heal && c->turn % 40 == 0 && !c->desc.unhealed) crew_heal(c);
        begin = cluster_below(&c->rng, k->size);
        for (r = left = 0; r < k->size; r++) {
            const uint32_t who = (r + begin) % k->size;
            if (!crew_there(c, who)) continue;
            left += k->worker[who].x->step < goal || c->leaving[who];
            if (c->desc.lazy && cluster_below(&c->rng, 3)) continue;
            if (!crew_turn(c, who, goal)) return 0;
        }
        weft_sim_advance(&k->sim, 200 + cluster_below(&c->rng, slice));
    }
    return !k->why[0];
}

/* ---- what must hold ---- */

static inline double crew_slack(const crew *c, double largest) {
    size_t t;
    int narrow = !c->desc.k.dtype;
    for (t = 0; !narrow && t < c->desc.k.tensors; t++) narrow = c->desc.k.dtype[t] == WEFT_F32;
    return (narrow ? 4e-6 : 1e-13) * (1 + largest);
}

static inline int crew_check_weights(crew *c, uint64_t s, uint32_t i) {
    const crew_act *a = &c->act[i][s];
    const saddle_desc *d = &c->k.worker[i].desc;
    double sum = a->own;
    uint32_t j;
    for (j = 0; j < c->k.size; j++) {
        const crew_act *b = &c->act[j][s];
        const uint32_t most = a->degree > b->degree ? a->degree : b->degree;
        double want = 1.0 / (1.0 + (double)most);
        if (d->mixing == WEFT_UNIFORM) want = 1.0 / (1.0 + (double)c->k.graph.most_degree);
        if (d->mixing == WEFT_OWN_WEIGHTS) want = d->weight(d->weight_ctx, i, j);
        if (!a->in[j]) continue;
        sum += a->weight[j];
        if (a->again || b->again) continue; /* which of them was it? */
        if (!b->begun) return crew_fail(c, "step %u: %u averages with %u, which is not in it", (unsigned)s, i, j);
        if (a->weight[j] > want || a->weight[j] < want)
            return crew_fail(c, "step %u: weight of %u at %u is %g, not %g", (unsigned)s, j, i, a->weight[j], want);
        if (b->done && !a->trouble[j] && !b->trouble[i] && !b->in[i])
            return crew_fail(c, "step %u: %u averages with %u, and not the other way round", (unsigned)s, i, j);
        if (b->done && a->copy[j] && a->copy[j] != b->kept)
            return crew_fail(c, "step %u: %u's copy of %u is another one", (unsigned)s, i, j);
    }
    if (!(a->own >= -1e-15) || sum > 1 + 1e-14 || (!a->troubled && sum < 1 - 1e-14))
        return crew_fail(c, "step %u: weights of %u add up to %.17g", (unsigned)s, i, sum);
    return 1;
}

/* Is there a record of what all partners sent, and was nobody lost on the way? */
static inline int crew_clear(const crew *c, uint64_t s, uint32_t i) {
    const crew_act *a = &c->act[i][s];
    uint32_t j;
    if (a->troubled || a->again || !a->q) return 0;
    for (j = 0; j < c->k.size; j++)
        if (a->in[j] && (!c->act[j][s].done || !c->act[j][s].q || c->act[j][s].again)) return 0;
    return 1;
}

static inline int crew_check_model(crew *c, uint64_t s, uint32_t i) {
    const crew_act *a = &c->act[i][s];
    const double gamma = c->k.worker[i].desc.gamma > 0 ? c->k.worker[i].desc.gamma : 1;
    uint32_t j;
    size_t e;
    if (!crew_clear(c, s, i)) return 1;
    for (e = 0; e < c->elements; e++) {
        double x = a->z[e], largest = fabs(x);
        for (j = 0; j < c->k.size; j++) {
            const crew_act *b = &c->act[j][s];
            if (!a->in[j]) continue;
            x += gamma * a->weight[j] * (b->q[e] - a->q[e]);
            largest = fmax(largest, fmax(fabs(b->q[e]), fabs(a->q[e])));
        }
        if (!(fabs(x - a->mixed[e]) <= crew_slack(c, largest)))
            return crew_fail(c, "step %u: element %u of %u is %.17g, not %.17g", (unsigned)s, (unsigned)e, i,
                             a->mixed[e], x);
    }
    c->checked++;
    return 1;
}

static inline int crew_check_gradient(crew *c, uint64_t s, uint32_t i) {
    const crew_act *a = &c->act[i][s];
    const saddle_desc *d = &c->k.worker[i].desc;
    const double share = d->share > 0 ? d->share : d->share < 0 ? 0 : 1;
    uint32_t j;
    size_t e;
    if (!a->g || !a->sent[i] || a->troubled || a->again) return 1;
    for (j = 0; j < c->k.size; j++) { /* what was made for whom it has lost may have been sent, or not */
        if (a->in[j] && share > 0 && (!c->act[j][s].done || !c->act[j][s].sent[i] || c->act[j][s].again)) return 1;
        if (a->in[j] && share < 1 && !a->sent[j]) return 1;
    }
    for (e = 0; e < c->elements; e++) {
        double x = a->own * a->sent[i][e], largest = fabs(a->sent[i][e]);
        for (j = 0; j < c->k.size; j++) {
            double got;
            if (!a->in[j]) continue;
            got = share > 0 ? c->act[j][s].sent[i][e] : 0;
            x += a->weight[j] * ((share < 1 ? (1 - share) * a->sent[j][e] : 0) + share * got);
            largest = fmax(largest, fmax(share < 1 ? fabs(a->sent[j][e]) : 0, fabs(got)));
        }
        if (!(fabs(x - a->g[e]) <= crew_slack(c, 4 * largest)))
            return crew_fail(c, "step %u: element %u of the gradient of %u is %.17g, not %.17g", (unsigned)s,
                             (unsigned)e, i, a->g[e], x);
    }
    c->checked_gradients++;
    return 1;
}

/* Workers that averaged with each other, and lost nobody: their mean stays. */
static inline int crew_check_means(crew *c, uint64_t s) {
    uint32_t part[CREW_MOST], i, j, p;
    int again = 1;
    size_t e;
    for (i = 0; i < c->k.size; i++) part[i] = i;
    while (again)
        for (i = again = 0; i < c->k.size; i++)
            for (j = 0; j < c->k.size; j++)
                if (c->act[i][s].done && c->act[i][s].in[j] && part[i] != part[j]) {
                    const uint32_t low = part[i] < part[j] ? part[i] : part[j];
                    part[i] = part[j] = low;
                    again = 1;
                }
    for (p = 0; p < c->k.size; p++) {
        int sound = 1, members = 0;
        for (i = 0; i < c->k.size; i++)
            if (part[i] == p) {
                members++;
                sound = sound && c->act[i][s].done && !c->act[i][s].troubled && !c->act[i][s].again;
            }
        for (i = 0; sound && i < c->k.size; i++) /* somebody may have sent to it, and lost it */
            for (j = 0; j < c->k.size; j++)
                if (part[i] == p && c->act[j][s].begun && c->act[j][s].trouble[i]) sound = 0;
        if (!sound || members < 2) continue;
        for (e = 0; e < c->elements; e++) {
            double change = 0, largest = 0;
            for (i = 0; i < c->k.size; i++)
                if (part[i] == p) {
                    change += c->act[i][s].mixed[e] - c->act[i][s].z[e];
                    largest = fmax(largest, fabs(c->act[i][s].z[e]));
                    if (c->act[i][s].q) largest = fmax(largest, fabs(c->act[i][s].q[e]));
                }
            if (!(fabs(change) <= crew_slack(c, largest) * members))
                return crew_fail(c, "step %u: the mean of element %u moves by %g", (unsigned)s, (unsigned)e, change);
        }
        c->checked_means++;
    }
    return 1;
}

static inline int crew_check_counters(crew *c, uint32_t r) {
    const saddle *x = c->k.worker[r].x;
    saddle_stats_t s;
    saddle_stats(x, &s);
    if (s.steps != c->commits[r] || s.lost != c->losses[r] ||
        s.evaluations != c->asked[r] + (x->state == SADDLE_WANTING))
        return crew_fail(c, "worker %u counts %llu steps, %llu lost links, %llu gradients; there were %llu, %llu, %llu",
                         r, (unsigned long long)s.steps, (unsigned long long)s.lost, (unsigned long long)s.evaluations,
                         (unsigned long long)c->commits[r], (unsigned long long)c->losses[r],
                         (unsigned long long)c->asked[r]);
    if (x->state != SADDLE_IDLE && x->state != SADDLE_LEFT) return 1;
    /* each neighbour that a step began with has been averaged in, or has been skipped; or both, where gradients are
     * exchanged */
    if (x->sends_gradients
            ? s.exchanges < c->partners[r] || s.exchanges + s.skipped < c->degrees[r] || s.exchanges > c->degrees[r]
            : s.exchanges != c->partners[r] || s.exchanges + s.skipped != c->degrees[r])
        return crew_fail(c, "worker %u counts %llu exchanges, %llu skipped; there were %llu in all, %llu to the end", r,
                         (unsigned long long)s.exchanges, (unsigned long long)s.skipped,
                         (unsigned long long)c->degrees[r], (unsigned long long)c->partners[r]);
    return 1;
}

static inline int crew_check(crew *c) {
    uint64_t s;
    uint32_t i;
    c->checked = c->checked_means = c->checked_gradients = c->troubles = 0;
    for (s = 1; s < CREW_STEPS; s++) {
        for (i = 0; i < c->k.size; i++) {
            c->troubles += c->act[i][s].begun && c->act[i][s].troubled;
            if (!c->act[i][s].done) continue;
            if (!crew_check_weights(c, s, i) || !crew_check_model(c, s, i) || !crew_check_gradient(c, s, i)) return 0;
        }
        if (!crew_check_means(c, s)) return 0;
    }
    for (i = 0; i < c->k.size; i++)
        if (weft_sim_alive(&c->k.sim, i) && !crew_check_counters(c, i)) return 0;
    return !c->k.why[0];
}

#endif /* SADDLE_CREW_H */
