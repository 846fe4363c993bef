/* SPDX-License-Identifier: MIT
 * subspace_crew.h: workers that go on after faults: the host's side of losing, regrouping, coming back and leaving, in
 * virtual time, with an oracle beside the library that knows at every moment which bits each worker's gradients must
 * have.
 *
 *     crew_desc d = crew_default(seed, 3);
 *     crew f;
 *     ok = crew_open(&f, &d);
 *     fault = weft_sim_lose_at_message(&f.sim, 1, 17, 0);
 *     ok = ok && crew_run(&f, 3);       // until every survivor has three rounds behind it and nothing moves any more
 *     if (!crew_close(&f)) puts(f.why);
 *
 * The oracle: gradients change only when a round commits, and then they are what subspace_combine makes of the
 * gradients that the participants came with, going on from the average over steps that they had (all of them the same
 * one). That average changes only then, or is given up under a new view.
 *
 * Include after ../grawa.h and ../subspace.h (with their IMPLEMENTATIONs) and subspace_team.h. All tensors are f32.
 * Nothing here depends on a test framework. */
#ifndef SUBSPACE_CREW_H
#define SUBSPACE_CREW_H

#include "subspace_team.h"

#define CREW_MOST 6
#define CREW_GROUPS 4
#define CREW_KEEP 8      /* rounds that the oracle remembers */
#define CREW_HISTORY 256 /* committed rounds of a worker */
#define CREW_VIEWS 5

typedef struct crew crew;
typedef struct crew_worker crew_worker;

typedef enum crew_policy {
    CREW_REGROUP = 0, /* after an error every survivor is given a new view */
    CREW_STOP = 1,    /* a worker with an error is closed and does no more */
    CREW_INSIST = 2   /* whatever the error is but a time-out, up to CREW_VIEWS times a new view; then as CREW_STOP */
} crew_policy;

typedef struct crew_desc {
    weft_sim_desc sim;
    subspace_desc s; /* for every worker; gradients and transport are filled in */
    size_t tensors;
    const size_t *count;
    uint64_t data_seed;
    crew_policy policy;
    uint32_t parts;                /* in so many the gradients are submitted; 0: 1 */
    int impatient;                 /* after a new view goes on computing and submitting, without waiting for it */
    uint64_t step_ns[CREW_MOST];   /* what a backward pass takes, and then each further part of it */
    uint64_t leave_at[CREW_MOST];  /* says good-bye after so many commits; 0: never */
    uint64_t view_ns[CREW_MOST];   /* a new view reaches this worker's host so much later */
    double samples[CREW_MOST];     /* 0: 1 */
    uint64_t most_attempts;        /* of a worker between two calls of crew_run; 0: 1,000 */
    int deaf;                      /* does not poll while it computes */
    int no_oracle;                 /* numbers may be wrong: bulk data is tampered with */
    void (*spoil)(crew_worker *w);  /* changes a gradient that was made */
    void (*meddle)(crew_worker *w); /* after a verb that was no error: tries others */
} crew_desc;

typedef enum crew_doing { CREW_BEGINS, CREW_COMPUTES, CREW_WAITS, CREW_RESTS, CREW_STOPPED } crew_doing;

/* The average over steps. */
typedef struct crew_slots {
    uint32_t count[CREW_GROUPS];
    double slot[CREW_GROUPS][CREW_MOST];
} crew_slots;

struct crew_worker {
    crew *f;
    uint32_t rank;
    weft_transport net;
    subspace_desc desc;
    subspace *a;
    unsigned char *memory, *left_behind[8]; /* of those that it was before it was lost */
    uint32_t lives;
    size_t bytes;
    weft_tensors grads;
    uint64_t rng, attempts, until, naps, nap_until;
    uint32_t part; /* submitted so far */
    crew_doing doing;
    int resting, leaving, left, committed_now;
    weft_status status;
    uint32_t epoch, alarmed; /* alarmed: 1 + the epoch in which it last asked for a view */
    /* what happened */
    uint64_t errors, lost_errors, timeouts, rejects, abandoned, regroups, leaves_heard;
    weft_status stopped_by, last_error;
    weft_detail last_detail;
    uint64_t committed[CREW_HISTORY], result[CREW_HISTORY], participants[CREW_HISTORY];
    uint32_t commits;
    /* the oracle */
    float *kept;
    float *begun[CREW_KEEP];
    uint64_t begun_round[CREW_KEEP];
    crew_slots begun_slots[CREW_KEEP], slots;
    uint32_t begun_next, slots_epoch;
};

struct crew {
    crew_desc desc;
    weft_sim sim;
    uint32_t size, epoch;
    int in_view[CREW_MOST];
    uint64_t view_at;
    size_t elements;
    uint64_t target; /* rounds */
    uint64_t commits_checked;
    pile oracle[CREW_MOST + 1]; /* for so many participants; made when it is needed */
    crew_worker worker[CREW_MOST];
    char why[1024];
};

static inline int crew_fail(crew *f, const char *format, ...) {
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

static inline int crew_fail_detail(crew_worker *w, const char *what, weft_status s) {
    const weft_detail *d = w->a ? subspace_detail(w->a) : &w->last_detail;
    return crew_fail(w->f, "worker %lu: %s: %s (peer %ld, round %llu, phase %s, field %s, expected %llu, got %llu)",
                     (unsigned long)w->rank, what, weft_strerror(s), (long)(int32_t)d->peer,
                     (unsigned long long)d->round, d->phase ? d->phase : "-", d->field ? d->field : "-",
                     (unsigned long long)d->expected, (unsigned long long)d->got);
}

static inline void crew_flat(const weft_tensors *t, float *out) {
    size_t i;
    for (i = 0; i < t->count; out += t->tensor[i++].count)
        if (t->tensor[i].count) memcpy(out, t->tensor[i].data, t->tensor[i].count * sizeof *out);
}

static inline void crew_unflat(const weft_tensors *t, const float *in) {
    size_t i;
    for (i = 0; i < t->count; in += t->tensor[i++].count)
        if (t->tensor[i].count) memcpy(t->tensor[i].data, in, t->tensor[i].count * sizeof *in);
}

static inline int crew_is(const weft_tensors *t, const float *flat) {
    size_t i;
    for (i = 0; i < t->count; flat += t->tensor[i++].count)
        if (t->tensor[i].count && memcmp(flat, t->tensor[i].data, t->tensor[i].count * sizeof *flat) != 0) return 0;
    return 1;
}

/* In place, the gradients are nobody's in a round, and after one that came to nothing. */
static inline int crew_in_pieces(const crew_worker *w) {
    const uint32_t s = w->a ? subspace_state(w->a) : 0;
    return w->f->desc.s.in_place && w->a && (!(s & SUBSPACE_MAY_SAVE) || (s & SUBSPACE_GRADIENTS_LOST));
}

static inline uint32_t crew_parts(const crew *f) {
    return f->desc.parts ? f->desc.parts : 1;
}

/* Are sums formed in the order in which subspace_combine forms them? */
static inline int crew_exact(const crew *f) {
    return crew_parts(f) == 1 && !f->desc.s.in_place;
}

static inline crew_slots crew_slots_of(const subspace *a) {
    crew_slots s;
    uint32_t g;
    memset(&s, 0, sizeof s);
    for (g = 0; g < subspace_groups(a) && g < CREW_GROUPS; g++) s.count[g] = subspace_slots(a, g, s.slot[g], CREW_MOST);
    return s;
}

static inline int crew_slots_none(const crew_slots *s) {
    static const crew_slots none;
    return memcmp(s->count, none.count, sizeof none.count) == 0;
}

/* ---- the oracle ---- */

static inline void crew_begun(crew_worker *w, uint64_t round) {
    uint32_t k = w->begun_next++ % CREW_KEEP;
    if (!w->begun[k]) w->begun[k] = (float *)malloc(w->f->elements * sizeof(float) + 1);
    crew_flat(&w->grads, w->begun[k]);
    w->begun_round[k] = round;
    w->begun_slots[k] = crew_slots_of(w->a);
    if (memcmp(&w->begun_slots[k], &w->slots, sizeof w->slots) != 0 &&
        (!crew_slots_none(&w->begun_slots[k]) || w->slots_epoch == w->a->group.epoch))
        crew_fail(w->f, "worker %lu: the average over steps has changed outside of a commit", (unsigned long)w->rank);
    w->slots = w->begun_slots[k];
}

/* What the worker came with to this round; -1: it has not. */
static inline int crew_contribution(const crew_worker *w, uint64_t round) {
    uint32_t i;
    for (i = 0; i < CREW_KEEP && i < w->begun_next; i++) {
        uint32_t k = (w->begun_next - 1 - i) % CREW_KEEP;
        if (w->begun_round[k] == round) return (int)k;
    }
    return -1;
}

static inline void crew_committed(crew_worker *w, uint64_t round, uint64_t count) {
    crew *f = w->f;
    const int own = crew_contribution(w, round);
    double samples[CREW_MOST], most = 0;
    float *want;
    uint32_t i, g, k;
    size_t e;
    pile *p = &f->oracle[count <= CREW_MOST ? count : 0];
    w->committed_now = 1;
    if (w->commits < CREW_HISTORY) {
        w->committed[w->commits] = round;
        w->participants[w->commits] = count;
        w->result[w->commits++] = cluster_hash(&w->grads);
    }
    crew_flat(&w->grads, w->kept);
    if (f->desc.no_oracle) {
        w->slots = crew_slots_of(w->a);
        return;
    }
    if (own < 0 || count != w->a->count) {
        crew_fail(f, "worker %lu: commits round %llu without having begun it", (unsigned long)w->rank,
                  (unsigned long long)round);
        return;
    }
    if (!p->memory) {
        if (pile_open(p, &f->desc.s, (uint32_t)count, f->desc.tensors, f->desc.count, NULL) != WEFT_OK)
            crew_fail(f, "the oracle has no object");
    }
    for (i = 0; i < count; i++) {
        const crew_worker *o = &f->worker[w->a->who[i]];
        const int at = crew_contribution(o, round);
        if (at < 0) {
            crew_fail(f, "worker %lu: round %llu has worker %lu in it, which has not begun it", (unsigned long)w->rank,
                      (unsigned long long)round, (unsigned long)o->rank);
            break;
        }
        crew_unflat(&p->grads[i], o->begun[at]);
        samples[i] = f->desc.samples[o->rank] > 0 ? f->desc.samples[o->rank] : 1;
        if (memcmp(&o->begun_slots[at], &w->begun_slots[own], sizeof(crew_slots)) != 0)
            crew_fail(f, "workers %lu and %lu come to round %llu with different averages over steps",
                      (unsigned long)w->rank, (unsigned long)o->rank, (unsigned long long)round);
    }
    for (g = 0; g < subspace_groups(p->a); g++) {
        p->a->slot_count[g] = w->begun_slots[own].count[g];
        if (p->a->slot_count[g] == count)
            for (k = 0; k < count; k++) p->a->slots[g * p->a->rows + k] = w->begun_slots[own].slot[g][k];
        else if (p->a->slot_count[g])
            p->a->slot_count[g] = UINT32_MAX; /* of another number: not to be gone on with */
    }
    if (!f->why[0] && pile_combine(p, samples) != WEFT_OK)
        crew_fail(f, "worker %lu: round %llu should have been rejected", (unsigned long)w->rank,
                  (unsigned long long)round);
    want = (float *)malloc(f->elements * sizeof *want + 1);
    crew_flat(&p->out, want);
    for (e = 0; e < f->elements; e++) most = fmax(most, fabs((double)want[e]));
    for (e = 0; e < f->elements; e++) {
        const double error = fabs((double)want[e] - (double)w->kept[e]);
        if (crew_exact(f) ? memcmp(&want[e], &w->kept[e], sizeof *want) != 0 : !(error <= 1e-6 * most))
            crew_fail(f, "worker %lu: element %lu after round %llu (%llu workers) is %.9g instead of %.9g",
                      (unsigned long)w->rank, (unsigned long)e, (unsigned long long)round, (unsigned long long)count,
                      (double)w->kept[e], (double)want[e]);
        if (!isfinite(w->kept[e])) crew_fail(f, "worker %lu: an aggregate that is not finite", (unsigned long)w->rank);
    }
    {
        crew_slots after = crew_slots_of(w->a), wanted = crew_slots_of(p->a);
        for (g = 0; g < subspace_groups(p->a); g++) {
            if (wanted.count[g] == UINT32_MAX) { /* sat out */
                wanted.count[g] = w->begun_slots[own].count[g];
                memcpy(wanted.slot[g], w->begun_slots[own].slot[g], sizeof wanted.slot[g]);
            }
            for (k = 0; k < wanted.count[g]; k++)
                if (after.count[g] != wanted.count[g] || !(fabs(after.slot[g][k] - wanted.slot[g][k]) <=
                                                           (crew_exact(f) ? 0 : 1e-12 * (fabs(wanted.slot[g][k]) + 1))))
                    crew_fail(f, "worker %lu: the average over steps after round %llu is not what it should be",
                              (unsigned long)w->rank, (unsigned long long)round);
        }
        w->slots = after;
        w->slots_epoch =
            (uint32_t)(w->a->settled >> WEFT_ROUND_BITS); /* of the round, not of the view that settles it */
    }
    free(want);
    f->commits_checked++;
}

static inline void crew_trace(void *ctx, const weft_event *e) {
    crew_worker *w = (crew_worker *)ctx;
    if (e->rank != w->rank) crew_fail(w->f, "a trace event of another rank");
    if (e->kind == WEFT_EVENT_ROUND_BEGUN) crew_begun(w, e->round);
    if (e->kind == WEFT_EVENT_COMMITTED) crew_committed(w, e->round, e->value);
    if (e->kind == WEFT_EVENT_PEER_LEFT) w->leaves_heard++;
}

/* A verb has returned: the gradients are what the oracle says. */
static inline void crew_look(crew_worker *w, const char *verb) {
    if (w->f->desc.meddle && w->status >= 0) w->f->desc.meddle(w);
    if (crew_in_pieces(w)) return;
    if (!w->f->desc.no_oracle && !crew_is(&w->grads, w->kept))
        crew_fail(w->f, "worker %lu: %s has changed gradients outside of a commit", (unsigned long)w->rank, verb);
    if (w->f->desc.no_oracle) crew_flat(&w->grads, w->kept);
}

/* ---- the host ---- */

static inline int crew_turn(void *user, uint32_t rank);

static inline void crew_wake(crew *f) {
    uint32_t r;
    for (r = 0; r < f->size; r++)
        if (weft_sim_alive(&f->sim, r) && f->worker[r].doing != CREW_STOPPED)
            weft_sim_worker(&f->sim, r, crew_turn, &f->worker[r]);
}

/* Everybody who is alive and has not left. */
static inline void crew_new_view(crew *f) {
    uint32_t r;
    f->epoch++;
    f->view_at = f->sim.now;
    for (r = 0; r < f->size; r++)
        f->in_view[r] = weft_sim_alive(&f->sim, r) && !f->worker[r].left && f->worker[r].doing != CREW_STOPPED;
    crew_wake(f);
}

static inline void crew_stop(crew_worker *w) {
    w->last_detail = w->a ? *subspace_detail(w->a) : w->last_detail;
    if (w->a) subspace_close(w->a);
    w->a = NULL;
    w->doing = CREW_STOPPED;
}

/* The gradient of a backward pass: something common, and something of its own. */
static inline void crew_gradient(crew_worker *w) {
    team_fill_one(&w->grads, cluster_draw(&w->rng) % 1000, w->rank, 1.0);
    if (w->f->desc.spoil) w->f->desc.spoil(w);
    crew_flat(&w->grads, w->kept);
    w->part = 0;
    w->committed_now = 0;
}

static inline void crew_error(crew_worker *w, const char *verb) {
    crew *f = w->f;
    const weft_detail *d = subspace_detail(w->a);
    w->errors++;
    w->last_error = w->status;
    w->last_detail = *d;
    if (d->status != w->status) crew_fail_detail(w, "the detail is of something else", w->status);
    if (!d->phase || !d->phase[0]) crew_fail_detail(w, "the detail does not tell the phase", w->status);
    if (w->status == WEFT_ERR_PEER_LOST && (d->peer >= f->size || d->peer == w->rank))
        crew_fail_detail(w, "the detail does not tell who is lost", w->status);
    if (w->status == WEFT_ERR_NONFINITE) { /* the batch is skipped */
        w->rejects++;
        w->status = WEFT_OK;
        w->committed_now = 1;
        return;
    }
    if (w->status == WEFT_ERR_TIMEOUT && f->desc.policy == CREW_REGROUP) {
        w->timeouts++;
        w->status = WEFT_AGAIN;
        return;
    }
    if (f->desc.policy == CREW_STOP ||
        (f->desc.policy == CREW_INSIST && (w->status == WEFT_ERR_TIMEOUT || f->epoch >= CREW_VIEWS))) {
        w->stopped_by = w->status;
        crew_stop(w);
        return;
    }
    if (w->status != WEFT_ERR_PEER_LOST && w->status != WEFT_ERR_TRANSPORT && f->desc.policy != CREW_INSIST) {
        crew_fail_detail(w, verb, w->status);
        crew_stop(w);
        return;
    }
    w->lost_errors += w->status == WEFT_ERR_PEER_LOST;
    /* With a call that failed although the peer is there, a message of the view to come may have gone: another one. */
    if (w->epoch == f->epoch ||
        (w->alarmed != w->epoch + 1 && d->peer < f->size && weft_sim_alive(&f->sim, d->peer))) {
        w->alarmed = w->epoch + 1;
        crew_new_view(f);
    }
}

/* Is there a view that this worker's host has heard of and the worker has not? */
static inline int crew_told(crew_worker *w) {
    crew *f = w->f;
    uint64_t at = f->view_at + f->desc.view_ns[w->rank];
    if (f->epoch <= w->epoch || !f->in_view[w->rank] || w->doing == CREW_STOPPED) return 0;
    if (f->sim.now < at) weft_sim_wake(&f->sim, w->rank, at);
    return f->sim.now >= at;
}

static inline void crew_regroup(crew_worker *w) {
    crew *f = w->f;
    uint32_t member[CREW_MOST], n = 0, r;
    weft_view v;
    for (r = 0; r < f->size; r++)
        if (f->in_view[r]) member[n++] = r;
    v.struct_size = sizeof v;
    v.epoch = f->epoch;
    v.count = n;
    v.members = member;
    for (r = 0; r < n; r++)
        if (member[r] != w->rank && subspace_peer_up(w->a, member[r]) != WEFT_OK)
            crew_fail_detail(w, "peer_up", subspace_detail(w->a)->status);
    w->epoch = f->epoch;
    w->regroups++;
    w->status = subspace_regroup(w->a, &v);
    crew_look(w, "subspace_regroup");
    if (w->status < 0) crew_error(w, "regroup");
}

static inline int crew_sleep(crew_worker *w) {
    const uint64_t now = w->f->sim.now;
    if (w->until <= now) return 0;
    if (w->f->desc.deaf)
        weft_sim_busy(&w->f->sim, w->rank, w->until - now);
    else
        weft_sim_sleep(&w->f->sim, w->rank, w->until - now);
    return 1;
}

/* Looks again when there may be a time-out, if there is no news before. Somebody who waits in vain must come to rest as
 * well, to be seen. */
static inline void crew_nap(crew_worker *w) {
    const uint64_t now = w->f->sim.now, ns = w->f->desc.s.timeout_ns;
    if (!ns || w->naps >= 100) return;
    if (now >= w->nap_until) {
        w->nap_until = now + ns;
        w->naps++;
    }
    weft_sim_sleep(&w->f->sim, w->rank, w->nap_until - now);
}

static inline int crew_turn(void *user, uint32_t rank) {
    crew_worker *w = (crew_worker *)user;
    crew *f = w->f;
    const uint64_t most = f->desc.most_attempts ? f->desc.most_attempts : 1000;
    for (;;) {
        const uint64_t now = weft_sim_now(&f->sim);
        if (f->why[0]) return 0;
        if (w->status != WEFT_AGAIN) w->naps = 0;
        if (crew_told(w)) { /* the host's word: a new view */
            const int computing = w->doing == CREW_COMPUTES;
            crew_regroup(w);
            if (w->doing == CREW_STOPPED) return 1;
            w->resting = w->doing == CREW_RESTS || w->doing == CREW_BEGINS;
            w->doing = CREW_WAITS;
            /* what was submitted of a round that is cut short is void; what was not may go on */
            if (f->desc.impatient && computing && w->part == 0 && w->status >= 0) {
                w->doing = CREW_COMPUTES;
                if (crew_sleep(w)) return 0;
            }
            continue;
        }
        switch (w->doing) {
        case CREW_BEGINS:
            if (f->desc.leave_at[rank] && w->commits >= f->desc.leave_at[rank] && !w->leaving) {
                w->leaving = 1;
                w->doing = CREW_WAITS;
                w->status = subspace_leave(w->a);
                crew_look(w, "subspace_leave");
                break;
            }
            if (w->a->round >= f->target) {
                w->doing = CREW_RESTS;
                break;
            }
            if (w->attempts++ >= most) {
                crew_fail(f, "worker %lu makes gradients but no round is over", (unsigned long)rank);
                return 0;
            }
            crew_gradient(w);
            w->until = now + f->desc.step_ns[rank];
            w->doing = CREW_COMPUTES;
            if (crew_sleep(w)) return 0;
            break;
        case CREW_COMPUTES: {
            const size_t n = f->desc.tensors, parts = crew_parts(f);
            size_t first, end;
            if (now < w->until) {
                if (f->desc.deaf) return 0;
                w->status = subspace_poll(w->a);
                crew_look(w, "subspace_poll");
                if (w->status < 0 || (w->status == WEFT_WANT_GRADIENT && subspace_state(w->a) & SUBSPACE_MAY_SAVE)) {
                    w->doing = CREW_WAITS;
                    break;
                }
                crew_sleep(w);
                return 0;
            }
            first = n * (parts - 1 - w->part) / parts; /* the last layer first */
            end = n * (parts - w->part) / parts;
            if (!(subspace_state(w->a) & SUBSPACE_MAY_SUBMIT)) { /* said so by the state: only when there is an error */
                w->status = subspace_poll(w->a);
                crew_look(w, "subspace_poll");
                if (w->status == WEFT_AGAIN) {
                    crew_nap(w);
                    return 0;
                }
                w->doing = CREW_WAITS;
                break;
            }
            w->status = subspace_submit(w->a, first, end - first);
            crew_look(w, "subspace_submit");
            w->part++; /* also if there is an error: then it is settled by the next view */
            w->doing = CREW_WAITS;
            if (w->status >= 0 && w->part < parts) {
                w->until = now + f->desc.step_ns[rank] / 2;
                w->doing = CREW_COMPUTES;
                if (crew_sleep(w)) return 0;
            }
            break;
        }
        case CREW_WAITS:
            if (w->status == WEFT_AGAIN) {
                w->status = subspace_poll(w->a);
                crew_look(w, "subspace_poll");
            }
            if (w->status == WEFT_AGAIN) {
                crew_nap(w);
                return 0;
            }
            if (w->status < 0) {
                weft_status s = w->status;
                crew_error(w, "run");
                if (w->doing == CREW_STOPPED) return 1;
                if (w->status == s) { /* waits for the host's new view */
                    if (crew_told(w)) break;
                    return 0;
                }
                break;
            }
            if (w->status == WEFT_WANT_GRADIENT) {
                if (subspace_state(w->a) & SUBSPACE_MAY_SAVE) { /* abandoned: once more, as it is or a new one */
                    w->abandoned++;
                    w->part = 0;
                    if (w->a->round >= f->target) { /* others had heard that it is rejected: for them it is over */
                        w->doing = CREW_RESTS;
                        break;
                    }
                    if (w->attempts++ >= most) {
                        crew_fail(f, "worker %lu submits again and again", (unsigned long)rank);
                        return 0;
                    }
                    if (w->attempts % 2 || subspace_state(w->a) & SUBSPACE_GRADIENTS_LOST) crew_gradient(w);
                } else if (w->part == crew_parts(f)) {
                    crew_fail(f, "worker %lu: a gradient is wanted, all were submitted", (unsigned long)rank);
                    return 0;
                }
                w->resting = 0;
                w->until = now;
                w->doing = CREW_COMPUTES;
                break;
            }
            if (w->leaving) {
                w->left = 1;
                if (subspace_state(w->a))
                    crew_fail(f, "worker %lu has left, but verbs are still legal", (unsigned long)rank);
                crew_stop(w);
                if (f->in_view[rank] && w->epoch < f->epoch) crew_new_view(f); /* one that it will not come to */
                return 1;
            }
            if (w->resting || w->committed_now) {
                w->resting = 0;
                w->doing = CREW_BEGINS;
            } else if (w->part == 0) { /* a new view before anything was submitted */
                w->doing = CREW_COMPUTES;
                if (now < w->until && crew_sleep(w)) return 0;
            } else {
                crew_fail(f, "worker %lu: a round is said to be over, and nothing came of it", (unsigned long)rank);
                return 0;
            }
            break;
        case CREW_RESTS:
            if (w->a->round < f->target) { /* a new goal, or the round was taken back: its committers are gone */
                w->doing = CREW_BEGINS;
                break;
            }
            w->status = subspace_poll(w->a);
            crew_look(w, "subspace_poll");
            if (w->status == WEFT_WANT_GRADIENT && w->a->round >= f->target) return 0; /* until there is a new goal */
            if (w->status != WEFT_OK) {
                w->resting = 1;
                w->doing = CREW_WAITS;
                break;
            }
            return 0;
        case CREW_STOPPED: return 1;
        }
    }
}

static inline int crew_make(crew_worker *w) {
    weft_detail why = weft_detail_none();
    w->desc = w->f->desc.s;
    w->desc.gradients = w->grads;
    w->desc.transport = &w->net;
    w->desc.trace = crew_trace;
    w->desc.trace_ctx = w;
    w->bytes = subspace_memory(&w->desc, NULL);
    w->memory = (unsigned char *)malloc(w->bytes + 1);
    w->status = w->memory ? subspace_init_detail(&w->a, &w->desc, w->memory + 1, w->bytes, &why) : WEFT_ERR_MEMORY;
    crew_flat(&w->grads, w->kept);
    w->epoch = 0; /* what it had begun before it was lost may still be committed by the others, and is kept */
    w->doing = CREW_BEGINS;
    w->leaving = w->left = w->resting = w->committed_now = 0;
    w->part = 0;
    memset(&w->slots, 0, sizeof w->slots);
    if (w->status != WEFT_OK)
        return crew_fail(w->f, "worker %lu: init: %s (%s)", (unsigned long)w->rank, weft_strerror(w->status),
                         why.field ? why.field : "-");
    if (w->f->desc.samples[w->rank] > 0) subspace_set_batch(w->a, w->f->desc.samples[w->rank]);
    return 1;
}

static inline crew_desc crew_default(uint64_t seed, uint32_t workers) {
    static const size_t count[3] = {7, 0, 3};
    crew_desc d;
    memset(&d, 0, sizeof d);
    d.sim.seed = seed;
    d.sim.size = workers;
    d.sim.watch = d.sim.scribble = d.sim.cancel_delivers = 1;
    d.sim.latency_ns = 1000;
    d.sim.jitter_ns = 700;
    d.s.struct_size = sizeof d.s;
    d.s.momentum = 0.9;
    d.s.isa = WEFT_ISA_SERIAL; /* it takes no looking for what the machine has, which is slow in a virtual one */
    d.tensors = 3;
    d.count = count;
    d.data_seed = seed;
    return d;
}

static inline int crew_open(crew *f, const crew_desc *d) {
    uint32_t r;
    size_t t;
    int ok = 1;
    memset(f, 0, sizeof *f);
    f->desc = *d;
    f->size = d->sim.size;
    if (f->size > CREW_MOST || weft_sim_init(&f->sim, &f->desc.sim) != WEFT_OK)
        return crew_fail(f, "no simulated network");
    for (t = 0; t < d->tensors; t++) f->elements += d->count[t];
    for (r = 0; r < f->size; r++) {
        crew_worker *w = &f->worker[r];
        w->f = f;
        w->rank = r;
        w->rng = d->data_seed * 1000003; /* alike: something common is in the gradients */
        w->grads = cluster_tensors(d->tensors, d->count, NULL);
        w->kept = (float *)malloc(f->elements * sizeof(float) + 1);
        weft_sim_transport(&f->sim, r, &w->net);
        f->in_view[r] = 1;
        ok = ok && crew_make(w);
    }
    return ok;
}

/* A lost worker is there again, as a new process with a new object. The host gives all a larger view. */
static inline int crew_rejoin(crew *f, uint32_t rank) {
    crew_worker *w = &f->worker[rank];
    weft_sim_revive(&f->sim, rank);
    if (w->lives == 8) return crew_fail(f, "worker %lu came back too often", (unsigned long)rank);
    w->left_behind[w->lives++] = w->memory; /* with shared memory others may still look at it */
    w->memory = NULL;
    w->a = NULL;
    w->commits = 0;
    w->attempts = 0;
    if (!crew_make(w)) return 0;
    crew_new_view(f);
    return 1;
}

/* Goes on until nothing moves. Then every worker that is alive and has neither left nor stopped must be at rest, with
 * `rounds` rounds behind it. */
static inline int crew_run(crew *f, uint64_t rounds) {
    uint32_t r;
    weft_sim_end end;
    f->target = rounds;
    for (r = 0; r < f->size; r++) f->worker[r].attempts = f->worker[r].naps = 0;
    crew_wake(f);
    end = weft_sim_run(&f->sim, 400000);
    if (f->why[0]) return 0;
    if (end != WEFT_SIM_DONE && end != WEFT_SIM_DEADLOCK) return crew_fail(f, "run: %s", weft_sim_text(&f->sim));
    for (r = 0; r < f->size; r++) {
        crew_worker *w = &f->worker[r];
        if (!weft_sim_alive(&f->sim, r) || w->doing == CREW_STOPPED) continue;
        if (w->doing != CREW_RESTS)
            return crew_fail(f, "worker %lu hangs in state %d after round %llu (epoch %lu, verb said %s): %s",
                             (unsigned long)r, w->a->state, (unsigned long long)w->a->round, (unsigned long)w->epoch,
                             weft_strerror(w->status), weft_sim_text(&f->sim));
    }
    return 1;
}

/* The survivors of all views have committed the same rounds with the same results, and have the same average over
 * steps. A worker that came later, or left earlier, has a part of them. */
static inline int crew_agree(crew *f) {
    uint32_t a, b, i, j;
    for (a = 0; a < f->size; a++)
        for (b = 0; b < f->size; b++) {
            crew_worker *p = &f->worker[a], *q = &f->worker[b];
            if (a == b || !weft_sim_alive(&f->sim, a) || !weft_sim_alive(&f->sim, b) || p->left || q->left) continue;
            for (i = 0; i < p->commits; i++)
                for (j = 0; j < q->commits; j++)
                    if (p->committed[i] == q->committed[j] &&
                        (p->result[i] != q->result[j] || p->participants[i] != q->participants[j]))
                        return crew_fail(f, "workers %lu and %lu have different results of round %llu",
                                         (unsigned long)a, (unsigned long)b, (unsigned long long)p->committed[i]);
            if (p->doing != CREW_RESTS || q->doing != CREW_RESTS) continue;
            if (p->a->round != q->a->round)
                return crew_fail(f, "workers %lu and %lu are not in the same round", (unsigned long)a,
                                 (unsigned long)b);
            {
                crew_slots s = crew_slots_of(p->a), t = crew_slots_of(q->a);
                if (memcmp(&s, &t, sizeof s) != 0)
                    return crew_fail(f, "workers %lu and %lu have different averages over steps", (unsigned long)a,
                                     (unsigned long)b);
            }
            /* from the first round of both on, the same list */
            for (i = p->commits, j = q->commits; i > 0 && j > 0; i--, j--)
                if (p->committed[i - 1] != q->committed[j - 1])
                    return crew_fail(f, "worker %lu has committed round %llu where worker %lu has committed round %llu",
                                     (unsigned long)a, (unsigned long long)p->committed[i - 1], (unsigned long)b,
                                     (unsigned long long)q->committed[j - 1]);
        }
    return 1;
}

/* Ends everything; 0 if anything was wrong. */
static inline int crew_close(crew *f) {
    uint32_t r, k;
    for (r = 0; r < f->size; r++) {
        crew_worker *w = &f->worker[r];
        if (w->a) subspace_close(w->a);
        w->a = NULL;
        free(w->memory);
        while (w->lives) free(w->left_behind[--w->lives]);
        if (w->grads.tensor && !cluster_tensors_whole(&w->grads))
            crew_fail(f, "worker %lu: somebody wrote behind a tensor", (unsigned long)r);
        if (w->grads.tensor) cluster_tensors_free(&w->grads);
        free(w->kept);
        for (k = 0; k < CREW_KEEP; k++) free(w->begun[k]);
    }
    for (k = 0; k <= CREW_MOST; k++)
        if (f->oracle[k].memory && !pile_close(&f->oracle[k])) crew_fail(f, "the oracle wrote where nobody may");
    if (f->sim.worker && weft_sim_violation(&f->sim)) crew_fail(f, "%s", weft_sim_violation(&f->sim));
    if (f->sim.worker && weft_sim_outstanding(&f->sim)) crew_fail(f, "requests are left after close");
    if (f->sim.worker) weft_sim_free(&f->sim);
    f->size = 0;
    return !f->why[0];
}

#endif /* SUBSPACE_CREW_H */
