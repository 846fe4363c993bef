/* SPDX-License-Identifier: MIT
 * aau_machine.h: for tests: a world of DSGD-AAU protocol machines without transport: workers, links that are queues,
 * and every event that may happen next, one by one. For exploring all of them, or drawing one after the other.
 *
 * The state travels in one of two forms: whole (as the specification has it) or as the library sends it, told piece by
 * piece. Include after ../dsgd_aau.h with its IMPLEMENTATION. */
#ifndef AAU_MACHINE_H
#define AAU_MACHINE_H

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define AAUM_MOST 10 /* workers */
#define AAUM_EDGES 45
#define AAUM_DEGREE 9
#define AAUM_QUEUE 256 /* messages on a link */
#define AAUM_BYTES 64  /* of a state, as it is told */
#define AAUM_LOST 100  /* in a queue: the other end is gone */

typedef struct aaum_message {
    unsigned char kind, bytes;
    uint16_t count;
    uint32_t id;
    double x; /* parameters */
    unsigned char data[AAUM_BYTES];
} aaum_message;

typedef struct aaum_queue {
    uint32_t first, n;
    aaum_message m[AAUM_QUEUE];
} aaum_queue;

typedef struct aaum_world aaum_world;

typedef struct aaum_worker {
    aaum_world *w;
    uint32_t me;
    dsgd_aau_core core;
    uint32_t view[AAUM_EDGES], changed[AAUM_EDGES], parent[AAUM_MOST], part[AAUM_MOST], edge[AAUM_DEGREE];
    uint32_t order[AAUM_DEGREE];
    unsigned char mark[AAUM_DEGREE];
    dsgd_aau_merge merge[AAUM_MOST];
    dsgd_aau_told told[AAUM_DEGREE];
    int dead, lingering;
    uint32_t linger_session, gradients; /* left */
    double x, sum, in, frozen;          /* in: parameters that come with the message; frozen: as they were promised */
    uint32_t held, leader_session;
} aaum_worker;

struct aaum_world {
    const weft_graph *graph;
    uint32_t n, fan;
    int grace, whole;
    uint32_t crashes; /* left */
    int faulty;       /* there has been a crash or a cut */
    uint64_t averagings, merges, epochs, events, messages;
    double mass; /* what the sum of all parameters must be */
    char why[400];
    aaum_worker worker[AAUM_MOST];
    aaum_queue queue[2 * AAUM_EDGES]; /* of edge e: 2 e from its lower end, 2 e + 1 from its higher */
};

static inline int aaum_fail(aaum_world *w, const char *format, ...) {
    va_list ap;
    if (w->why[0]) return 0;
    va_start(ap, format);
    vsnprintf(w->why, sizeof w->why, format, ap);
    va_end(ap);
    return 0;
}

static inline aaum_queue *aaum_link(aaum_world *w, uint32_t from, uint32_t to) {
    uint32_t e = weft_graph_edge_index(w->graph, from, to);
    return &w->queue[2 * e + (from > to)];
}

static inline void aaum_push(aaum_world *w, uint32_t from, uint32_t to, const aaum_message *m) {
    aaum_queue *q = aaum_link(w, from, to);
    if (w->worker[to].dead) return;
    if (q->n == AAUM_QUEUE) {
        aaum_fail(w, "too many messages from %u to %u", (unsigned)from, (unsigned)to);
        return;
    }
    q->m[(q->first + q->n++) % AAUM_QUEUE] = *m;
    w->messages++;
}

/* The worker's state to one neighbour. */
static inline void aaum_tell(aaum_world *w, aaum_worker *a, uint32_t slot) {
    aaum_message m;
    uint32_t i, n = 0;
    memset(&m, 0, sizeof m);
    m.kind = DSGD_AAU_STATE;
    if (w->whole) {
        for (i = 0; i < a->core.edges; i++) m.data[n++] = (unsigned char)a->view[i];
        for (i = 0; i < w->n; i++) m.data[n++] = (unsigned char)dsgd_aau_label(&a->core, i);
        m.id = (uint32_t)a->core.epoch;
        m.bytes = (unsigned char)n;
        aaum_push(w, a->me, a->core.neighbour[slot], &m);
        return;
    }
    while (dsgd_aau_untold(&a->core, slot)) {
        m.bytes = (unsigned char)dsgd_aau_tell(&a->core, slot, m.data, AAUM_BYTES);
        aaum_push(w, a->me, a->core.neighbour[slot], &m);
    }
}

static inline void aaum_act(void *owner, int act, uint32_t slot, uint32_t id, uint32_t count) {
    aaum_worker *a = (aaum_worker *)owner;
    aaum_world *w = a->w;
    aaum_message m;
    switch (act) {
    case DSGD_AAU_STATE:
        if (w->whole) aaum_tell(w, a, slot);
        return; /* the other form: at the end of the event, or ahead of what follows from it */
    case DSGD_AAU_ADD: a->sum += a->in; return;
    case DSGD_AAU_CENTER:
        if (a->frozen != a->x) aaum_fail(w, "leader %u has changed what it promised", (unsigned)a->me);
        a->x = (a->x + a->sum) / (1.0 + count);
        w->averagings++;
        return;
    case DSGD_AAU_LEAF:
        if (a->frozen != a->x) aaum_fail(w, "leaf %u has changed what it promised", (unsigned)a->me);
        a->x += (a->in - a->x) / (1.0 + count);
        return;
    case DSGD_AAU_CONTINUE: return;
    case DSGD_AAU_LINGER:
        a->lingering = 1;
        a->linger_session = id;
        return;
    default: break;
    }
    if (!w->whole) aaum_tell(w, a, slot);
    memset(&m, 0, sizeof m);
    m.kind = (unsigned char)act;
    m.id = id;
    m.count = (uint16_t)count;
    m.x = a->x;
    if (act == DSGD_AAU_PROPOSE) a->sum = 0;
    if (act == DSGD_AAU_PROPOSE || act == DSGD_AAU_ACCEPT) a->frozen = a->x;
    aaum_push(w, a->me, a->core.neighbour[slot], &m);
}

static inline void aaum_make(aaum_world *w, uint32_t i, int fresh) {
    aaum_worker *a = &w->worker[i];
    a->w = w;
    a->me = i;
    a->core.view = a->view;
    a->core.changed = a->changed;
    a->core.parent = a->parent;
    a->core.part = a->part;
    a->core.merge = a->merge;
    a->core.edge = a->edge;
    a->core.mark = a->mark;
    a->core.order = a->order;
    a->core.told = a->told;
    dsgd_aau_core_start(&a->core, w->graph, i, w->fan, w->grace, fresh, aaum_act, a);
    a->dead = a->lingering = 0;
}

static inline void aaum_init(aaum_world *w, const weft_graph *g, uint32_t fan, int grace, int whole, uint32_t gradients,
                             uint32_t crashes) {
    uint32_t i;
    memset(w, 0, sizeof *w);
    w->graph = g;
    w->n = g->workers;
    w->fan = fan;
    w->grace = grace;
    w->whole = whole;
    w->crashes = crashes;
    for (i = 0; i < w->n; i++) {
        aaum_make(w, i, 0);
        w->worker[i].x = (double)(1u << i);
        w->mass += w->worker[i].x;
        w->worker[i].gradients = gradients;
    }
}

/* After every event: what has not been told yet. */
static inline void aaum_flush(aaum_world *w, aaum_worker *a) {
    uint32_t k;
    if (w->whole || a->dead) return;
    for (k = 0; k < a->core.degree; k++) aaum_tell(w, a, k);
}

/* ---- events ---- */

static inline void aaum_done(aaum_world *w, uint32_t i, double delta) {
    aaum_worker *a = &w->worker[i];
    a->gradients--;
    a->x += delta;
    w->mass += delta;
    dsgd_aau_done(&a->core);
    aaum_flush(w, a);
}

static inline void aaum_timer(aaum_world *w, uint32_t i) {
    aaum_worker *a = &w->worker[i];
    a->lingering = 0;
    dsgd_aau_linger(&a->core, a->linger_session);
    aaum_flush(w, a);
}

static inline void aaum_deliver(aaum_world *w, uint32_t from, uint32_t to) {
    aaum_queue *q = aaum_link(w, from, to);
    aaum_worker *a = &w->worker[to];
    const aaum_message m = q->m[q->first];
    uint32_t slot = weft_graph_slot(w->graph, to, from);
    q->first = (q->first + 1) % AAUM_QUEUE;
    q->n--;
    if (a->dead) return;
    if (m.kind != AAUM_LOST && !(a->mark[slot] & DSGD_AAU_LINK)) return; /* of a link that is over at this end */
    a->in = m.x;
    if (m.kind == AAUM_LOST) {
        dsgd_aau_lost(&a->core, slot);
    } else if (m.kind == DSGD_AAU_STATE && w->whole) {
        uint32_t view[AAUM_EDGES], labels[AAUM_MOST], i, n = 0;
        for (i = 0; i < a->core.edges; i++) view[i] = m.data[n++];
        for (i = 0; i < w->n; i++) labels[i] = m.data[n++];
        dsgd_aau_adopt(&a->core, slot, view, m.id, labels);
    } else if (m.kind == DSGD_AAU_STATE) {
        if (!dsgd_aau_told_by(&a->core, slot, m.data, m.bytes)) aaum_fail(w, "a state is refused");
    } else {
        if (m.kind == DSGD_AAU_COMMIT &&
            !(a->core.st == DSGD_AAU_LOCKED && a->core.leader == slot && a->core.leader_tx == m.id))
            aaum_fail(w, "worker %u: a commit that it does not wait for", (unsigned)to);
        dsgd_aau_hear(&a->core, slot, m.kind, m.id, m.count);
    }
    aaum_flush(w, a);
}

/* One end of a link learns that it is gone: at once, or after what is still on its way. */
static inline void aaum_break(aaum_world *w, uint32_t from, uint32_t to, int keep) {
    aaum_queue *q = aaum_link(w, from, to);
    aaum_message m;
    memset(&m, 0, sizeof m);
    m.kind = AAUM_LOST;
    if (!keep) q->n = 0;
    aaum_push(w, from, to, &m);
}

static inline void aaum_crash(aaum_world *w, uint32_t i, int keep) {
    uint32_t k, n;
    const uint32_t *j = weft_graph_neighbours(w->graph, i, &n);
    w->worker[i].dead = 1;
    w->faulty = 1;
    w->crashes--;
    for (k = 0; k < n; k++) {
        aaum_link(w, j[k], i)->n = 0;
        aaum_break(w, i, j[k], keep);
    }
}

/* ---- what must hold ---- */

static inline int aaum_in_queue(const aaum_queue *q, int kind) {
    uint32_t i;
    for (i = 0; i < q->n; i++)
        if (q->m[(q->first + i) % AAUM_QUEUE].kind == kind) return 1;
    return 0;
}

/* In every state: whoever is locked will be told. */
static inline int aaum_check(aaum_world *w) {
    uint32_t i;
    for (i = 0; i < w->n && !w->why[0]; i++) {
        aaum_worker *a = &w->worker[i], *c;
        const aaum_queue *in, *out;
        uint32_t slot;
        if (a->dead || a->core.st != DSGD_AAU_LOCKED) continue;
        c = &w->worker[a->core.neighbour[a->core.leader]];
        in = aaum_link(w, c->me, i);
        out = aaum_link(w, i, c->me);
        if (aaum_in_queue(in, AAUM_LOST) || aaum_in_queue(out, AAUM_LOST)) continue;
        slot = weft_graph_slot(w->graph, c->me, i);
        if (aaum_in_queue(in, DSGD_AAU_COMMIT) || aaum_in_queue(in, DSGD_AAU_ABORT)) continue;
        if (!c->dead && c->core.st == DSGD_AAU_PROPOSING && c->core.tx == a->core.leader_tx &&
            (c->core.mark[slot] & (DSGD_AAU_PENDING | DSGD_AAU_SUMMED)))
            continue;
        if (!c->dead && aaum_in_queue(out, DSGD_AAU_ACCEPT)) continue; /* it will be told that it came too late */
        return aaum_fail(w, "worker %u is locked by %u, which does not know", (unsigned)i, (unsigned)c->me);
    }
    return !w->why[0];
}

/* When nothing can happen any more but gradients that never end. */
static inline int aaum_check_end(aaum_world *w) {
    uint32_t i, k, live = 0, waiting = 0;
    double sum = 0;
    for (i = 0; i < w->n; i++) {
        aaum_worker *a = &w->worker[i];
        sum += a->x;
        if (a->dead) continue;
        live++;
        if (a->core.st == DSGD_AAU_PROPOSING || a->core.st == DSGD_AAU_LOCKED)
            return aaum_fail(w, "worker %u is still engaged", (unsigned)i);
        waiting += a->core.st == DSGD_AAU_WAITING;
        for (k = 0; k < a->core.degree; k++) {
            aaum_worker *b = &w->worker[a->core.neighbour[k]];
            if (b->dead || !dsgd_aau_alive(&a->core, k)) continue;
            if (a->core.view_hash != b->core.view_hash || a->core.epoch != b->core.epoch)
                return aaum_fail(w, "workers %u and %u are of different views or epochs", (unsigned)i, (unsigned)b->me);
            {
                uint32_t l;
                for (l = 0; l < w->n; l++)
                    if (dsgd_aau_label(&a->core, l) != dsgd_aau_label(&b->core, l))
                        return aaum_fail(w, "workers %u and %u have different labels", (unsigned)i, (unsigned)b->me);
            }
            if (a->core.st == DSGD_AAU_WAITING && b->core.st == DSGD_AAU_WAITING &&
                dsgd_aau_label(&a->core, i) != dsgd_aau_label(&a->core, b->me))
                return aaum_fail(w, "workers %u and %u wait for each other", (unsigned)i, (unsigned)b->me);
        }
    }
    if (live && waiting == live) return aaum_fail(w, "everybody waits");
    if (!w->faulty && fabs(sum - w->mass) > 1e-9) return aaum_fail(w, "the sum of all is off by %g", sum - w->mass);
    return 1;
}

#endif /* AAU_MACHINE_H */
