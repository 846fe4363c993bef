/* SPDX-License-Identifier: MIT
 * hpsgd_crew.h: for tests: workers with HPSGD objects in one thread and in virtual time, each at its own pace, with a
 * host's side of losing, regrouping and coming back, and an oracle that looks on after every verb.
 *
 *     crew_desc d = crew_default(seed, 4);         // a quiet network; or set d.sim = weft_sim_torture(seed, 4)
 *     d.h.max_steps = 4;                           // everything but params and transport
 *     d.steps[2] = 17;                             // local steps of worker 2, then it drains
 *     crew c;
 *     ok = crew_open(&c, &d) && crew_run(&c) && crew_check(&c);
 *     if (!crew_close(&c)) puts(c.why);            // names the seed
 *
 * Every local step adds 1 to an element of its own. So in the global model an element is 0 (the step is not in it, or
 * lost) or 1 / workers of the round that took it in, exactly, for every type, carry and payload.
 *
 * The oracle: after the same round all global models have the same bits; the global model changes only in a merge; the
 * payload does not change while it is under way; without carry the replica is on the global model after a launch; no
 * launch without steps but in a drain.
 *
 * Include after ../grawa.h and ../hpsgd.h (with their IMPLEMENTATIONs). Nothing here depends on a test framework. */
#ifndef HPSGD_CREW_H
#define HPSGD_CREW_H

#include "cluster.h"

#define CREW_MOST 8
#ifndef CREW_STEPS
#define CREW_STEPS 64   /* of a worker, most */
#endif
#define CREW_ROUNDS 4096 /* that the oracle remembers */

typedef struct crew crew;
typedef struct crew_worker crew_worker;

typedef struct crew_desc {
    weft_sim_desc sim;
    hpsgd_desc h;
    weft_dtype dtype;
    int pieces; /* several tensors, one of them empty */
    uint32_t steps[CREW_MOST];
    uint64_t step_ns[CREW_MOST], view_ns[CREW_MOST];
    int leaves[CREW_MOST];            /* says good-bye after its steps instead of draining */
    uint32_t spoil[CREW_MOST];        /* after so many steps: a parameter that is not finite; 0: never */
    int deaf;                         /* does not poll while it computes */
    uint64_t again_ns[4];             /* at these times the host gives a new view of the same workers; 0: none */
    int (*prepare)(crew_worker *w);   /* before init: may change w->desc */
} crew_desc;

typedef enum crew_doing { CREW_STARTS, CREW_BEGINS, CREW_COMPUTES, CREW_WAITS, CREW_ENDS, CREW_DONE } crew_doing;

struct crew_worker {
    crew *c;
    uint32_t rank;
    weft_transport net;
    hpsgd_desc desc;
    hpsgd *h;
    unsigned char *memory;
    size_t bytes;
    weft_tensors params;
    weft_status status;
    crew_doing doing;
    uint32_t step, epoch, base; /* base: steps of objects before this one */
    uint64_t until;
    int left, out; /* out: no more of this run */
    uint64_t errors, lost_errors, regroups, stalls;
    weft_detail last_detail;
    /* the oracle */
    uint64_t w_hash, sent_hash;
    int flying;
};

struct crew {
    crew_desc desc;
    weft_sim sim;
    uint32_t size, epoch;
    int in_view[CREW_MOST];
    uint64_t view_at;
    int again;
    size_t elements;
    uint64_t id[CREW_ROUNDS], hash[CREW_ROUNDS], remembered;
    uint64_t checks;
    crew_worker worker[CREW_MOST];
    char why[1024];
};

static inline int crew_fail(crew *c, const char *format, ...) {
    va_list ap;
    size_t n;
    if (c->why[0]) return 0;
    snprintf(c->why, sizeof c->why, "seed %llu, at %llu ns: ", (unsigned long long)c->desc.sim.seed,
             (unsigned long long)c->sim.now);
    n = strlen(c->why);
    va_start(ap, format);
    vsnprintf(c->why + n, sizeof c->why - n, format, ap);
    va_end(ap);
    return 0;
}

static inline int crew_fail_detail(crew_worker *w, const char *what) {
    const weft_detail *d = w->h ? hpsgd_detail(w->h) : &w->last_detail;
    return crew_fail(w->c, "worker %lu: %s: %s (peer %ld, round %llu, phase %s, field %s, expected %llu, got %llu)",
                     (unsigned long)w->rank, what, weft_strerror(w->status), (long)(int32_t)d->peer,
                     (unsigned long long)d->round, d->phase ? d->phase : "-", d->field ? d->field : "-",
                     (unsigned long long)d->expected, (unsigned long long)d->got);
}

static inline crew_desc crew_default(uint64_t seed, uint32_t workers) {
    crew_desc d;
    uint32_t r;
    memset(&d, 0, sizeof d);
    d.sim.seed = seed;
    d.sim.size = workers;
    d.sim.watch = d.sim.scribble = 1;
    d.sim.latency_ns = 1000;
    d.h.struct_size = sizeof d.h;
    for (r = 0; r < CREW_MOST; r++) {
        d.steps[r] = 8;
        d.step_ns[r] = 1500;
    }
    return d;
}

static inline uint64_t crew_hash(const unsigned char *p, size_t n) {
    uint64_t h = UINT64_C(0xCBF29CE484222325);
    while (n--) h = (h ^ *p++) * UINT64_C(0x100000001B3);
    return h;
}

static inline uint64_t crew_model_hash(hpsgd *h) {
    return crew_hash(h->w, weft_map_bytes(&h->map));
}

/* An object in memory that starts at an odd address and ends at a canary. */
static inline int crew_worker_init(crew_worker *w) {
    weft_detail why;
    w->bytes = hpsgd_memory(&w->desc, NULL);
    w->memory = (unsigned char *)malloc(w->bytes + 1 + CLUSTER_CANARY);
    if (!w->memory) return crew_fail(w->c, "no memory");
    memset(w->memory, 0xC3, w->bytes + 1);
    memset(w->memory + 1 + w->bytes, 0xA5, CLUSTER_CANARY);
    w->status = hpsgd_init_detail(&w->h, &w->desc, w->memory + 1, w->bytes, &why);
    if (w->status != WEFT_OK)
        return crew_fail(w->c, "worker %lu: init: %s (%s)", (unsigned long)w->rank, weft_strerror(w->status),
                         why.field ? why.field : "-");
    w->w_hash = crew_model_hash(w->h);
    w->flying = 0;
    w->doing = CREW_BEGINS;
    return 1;
}

static inline void crew_worker_free(crew_worker *w) {
    if (w->h) hpsgd_close(w->h);
    w->h = NULL;
    if (w->memory && !cluster_canary(w->memory + 1 + w->bytes))
        crew_fail(w->c, "worker %lu wrote behind its memory", (unsigned long)w->rank);
    free(w->memory);
    w->memory = NULL;
}

static inline void crew_wake(crew *c) {
    uint32_t r;
    for (r = 0; r < c->size; r++)
        if (weft_sim_alive(&c->sim, r) && !c->worker[r].out) weft_sim_wake(&c->sim, r, c->sim.now);
}

static inline void crew_changed(void *user, uint32_t rank, int alive) {
    (void)rank, (void)alive;
    crew_wake((crew *)user);
}

static inline int crew_open(crew *c, const crew_desc *d) {
    uint32_t r;
    int ok = 1;
    memset(c, 0, sizeof *c);
    c->desc = *d;
    c->size = d->sim.size;
    c->elements = (size_t)c->size * CREW_STEPS + 3;
    if (!c->desc.sim.on_change) {
        c->desc.sim.on_change = crew_changed;
        c->desc.sim.user = c;
    }
    if (weft_sim_init(&c->sim, &c->desc.sim) != WEFT_OK) return crew_fail(c, "no simulated network");
    for (r = 0; r < c->size; r++) {
        crew_worker *w = &c->worker[r];
        size_t count[3];
        weft_dtype type[3];
        w->c = c;
        w->rank = r;
        type[0] = type[1] = type[2] = d->dtype;
        count[0] = d->pieces ? c->elements / 3 : c->elements;
        count[1] = 0;
        count[2] = c->elements - count[0];
        w->params = cluster_tensors(d->pieces ? 3 : 1, count, type);
        weft_sim_transport(&c->sim, r, &w->net);
        w->desc = d->h;
        w->desc.params = w->params;
        w->desc.transport = &w->net;
        c->in_view[r] = 1;
        ok = ok && (!d->prepare || d->prepare(w)) && crew_worker_init(w);
    }
    return ok;
}

/* Ends everything; 0 if memory was overrun, the transport's contract broken, or anything had failed before. */
static inline int crew_close(crew *c) {
    uint32_t r;
    for (r = 0; r < c->size; r++) {
        crew_worker *w = &c->worker[r];
        crew_worker_free(w);
        if (!cluster_tensors_whole(&w->params))
            crew_fail(c, "worker %lu: somebody wrote behind a tensor", (unsigned long)r);
        cluster_tensors_free(&w->params);
    }
    if (c->sim.worker && weft_sim_violation(&c->sim)) crew_fail(c, "%s", weft_sim_violation(&c->sim));
    if (c->sim.worker && weft_sim_outstanding(&c->sim)) crew_fail(c, "requests are left after close");
    if (c->sim.worker) weft_sim_free(&c->sim);
    return !c->why[0];
}

static inline weft_tensor *crew_at(const weft_tensors *t, size_t *i) {
    size_t k = 0;
    while (*i >= t->tensor[k].count) *i -= t->tensor[k++].count;
    return (weft_tensor *)(uintptr_t)&t->tensor[k];
}

/* ---- the oracle ---- */

/* After every verb. */
static inline void crew_look(crew_worker *w, const char *verb) {
    crew *c = w->c;
    hpsgd *h = w->h;
    uint64_t hash = crew_model_hash(h), i;
    uint32_t events = hpsgd_events(h), t;
    int flying = h->state >= HPSGD_RECORD && h->state <= HPSGD_DONE;
    if (hash != w->w_hash && !(events & HPSGD_MERGED) && h->joined && !h->torn && h->contacted && w->h->stats.rounds)
        crew_fail(c, "worker %lu: %s changed the global model without a merge", (unsigned long)w->rank, verb);
    w->w_hash = hash;
    if (h->desc.keep_delta) {
        uint64_t sent = crew_hash(h->sent, weft_map_bytes(&h->payload_map));
        if (flying && w->flying && !(events & HPSGD_LAUNCHED) && sent != w->sent_hash)
            crew_fail(c, "worker %lu: %s changed a payload under way", (unsigned long)w->rank, verb);
        w->sent_hash = sent;
    }
    w->flying = flying;
    if ((events & HPSGD_LAUNCHED) && flying && !h->draining && !h->leaving && !h->flying && !h->desc.guard)
        crew_fail(c, "worker %lu: %s launched nothing", (unsigned long)w->rank, verb);
    if ((events & HPSGD_LAUNCHED) && h->carried == 0.0 && h->desc.payload == HPSGD_PAYLOAD_FULL && h->n == 0)
        for (t = 0; t < w->params.count; t++)
            if (w->params.tensor[t].count &&
                memcmp(h->work[t].data, h->w + h->map.position[t],
                       h->work[t].count * weft_dtype_bytes(h->work[t].dtype)) != 0)
                crew_fail(c, "worker %lu: %s left the replica off the global model", (unsigned long)w->rank, verb);
    if (!h->joined || h->torn || !h->contacted || h->state == HPSGD_DONE || h->state == HPSGD_SYNC ||
        h->state == HPSGD_AGREED)
        return;
    for (i = 0; i < c->remembered && c->id[i] != h->settled; i++) continue;
    c->checks++;
    if (i == c->remembered) {
        if (i == CREW_ROUNDS) {
            crew_fail(c, "too many rounds for the oracle");
            return;
        }
        c->id[i] = h->settled;
        c->hash[i] = hash;
        c->remembered++;
    } else if (c->hash[i] != hash) {
        crew_fail(c, "worker %lu: after round %llu its global model differs", (unsigned long)w->rank,
                  (unsigned long long)(h->settled & WEFT_ROUND_MASK));
    }
}

/* ---- the host ---- */

/* Whoever is alive and has not said good-bye to anybody. */
static inline void crew_new_view(crew *c) {
    uint32_t r, k;
    c->epoch++;
    c->view_at = c->sim.now;
    for (r = 0; r < c->size; r++) {
        crew_worker *w = &c->worker[r];
        c->in_view[r] = weft_sim_alive(&c->sim, r) && w->h && !w->left && w->h->state < HPSGD_LEFT;
        for (k = 0; k < c->size; k++)
            if (c->worker[k].h && weft_sim_alive(&c->sim, k) && c->worker[k].h->group.peer[r].left) c->in_view[r] = 0;
        if (!c->in_view[r] && weft_sim_alive(&c->sim, r) && w->h && w->h->leaving) w->left = 1;
    }
    crew_wake(c);
}

static inline int crew_told(crew_worker *w) {
    crew *c = w->c;
    uint64_t at = c->view_at + c->desc.view_ns[w->rank];
    if (c->epoch <= w->epoch || !c->in_view[w->rank] || w->left) return 0;
    if (c->sim.now < at) weft_sim_wake(&c->sim, w->rank, at);
    return c->sim.now >= at;
}

static inline void crew_regroup(crew_worker *w) {
    crew *c = w->c;
    uint32_t member[CREW_MOST], n = 0, r;
    weft_view v;
    for (r = 0; r < c->size; r++)
        if (c->in_view[r]) member[n++] = r;
    v.struct_size = sizeof v;
    v.epoch = w->epoch = c->epoch;
    v.count = n;
    v.members = member;
    for (r = 0; r < n; r++)
        if (member[r] != w->rank) hpsgd_peer_up(w->h, member[r]);
    w->regroups++;
    w->status = hpsgd_regroup(w->h, &v);
    crew_look(w, "hpsgd_regroup");
}

/* An error: what the host does about it. 1: it has to wait for a new view. */
static inline int crew_error(crew_worker *w) {
    crew *c = w->c;
    w->errors++;
    w->last_detail = *hpsgd_detail(w->h);
    if (w->last_detail.status != w->status) crew_fail_detail(w, "the detail is of something else");
    if (w->status == WEFT_ERR_TIMEOUT) {
        w->status = WEFT_AGAIN;
        return 0;
    }
    if (w->status != WEFT_ERR_PEER_LOST && w->status != WEFT_ERR_TRANSPORT) {
        crew_fail_detail(w, "run");
        return 1;
    }
    w->lost_errors += w->status == WEFT_ERR_PEER_LOST;
    if (w->epoch == c->epoch) crew_new_view(c);
    return 1;
}

static inline void crew_train(crew_worker *w) {
    crew *c = w->c;
    size_t at = (size_t)w->rank * CREW_STEPS + w->step++;
    weft_tensor *t = crew_at(&w->params, &at);
    cluster_set(t, at, cluster_get(t, at) + 1.0);
    if (c->desc.spoil[w->rank] && w->step == c->desc.spoil[w->rank]) {
        at = c->elements - 1;
        t = crew_at(&w->params, &at);
        cluster_set(t, at, w->rank & 1 ? (double)NAN : (double)INFINITY);
    }
}

static inline int crew_turn(void *user, uint32_t rank) {
    crew_worker *w = (crew_worker *)user;
    crew *c = w->c;
    for (;;) {
        uint64_t now = weft_sim_now(&c->sim);
        uint32_t i;
        if (c->why[0] || w->out) return 1;
        if (w->left) { /* the others know; nobody waits for it */
            w->doing = CREW_DONE;
            w->out = 1;
            crew_wake(c);
            return 1;
        }
        if ((uint32_t)c->again < 4 && c->desc.again_ns[c->again] && now >= c->desc.again_ns[c->again]) {
            c->again++;
            crew_new_view(c);
        }
        if (w->doing != CREW_COMPUTES && crew_told(w)) {
            crew_regroup(w);
            if (w->doing == CREW_BEGINS) w->doing = CREW_WAITS;
            if (w->doing == CREW_DONE) w->doing = CREW_ENDS;
            if (w->status < 0) {
                if (crew_error(w) && !crew_told(w)) return 0;
                continue;
            }
        }
        switch (w->doing) {
        case CREW_STARTS:
        case CREW_BEGINS:
            if (w->step - w->base >= c->desc.steps[rank] || w->step >= CREW_STEPS) {
                w->doing = CREW_ENDS;
                w->status = c->desc.leaves[rank] ? hpsgd_leave(w->h) : hpsgd_drain(w->h);
                crew_look(w, "hpsgd_drain or leave");
                break;
            }
            w->until = now + c->desc.step_ns[rank];
            w->doing = CREW_COMPUTES;
            if (w->until == now) break;
            if (c->desc.deaf)
                weft_sim_busy(&c->sim, rank, w->until - now);
            else
                weft_sim_sleep(&c->sim, rank, w->until - now);
            return 0;
        case CREW_COMPUTES:
            if (now < w->until) {
                if (c->desc.deaf) return 0;
                hpsgd_progress(w->h); /* what is wrong shows at the next step, too */
                crew_look(w, "hpsgd_progress");
                weft_sim_sleep(&c->sim, rank, w->until - now);
                return 0;
            }
            crew_train(w);
            w->status = hpsgd_step(w->h);
            crew_look(w, "hpsgd_step");
            w->stalls += w->status == WEFT_STALL;
            w->doing = CREW_WAITS;
            if (w->status < 0) {
                if (crew_error(w) && !crew_told(w)) return 0;
                break;
            }
            break;
        case CREW_WAITS:
            if (w->status == WEFT_STALL) {
                w->status = hpsgd_step(w->h);
                crew_look(w, "hpsgd_step again");
            } else if (w->status != WEFT_OK) {
                w->status = hpsgd_poll(w->h);
                crew_look(w, "hpsgd_poll");
            }
            if (w->status < 0) {
                if (crew_error(w) && !crew_told(w)) return 0;
                break;
            }
            if (w->status != WEFT_OK) {
                if (c->desc.h.timeout_ns) weft_sim_sleep(&c->sim, rank, c->desc.h.timeout_ns);
                return 0;
            }
            w->doing = CREW_BEGINS;
            break;
        case CREW_ENDS:
            if (w->status != WEFT_OK) {
                w->status = hpsgd_poll(w->h);
                crew_look(w, "hpsgd_poll");
            }
            if (w->status < 0) {
                if (crew_error(w) && !crew_told(w)) return 0;
                if (w->left) continue;
                break;
            }
            if (w->status != WEFT_OK) return 0;
            w->doing = CREW_DONE;
            crew_wake(c);
            if (c->desc.leaves[rank]) {
                w->left = w->out = 1;
                if (c->epoch > w->epoch && c->in_view[rank]) crew_new_view(c); /* it went while a view was on its way */
                return 1;
            }
            break;
        case CREW_DONE:
            for (i = 0; i < c->size; i++)
                if (c->worker[i].h && weft_sim_alive(&c->sim, i) && c->worker[i].doing != CREW_DONE) break;
            if (i == c->size) {
                crew_wake(c);
                return 1;
            }
            w->status = hpsgd_poll(w->h); /* the others may still have something to settle */
            crew_look(w, "hpsgd_poll");
            if (w->status < 0 && crew_error(w) && !crew_told(w)) return 0;
            if (w->status == WEFT_OK) return 0;
            break;
        }
    }
}

/* Every worker takes its steps and drains (or leaves). 0: something is wrong, or it never ends. */
static inline int crew_run(crew *c) {
    uint32_t r;
    int i;
    weft_sim_end end;
    if (c->why[0]) return 0;
    for (i = 0; i < 4; i++)
        for (r = 0; r < c->size && c->desc.again_ns[i]; r++)
            if (weft_sim_alive(&c->sim, r)) weft_sim_wake(&c->sim, r, c->desc.again_ns[i]);
    for (r = 0; r < c->size; r++)
        if (weft_sim_alive(&c->sim, r)) weft_sim_worker(&c->sim, r, crew_turn, &c->worker[r]);
    end = weft_sim_run(&c->sim, UINT64_C(20000000));
    if (end != WEFT_SIM_DONE) return crew_fail(c, "run: %s", weft_sim_text(&c->sim));
    return !c->why[0];
}

/* What crew_run must have come to: every step is in the model exactly once, or reported lost; all models are alike. */
static inline int crew_check(crew *c) {
    uint32_t r, k, first = CREW_MOST;
    for (r = 0; r < c->size; r++) {
        crew_worker *w = &c->worker[r];
        hpsgd_stats_t s;
        uint64_t there = 0, i;
        if (!weft_sim_alive(&c->sim, r) || w->left) continue;
        if (first == CREW_MOST) first = r;
        hpsgd_stats(w->h, &s);
        if (s.steps != w->step - w->base)
            crew_fail(c, "worker %lu counts %llu steps of %u", (unsigned long)r, (unsigned long long)s.steps,
                      w->step - w->base);
        if (s.steps_merged + s.steps_lost != s.steps || s.steps_pending)
            crew_fail(c, "worker %lu: %llu steps merged, %llu lost, %llu pending of %llu", (unsigned long)r,
                      (unsigned long long)s.steps_merged, (unsigned long long)s.steps_lost,
                      (unsigned long long)s.steps_pending, (unsigned long long)s.steps);
        if (!cluster_same_bits(&w->params, &c->worker[first].params))
            crew_fail(c, "workers %u and %u end with different parameters", first, r);
        for (k = 0; k < w->params.count; k++)
            if (w->params.tensor[k].count && memcmp(w->h->work[k].data, w->h->w + w->h->map.position[k],
                                                    w->h->work[k].count * weft_dtype_bytes(w->h->work[k].dtype)) != 0)
                crew_fail(c, "worker %lu ends off its global model", (unsigned long)r);
        for (i = w->base; i < CREW_STEPS; i++) {
            size_t at = (size_t)r * CREW_STEPS + i;
            const weft_tensor *t = crew_at(&w->params, &at);
            there += cluster_get(t, at) != 0.0;
        }
        if (there != s.steps_merged)
            crew_fail(c, "worker %lu: %llu steps are in the model, %llu are said to be", (unsigned long)r,
                      (unsigned long long)there, (unsigned long long)s.steps_merged);
    }
    if (first == CREW_MOST) return !c->why[0];
    for (r = 0; r < (uint32_t)c->elements; r++) {
        size_t at = r;
        weft_tensor *t = crew_at(&c->worker[first].params, &at);
        double v = cluster_get(t, at);
        int known = v == 0.0;
        for (k = 1; k <= c->size; k++) {
            float share = 1.0f / (float)k;
            known |= v == (t->dtype == WEFT_F64 ? 1.0 / k : (double)share);
        }
        if (!known) crew_fail(c, "element %u of the model is %.17g: neither nothing nor one step", r, v);
    }
    return !c->why[0];
}

/* A lost worker comes back as a new one, and takes its steps once more. */
static inline int crew_rejoin(crew *c, uint32_t rank) {
    crew_worker *w = &c->worker[rank];
    uint32_t r;
    crew_worker_free(w);
    if (!weft_sim_alive(&c->sim, rank)) weft_sim_revive(&c->sim, rank);
    w->base = w->step;
    w->left = w->out = 0;
    w->epoch = 0;
    if (!crew_worker_init(w)) return 0;
    for (r = 0; r < c->size; r++) {
        if (c->worker[r].doing == CREW_DONE && !c->worker[r].left) c->worker[r].doing = CREW_BEGINS;
        weft_sim_worker(&c->sim, r, crew_turn, &c->worker[r]);
    }
    w->doing = CREW_WAITS;
    w->status = WEFT_OK;
    crew_new_view(c);
    return 1;
}

#endif /* HPSGD_CREW_H */
