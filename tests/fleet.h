/* SPDX-License-Identifier: MIT
 * fleet.h: workers that go on after faults: the host's side of losing, regrouping, coming back and leaving, driven in
 * virtual time, with an oracle beside the library that knows at every moment which bits each worker's parameters must
 * have.
 *
 *     fleet_desc d = fleet_default(seed, 3);
 *     d.grawa.period_steps = 2;
 *     fleet f;
 *     ok = fleet_open(&f, &d);
 *     fault = weft_sim_lose_at_message(&f.sim, 1, 17, 0);
 *     ok = ok && fleet_run(&f, 3);      // until every survivor has three rounds behind it and nothing moves any more
 *     if (!fleet_close(&f)) puts(f.why);
 *
 * The oracle: parameters change only when a round commits, then as x <- (1 - pull) x + pull c with the center c of the
 * models that the participants came with, under the weights that grawa_weight tells, added in ascending rank (a worker
 * that was not in the last view: x <- c), and by the proximal pull of a step. Everything else must leave every bit
 * alone.
 *
 * Include after ../grawa.h (with GRAWA_IMPLEMENTATION) and cluster.h. All tensors are f32. Nothing here depends on a
 * test framework. */
#ifndef FLEET_H
#define FLEET_H

#include "cluster.h"

#define FLEET_MOST 6
#define FLEET_KEEP 8      /* rounds that the oracle remembers */
#define FLEET_HISTORY 256 /* committed rounds of a worker */

typedef struct fleet fleet;
typedef struct fleet_worker fleet_worker;

typedef enum fleet_policy {
    FLEET_REGROUP = 0, /* after an error every survivor is given a new view */
    FLEET_STOP = 1     /* a worker with an error is closed and does no more */
} fleet_policy;

typedef struct fleet_desc {
    weft_sim_desc sim;
    grawa_desc grawa; /* for every worker; params and transport are filled in */
    size_t tensors;
    const size_t *count;
    size_t chunk; /* of the parameters' direct exchange; 0: the library's */
    uint64_t data_seed;
    fleet_policy policy;
    uint64_t step_ns[FLEET_MOST];        /* what a local step takes */
    uint64_t leave_step[FLEET_MOST];     /* says good-bye after so many steps; 0: never */
    uint64_t view_ns[FLEET_MOST];        /* a new view reaches this worker's host so much later */
    uint64_t most_steps;                 /* local steps of a worker between two calls of fleet_run; 0: 2,000 */
    int deaf;                            /* does not poll while it computes */
    int no_oracle;                       /* numbers may be wrong: bulk data is tampered with */
    void (*after_step)(fleet_worker *w); /* once grawa_step has returned WEFT_OK or is over */
    const weft_tensors *(*train)(fleet_worker *w); /* NULL: noise */
} fleet_desc;

typedef enum fleet_doing { FLEET_BEGINS, FLEET_COMPUTES, FLEET_WAITS, FLEET_RESTS, FLEET_STOPPED } fleet_doing;

struct fleet_worker {
    fleet *f;
    uint32_t rank;
    weft_transport net;
    grawa_desc desc;
    grawa *g;
    unsigned char *memory;
    size_t bytes;
    weft_tensors params, grads;
    uint64_t rng, step, run_steps, until, naps;
    fleet_doing doing, then; /* then: what it does once the verb in progress is over */
    int leaving, left, computing;
    weft_status status;
    uint32_t epoch;
    /* what happened */
    uint64_t errors, lost_errors, timeouts, rejects, regroups, leaves_heard;
    weft_status stopped_by, last_error;
    weft_detail last_detail;
    uint64_t committed[FLEET_HISTORY], center_hash[FLEET_HISTORY], participants[FLEET_HISTORY];
    uint32_t commits;
    /* the oracle */
    int fresh;
    uint64_t views;
    float *kept, *anchor;
    float *begun[FLEET_KEEP];
    uint64_t begun_round[FLEET_KEEP];
    uint32_t begun_next;
};

struct fleet {
    fleet_desc desc;
    weft_sim sim;
    uint32_t size, epoch;
    int in_view[FLEET_MOST];
    uint64_t view_at;
    size_t elements;
    float *scratch;
    uint64_t target; /* rounds */
    uint64_t commits_checked;
    unsigned char judged[256]; /* an epoch: 1: some member knows the center; 2: all are new */
    fleet_worker worker[FLEET_MOST];
    char why[1024];
};

static inline int fleet_fail(fleet *f, const char *format, ...) {
    va_list ap;
    size_t n;
    if (f->why[0]) return 0;
    snprintf(f->why, sizeof f->why, "seed %llu, data %llu, at %llu ns: ", (unsigned long long)f->desc.sim.seed,
             (unsigned long long)f->desc.data_seed, (unsigned long long)f->sim.now);
    n = strlen(f->why);
    va_start(ap, format);
    vsnprintf(f->why + n, sizeof f->why - n, format, ap);
    va_end(ap);
    return 0;
}

static inline int fleet_fail_detail(fleet_worker *w, const char *what, weft_status s) {
    const weft_detail *d = w->g ? grawa_detail(w->g) : &w->last_detail;
    return fleet_fail(w->f, "worker %lu: %s: %s (peer %ld, round %llu, phase %s, field %s, expected %llu, got %llu)",
                      (unsigned long)w->rank, what, weft_strerror(s), (long)(int32_t)d->peer,
                      (unsigned long long)d->round, d->phase ? d->phase : "-", d->field ? d->field : "-",
                      (unsigned long long)d->expected, (unsigned long long)d->got);
}

static inline void fleet_flat(const weft_tensors *t, float *out) {
    size_t i;
    for (i = 0; i < t->count; out += t->tensor[i++].count)
        if (t->tensor[i].count) memcpy(out, t->tensor[i].data, t->tensor[i].count * sizeof *out);
}

static inline int fleet_is(const weft_tensors *t, const float *flat) {
    size_t i;
    for (i = 0; i < t->count; flat += t->tensor[i++].count)
        if (t->tensor[i].count && memcmp(flat, t->tensor[i].data, t->tensor[i].count * sizeof *flat) != 0) return 0;
    return 1;
}

static inline int fleet_finite(const float *x, size_t n) {
    size_t i;
    for (i = 0; i < n; i++)
        if (!isfinite(x[i])) return 0;
    return 1;
}

/* Each product and each sum rounded to f32, whatever the compiler would rather do. */
static inline float fleet_mul(float a, float b) {
    volatile float p = a * b;
    return p;
}
static inline float fleet_add(float a, float b) {
    volatile float s = a + b;
    return s;
}

static inline float fleet_pull(double l, float x, float c) {
    return fleet_add(fleet_mul((float)(1.0 - l), x), fleet_mul((float)l, c));
}

/* ---- the oracle ---- */

static inline void fleet_begun(fleet_worker *w, uint64_t round) {
    uint32_t k = w->begun_next++ % FLEET_KEEP;
    if (!w->begun[k]) w->begun[k] = (float *)malloc(w->f->elements * sizeof(float) + 1);
    fleet_flat(&w->params, w->begun[k]);
    w->begun_round[k] = round;
}

/* What the worker came with to this round: the latest beginning of one that is not later. */
static inline const float *fleet_contribution(const fleet_worker *w, uint64_t round) {
    uint32_t i;
    for (i = 0; i < FLEET_KEEP && i < w->begun_next; i++) {
        uint32_t k = (w->begun_next - 1 - i) % FLEET_KEEP;
        if (w->begun_round[k] <= round) return w->begun[k];
    }
    return NULL;
}

static inline void fleet_committed(fleet_worker *w, uint64_t round, uint64_t count) {
    fleet *f = w->f;
    float *c = f->scratch, *expect = f->scratch + f->elements;
    const float *own = fleet_contribution(w, round);
    size_t t, i, at = 0;
    uint32_t r;
    if (w->commits < FLEET_HISTORY) {
        w->committed[w->commits] = round;
        w->participants[w->commits] = count;
    }
    if (f->desc.no_oracle) {
        fleet_flat(&w->params, w->kept);
        w->commits += w->commits < FLEET_HISTORY;
        return;
    }
    for (t = 0; t < w->params.count; t++) {
        uint32_t group = f->desc.grawa.weighting == GRAWA_BY_LAYER ? (uint32_t)t : 0;
        for (i = 0; i < w->params.tensor[t].count; i++, at++) {
            int started = 0;
            c[at] = 0.0f;
            for (r = 0; r < f->size; r++) {
                float b = (float)grawa_weight(w->g, r, group);
                const float *x = b != 0 ? fleet_contribution(&f->worker[r], round) : NULL;
                if (b == 0) continue;
                if (!x) {
                    fleet_fail(f, "worker %lu: round %llu gives a weight to worker %lu, which has not arrived",
                               (unsigned long)w->rank, (unsigned long long)round, (unsigned long)r);
                    return;
                }
                c[at] = started ? fleet_add(c[at], fleet_mul(b, x[at])) : fleet_mul(b, x[at]);
                started = 1;
            }
        }
    }
    if (!own) {
        fleet_fail(f, "worker %lu: commits round %llu without having begun it", (unsigned long)w->rank,
                   (unsigned long long)round);
        return;
    }
    if (!fleet_finite(c, f->elements))
        fleet_fail(f, "worker %lu: the center of round %llu is not finite", (unsigned long)w->rank,
                   (unsigned long long)round);
    for (i = 0; i < f->elements; i++) {
        if (w->fresh)
            expect[i] = c[i];
        else if (count == 1 || w->desc.pull == WEFT_ZERO || !fleet_finite(own, f->elements))
            expect[i] = own[i];
        else
            expect[i] = fleet_pull(w->desc.pull == 0 ? 0.5 : w->desc.pull, own[i], c[i]);
    }
    if (!fleet_is(&w->params, expect))
        fleet_fail(f, "worker %lu: parameters after round %llu (%llu workers%s) are not those of the center",
                   (unsigned long)w->rank, (unsigned long long)round, (unsigned long long)count,
                   w->fresh ? ", fresh" : "");
    fleet_flat(&w->params, w->kept);
    memcpy(w->anchor, c, f->elements * sizeof *c);
    if (w->commits < FLEET_HISTORY) {
        w->center_hash[w->commits] = weft_sim_hash_bytes((const unsigned char *)c, f->elements * sizeof *c);
        w->commits++;
    }
    w->fresh = 0;
    f->commits_checked++;
}

/* A new worker takes over the center, if there is one and anybody who knows it. */
static inline void fleet_judge(fleet_worker *w, uint64_t round, uint32_t epoch) {
    fleet *f = w->f;
    unsigned char *judged = &f->judged[epoch % sizeof f->judged];
    uint32_t i;
    if (!*judged) {
        *judged = 2;
        for (i = 0; i < w->g->group.members; i++) {
            fleet_worker *m = &f->worker[w->g->group.member[i]];
            if (m->views && !m->fresh) *judged = 1;
        }
    }
    if (w->views++ == 0) w->fresh = 1;
    if (round == 0 || *judged == 2) w->fresh = 0;
}

static inline void fleet_trace(void *ctx, const weft_event *e) {
    fleet_worker *w = (fleet_worker *)ctx;
    if (e->rank != w->rank) fleet_fail(w->f, "a trace event of another rank");
    if (e->kind == WEFT_EVENT_ROUND_BEGUN) fleet_begun(w, e->round);
    if (e->kind == WEFT_EVENT_COMMITTED) fleet_committed(w, e->round, e->value);
    if (e->kind == WEFT_EVENT_PEER_LEFT) w->leaves_heard++;
    if (e->kind == WEFT_EVENT_VIEW) fleet_judge(w, e->round, (uint32_t)e->value);
}

/* A verb has returned: the parameters are what the oracle says. */
static inline void fleet_look(fleet_worker *w, const char *verb) {
    if (!w->f->desc.no_oracle && !fleet_is(&w->params, w->kept))
        fleet_fail(w->f, "worker %lu: %s has changed parameters outside of a commit", (unsigned long)w->rank, verb);
    if (w->f->desc.no_oracle) fleet_flat(&w->params, w->kept);
}

/* ---- the host ---- */

static inline int fleet_turn(void *user, uint32_t rank);

static inline void fleet_wake(fleet *f) {
    uint32_t r;
    for (r = 0; r < f->size; r++)
        if (weft_sim_alive(&f->sim, r) && f->worker[r].doing != FLEET_STOPPED)
            weft_sim_worker(&f->sim, r, fleet_turn, &f->worker[r]);
}

/* Everybody who is alive and has not left. */
static inline void fleet_new_view(fleet *f) {
    uint32_t r;
    f->epoch++;
    f->view_at = f->sim.now;
    for (r = 0; r < f->size; r++)
        f->in_view[r] = weft_sim_alive(&f->sim, r) && !f->worker[r].left && f->worker[r].doing != FLEET_STOPPED;
    fleet_wake(f);
}

static inline void fleet_stop(fleet_worker *w) {
    w->last_detail = w->g ? *grawa_detail(w->g) : w->last_detail;
    if (w->g) grawa_close(w->g);
    w->g = NULL;
    w->doing = FLEET_STOPPED;
}

static inline void fleet_error(fleet_worker *w, const char *verb) {
    fleet *f = w->f;
    const weft_detail *d = grawa_detail(w->g);
    w->errors++;
    w->last_error = w->status;
    w->last_detail = *d;
    if (d->status != w->status) fleet_fail_detail(w, "the detail is of something else", w->status);
    if (!d->phase || !d->phase[0]) fleet_fail_detail(w, "the detail does not tell the phase", w->status);
    if (w->status == WEFT_ERR_PEER_LOST && (d->peer >= f->size || d->peer == w->rank))
        fleet_fail_detail(w, "the detail does not tell who is lost", w->status);
    if (w->status == WEFT_ERR_NONFINITE) {
        w->rejects++;
        w->status = WEFT_OK;
        return;
    }
    if (w->status == WEFT_ERR_TIMEOUT && f->desc.policy == FLEET_REGROUP) {
        w->timeouts++;
        w->status = WEFT_AGAIN;
        return;
    }
    if (f->desc.policy == FLEET_STOP) {
        w->stopped_by = w->status;
        fleet_stop(w);
        return;
    }
    if (w->status != WEFT_ERR_PEER_LOST && w->status != WEFT_ERR_TRANSPORT) {
        fleet_fail_detail(w, verb, w->status);
        fleet_stop(w);
        return;
    }
    w->lost_errors += w->status == WEFT_ERR_PEER_LOST;
    if (w->epoch == f->epoch) fleet_new_view(f);
}

static inline const weft_tensors *fleet_noise(fleet_worker *w) {
    size_t t, i;
    cluster_fill(&w->grads, cluster_draw(&w->rng), 0.5 + (double)w->rank);
    for (t = 0; t < w->grads.count; t++)
        for (i = 0; i < w->grads.tensor[t].count; i++)
            ((float *)w->params.tensor[t].data)[i] -= 0.05f * ((float *)w->grads.tensor[t].data)[i];
    return &w->grads;
}

/* One local step and grawa_step. */
static inline void fleet_step(fleet_worker *w) {
    fleet *f = w->f;
    const weft_tensors *grads = f->desc.train ? f->desc.train(w) : fleet_noise(w);
    grawa_desc now;
    size_t i;
    fleet_flat(&w->params, w->kept);
    grawa_effective(w->g, &now);
    if (now.proximal > 0)
        for (i = 0; i < f->elements; i++)
            w->kept[i] = fleet_pull(now.proximal / (double)now.period_steps, w->kept[i], w->anchor[i]);
    w->step++;
    w->run_steps++;
    w->status = grawa_step(w->g, grads);
    fleet_look(w, "grawa_step");
}

/* Is there a view that this worker's host has heard of and the worker has not? */
static inline int fleet_told(fleet_worker *w) {
    fleet *f = w->f;
    uint64_t at = f->view_at + f->desc.view_ns[w->rank];
    if (f->epoch <= w->epoch || !f->in_view[w->rank] || w->doing == FLEET_STOPPED) return 0;
    if (f->sim.now < at) weft_sim_wake(&f->sim, w->rank, at);
    return f->sim.now >= at;
}

static inline int fleet_turn(void *user, uint32_t rank) {
    fleet_worker *w = (fleet_worker *)user;
    fleet *f = w->f;
    uint64_t most = f->desc.most_steps ? f->desc.most_steps : 2000;
    for (;;) {
        uint64_t now = weft_sim_now(&f->sim);
        if (f->why[0]) return 0;
        if (w->status != WEFT_AGAIN) w->naps = 0;
        if (fleet_told(w)) {
            /* the host's word: a new view */
            uint32_t member[FLEET_MOST], n = 0, r;
            weft_view v;
            for (r = 0; r < f->size; r++)
                if (f->in_view[r]) member[n++] = r;
            v.struct_size = sizeof v;
            v.epoch = f->epoch;
            v.count = n;
            v.members = member;
            for (r = 0; r < n; r++)
                if (member[r] != rank && grawa_peer_up(w->g, member[r]) != WEFT_OK)
                    fleet_fail_detail(w, "peer_up", grawa_detail(w->g)->status);
            w->epoch = f->epoch;
            w->regroups++;
            if (w->doing != FLEET_WAITS) w->then = w->doing;
            w->doing = FLEET_WAITS;
            w->status = grawa_regroup(w->g, &v);
            fleet_look(w, "grawa_regroup");
            if (w->status < 0) fleet_error(w, "regroup");
            continue;
        }
        switch (w->doing) {
        case FLEET_BEGINS:
            if (w->step && w->step == f->desc.leave_step[rank] && !w->leaving) {
                w->leaving = 1;
                w->doing = w->then = FLEET_WAITS;
                w->status = grawa_leave(w->g);
                fleet_look(w, "grawa_leave");
                break;
            }
            if (w->g->round >= f->target) {
                w->doing = FLEET_RESTS;
                break;
            }
            if (w->run_steps >= most) {
                fleet_fail(f, "worker %lu takes steps but no round is over", (unsigned long)rank);
                return 0;
            }
            w->until = now + f->desc.step_ns[rank];
            w->doing = FLEET_COMPUTES;
            if (w->until == now) break;
            if (f->desc.deaf)
                weft_sim_busy(&f->sim, rank, w->until - now);
            else
                weft_sim_sleep(&f->sim, rank, w->until - now);
            return 0;
        case FLEET_COMPUTES:
            if (now < w->until) {
                if (f->desc.deaf) return 0;
                w->status = grawa_poll(w->g);
                fleet_look(w, "grawa_poll");
                if (w->status < 0) {
                    w->then = FLEET_COMPUTES;
                    w->doing = FLEET_WAITS;
                    break;
                }
                weft_sim_sleep(&f->sim, rank, w->until - now);
                return 0;
            }
            fleet_step(w);
            w->then = FLEET_BEGINS;
            w->doing = FLEET_WAITS;
            break;
        case FLEET_WAITS:
            if (w->status == WEFT_AGAIN) {
                w->status = grawa_poll(w->g);
                fleet_look(w, "grawa_poll");
            }
            if (w->status == WEFT_AGAIN) {
                uint64_t ns = f->desc.grawa.partial_deadline_ns;
                if (f->desc.grawa.timeout_ns && (!ns || f->desc.grawa.timeout_ns < ns)) ns = f->desc.grawa.timeout_ns;
                /* Somebody who waits in vain must come to rest as well, to be seen. */
                if (ns && w->naps++ < 100) weft_sim_sleep(&f->sim, rank, ns);
                return 0;
            }
            if (w->status == WEFT_WANT_GRADIENT) {
                cluster_fill(&w->grads, cluster_draw(&w->rng), 0.5 + (double)rank);
                w->status = grawa_probe(w->g, &w->grads);
                fleet_look(w, "grawa_probe");
                break;
            }
            if (w->status < 0) {
                weft_status s = w->status;
                fleet_error(w, "run");
                if (w->doing == FLEET_STOPPED) return 1;
                if (w->status == s) { /* waits for the host's new view */
                    if (fleet_told(w)) break;
                    return 0;
                }
                break;
            }
            if (w->leaving) {
                w->left = 1;
                if (grawa_state(w->g))
                    fleet_fail(f, "worker %lu has left, but verbs are still legal", (unsigned long)rank);
                fleet_stop(w);
                if (f->in_view[rank] && w->epoch < f->epoch) fleet_new_view(f); /* one that it will not come to */
                return 1;
            }
            if (w->then == FLEET_BEGINS && f->desc.after_step) f->desc.after_step(w);
            w->doing = w->then == FLEET_WAITS ? FLEET_BEGINS : w->then;
            if (w->doing == FLEET_COMPUTES && now < w->until) weft_sim_sleep(&f->sim, rank, w->until - now);
            break;
        case FLEET_RESTS:
            if (w->g->round < f->target) { /* a new goal, or the round was taken back: its committers are gone */
                w->doing = FLEET_BEGINS;
                break;
            }
            w->status = grawa_poll(w->g);
            fleet_look(w, "grawa_poll");
            if (w->status < 0) {
                w->then = FLEET_RESTS;
                w->doing = FLEET_WAITS;
                break;
            }
            return 0;
        case FLEET_STOPPED: return 1;
        }
    }
}

static inline int fleet_make(fleet_worker *w) {
    weft_detail why = weft_detail_none();
    w->desc = w->f->desc.grawa;
    w->desc.params = w->params;
    w->desc.transport = &w->net;
    w->desc.trace = fleet_trace;
    w->desc.trace_ctx = w;
    w->bytes = grawa_memory(&w->desc, NULL);
    w->memory = (unsigned char *)malloc(w->bytes + 1);
    w->status = w->memory ? grawa_init_detail(&w->g, &w->desc, w->memory + 1, w->bytes, &why) : WEFT_ERR_MEMORY;
    fleet_flat(&w->params, w->kept);
    fleet_flat(&w->params, w->anchor);
    w->epoch = 0; /* what it had begun before it was lost may still be committed by the others, and is kept */
    w->fresh = 0;
    w->views = 0;
    w->doing = w->then = FLEET_BEGINS;
    w->leaving = w->left = 0;
    if (w->status != WEFT_OK)
        return fleet_fail(w->f, "worker %lu: init: %s (%s)", (unsigned long)w->rank, weft_strerror(w->status),
                          why.field ? why.field : "-");
    if (w->f->desc.chunk) w->g->reduce.chunk = w->f->desc.chunk;
    return 1;
}

static inline fleet_desc fleet_default(uint64_t seed, uint32_t workers) {
    static const size_t count[3] = {7, 0, 3};
    fleet_desc d;
    memset(&d, 0, sizeof d);
    d.sim.seed = seed;
    d.sim.size = workers;
    d.sim.watch = d.sim.scribble = d.sim.cancel_delivers = 1;
    d.sim.latency_ns = 1000;
    d.sim.jitter_ns = 700;
    d.grawa.struct_size = sizeof d.grawa;
    d.grawa.check_replicas = 1;
    d.grawa.period_steps = 2;
    d.tensors = 3;
    d.count = count;
    d.data_seed = seed;
    return d;
}

static inline int fleet_open(fleet *f, const fleet_desc *d) {
    uint32_t r;
    size_t t;
    int ok = 1;
    memset(f, 0, sizeof *f);
    f->desc = *d;
    f->size = d->sim.size;
    if (f->size > FLEET_MOST || weft_sim_init(&f->sim, &f->desc.sim) != WEFT_OK)
        return fleet_fail(f, "no simulated network");
    for (t = 0; t < d->tensors; t++) f->elements += d->count[t];
    f->scratch = (float *)malloc(2 * f->elements * sizeof(float) + 1);
    for (r = 0; r < f->size; r++) {
        fleet_worker *w = &f->worker[r];
        w->f = f;
        w->rank = r;
        w->rng = d->data_seed * 1000003 + r;
        w->params = cluster_tensors(d->tensors, d->count, NULL);
        w->grads = cluster_tensors(d->tensors, d->count, NULL);
        w->kept = (float *)malloc(f->elements * sizeof(float) + 1);
        w->anchor = (float *)malloc(f->elements * sizeof(float) + 1);
        cluster_fill(&w->params, d->data_seed, 1.0);
        weft_sim_transport(&f->sim, r, &w->net);
        f->in_view[r] = 1;
        ok = ok && fleet_make(w);
    }
    return ok;
}

/* A lost worker is there again, as a new process: a new object, parameters of its own. The host gives all a larger
 * view. */
static inline int fleet_rejoin(fleet *f, uint32_t rank) {
    fleet_worker *w = &f->worker[rank];
    weft_sim_revive(&f->sim, rank);
    free(w->memory);
    w->memory = NULL;
    w->g = NULL;
    cluster_fill(&w->params, f->desc.data_seed + 1000 + rank, 3.0);
    w->commits = 0;
    w->run_steps = 0;
    if (!fleet_make(w)) return 0;
    fleet_new_view(f);
    return 1;
}

/* Goes on until nothing moves. Then every worker that is alive and has neither left nor stopped must be at rest, with
 * `rounds` rounds behind it. */
static inline int fleet_run(fleet *f, uint64_t rounds) {
    uint32_t r;
    weft_sim_end end;
    f->target = rounds;
    for (r = 0; r < f->size; r++) f->worker[r].run_steps = f->worker[r].naps = 0;
    fleet_wake(f);
    end = weft_sim_run(&f->sim, 400000);
    if (f->why[0]) return 0;
    if (end != WEFT_SIM_DONE && end != WEFT_SIM_DEADLOCK) return fleet_fail(f, "run: %s", weft_sim_text(&f->sim));
    for (r = 0; r < f->size; r++) {
        fleet_worker *w = &f->worker[r];
        if (!weft_sim_alive(&f->sim, r) || w->doing == FLEET_STOPPED) continue;
        /* partial rounds: it has missed the last round and waits for the next one, which nobody wants any more */
        if (w->g->state == GRAWA_READY && w->g->round >= rounds) continue;
        if (w->doing != FLEET_RESTS)
            return fleet_fail(f, "worker %lu hangs in state %d after round %llu (epoch %lu, verb said %s): %s",
                              (unsigned long)r, w->g->state, (unsigned long long)w->g->round, (unsigned long)w->epoch,
                              weft_strerror(w->status), weft_sim_text(&f->sim));
    }
    return 1;
}

/* The survivors of all views have committed the same rounds with the same centers. A worker that came later, or left
 * earlier, has a part of them. */
static inline int fleet_agree(fleet *f) {
    uint32_t a, b, i, j;
    for (a = 0; a < f->size; a++)
        for (b = 0; b < f->size; b++) {
            fleet_worker *p = &f->worker[a], *q = &f->worker[b];
            if (a == b || !weft_sim_alive(&f->sim, a) || !weft_sim_alive(&f->sim, b) || p->left || q->left) continue;
            for (i = 0; i < p->commits; i++)
                for (j = 0; j < q->commits; j++)
                    if (p->committed[i] == q->committed[j] &&
                        (p->center_hash[i] != q->center_hash[j] || p->participants[i] != q->participants[j]))
                        return fleet_fail(f, "workers %lu and %lu have different centers of round %llu",
                                          (unsigned long)a, (unsigned long)b, (unsigned long long)p->committed[i]);
            if (p->doing != FLEET_RESTS || q->doing != FLEET_RESTS || f->desc.grawa.partial_deadline_ns) continue;
            if (p->g->stats.steps && q->g->stats.steps && p->g->round != q->g->round)
                return fleet_fail(f, "workers %lu and %lu are not in the same round", (unsigned long)a,
                                  (unsigned long)b);
            /* from the first round of both on, the same list */
            for (i = p->commits, j = q->commits; i > 0 && j > 0; i--, j--)
                if (p->committed[i - 1] != q->committed[j - 1])
                    return fleet_fail(f,
                                      "worker %lu has committed round %llu where worker %lu has committed round %llu",
                                      (unsigned long)a, (unsigned long long)p->committed[i - 1], (unsigned long)b,
                                      (unsigned long long)q->committed[j - 1]);
        }
    return 1;
}

/* Ends everything; 0 if anything was wrong. */
static inline int fleet_close(fleet *f) {
    uint32_t r, k;
    for (r = 0; r < f->size; r++) {
        fleet_worker *w = &f->worker[r];
        if (w->g) grawa_close(w->g);
        w->g = NULL;
        free(w->memory);
        if (w->params.tensor && (!cluster_tensors_whole(&w->params) || !cluster_tensors_whole(&w->grads)))
            fleet_fail(f, "worker %lu: somebody wrote behind a tensor", (unsigned long)r);
        if (w->params.tensor) cluster_tensors_free(&w->params);
        if (w->grads.tensor) cluster_tensors_free(&w->grads);
        free(w->kept);
        free(w->anchor);
        for (k = 0; k < FLEET_KEEP; k++) free(w->begun[k]);
    }
    if (f->sim.worker && weft_sim_violation(&f->sim)) fleet_fail(f, "%s", weft_sim_violation(&f->sim));
    if (f->sim.worker && weft_sim_outstanding(&f->sim)) fleet_fail(f, "requests are left after close");
    if (f->sim.worker) weft_sim_free(&f->sim);
    free(f->scratch);
    f->scratch = NULL;
    f->size = 0;
    return !f->why[0];
}

#endif /* FLEET_H */
