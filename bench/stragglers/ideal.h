/* SPDX-License-Identifier: MIT
 * ideal.h: five rules as one global eye would run them: no network, no messages, an averaging takes a fixed time. All
 * see the same compute times (weft_pace.h) and the same samples.
 *
 *   DSGD-AAU         as in the paper: an iteration takes place when somebody who has finished joins two parts of the
 *                    epoch (dsgd_aau_pathsearch); all who are available average (dsgd_aau_weights)
 *   DSGD             synchronous: everybody waits for everybody; Metropolis weights
 *   AD-PSGD          idealised: computing never waits; only averagings of one worker are one after the other
 *   Prague           partial all-reduce in random groups of four; a worker serves the groups it is in in their order
 *   AGP              push-sum: half of what one has goes to a random neighbour; steps scaled by the own weight, without
 *                    which the method diverges when weights decay */
#ifndef STRAGGLERS_IDEAL_H
#define STRAGGLERS_IDEAL_H

#include "mixing.h"
#include "watch.h"

enum { DRAW_PARTNER = 200 };

/* ---- events ---- */

enum { EVENT_FINISH, EVENT_MIX, EVENT_ARRIVE };

typedef struct event {
    double at;
    uint64_t order; /* equal times: first come, first served */
    int kind;
    uint32_t who, with;
    uint64_t step, version; /* AD-PSGD: of a gradient, */
    double read_at, weight; /* when its parameters were read; AGP: of a parcel */
    double *load;           /* owned */
} event;

typedef struct events {
    event *heap;
    size_t count, room;
    uint64_t order;
} events;

static inline int event_before(const event *a, const event *b) {
    return a->at != b->at ? a->at < b->at : a->order < b->order;
}

static inline void events_push(events *q, event e) {
    size_t i;
    if (q->count == q->room) {
        q->room = q->room ? 2 * q->room : 256;
        q->heap = (event *)realloc(q->heap, q->room * sizeof *q->heap);
        if (!q->heap) abort();
    }
    e.order = ++q->order;
    for (i = q->count++; i && event_before(&e, &q->heap[(i - 1) / 2]); i = (i - 1) / 2)
        q->heap[i] = q->heap[(i - 1) / 2];
    q->heap[i] = e;
}

static inline event events_pop(events *q) {
    event top = q->heap[0], last = q->heap[--q->count];
    size_t i = 0;
    for (;;) {
        size_t k = 2 * i + 1;
        if (k >= q->count) break;
        if (k + 1 < q->count && event_before(&q->heap[k + 1], &q->heap[k])) k++;
        if (!event_before(&q->heap[k], &last)) break;
        q->heap[i] = q->heap[k];
        i = k;
    }
    if (q->count) q->heap[i] = last;
    return top;
}

/* ---- what all rules have in common ---- */

typedef struct field {
    const trial *t;
    outcome *out;
    fleet m;
    watch watch;
    events queue;
    double now, busy; /* busy: seconds of computing, of all workers */
    uint64_t *step;   /* one a worker: gradients begun */
    uint64_t gradients, sent;
    double *g, *moved; /* moved: what gradients have done to the sum of all parameters */
    double *scratch;   /* workers x dim */
    double *w;         /* workers x workers */
    uint32_t *who;
    rng partner;
} field;

static inline void field_open(field *f, const trial *t, outcome *out) {
    const size_t dim = t->task->dim, n = t->task->workers;
    memset(f, 0, sizeof *f);
    f->t = t;
    f->out = out;
    f->m.dim = dim;
    f->m.workers = t->task->workers;
    f->m.x = (double *)new_array(n * dim, sizeof(double));
    f->scratch = (double *)new_array(n * dim, sizeof(double));
    f->w = (double *)new_array(n * n, sizeof(double));
    f->who = (uint32_t *)new_array(n, sizeof(uint32_t));
    f->step = (uint64_t *)new_array(n, sizeof(uint64_t));
    f->g = (double *)new_array(dim, sizeof(double));
    f->moved = (double *)new_array(dim, sizeof(double));
    f->partner = rng_make(t->seed, DRAW_PARTNER, 0);
    for (size_t j = 0; j < n; j++) t->task->start(t->task, f->m.x + j * dim);
    watch_open(&f->watch, t, &f->m, out);
}

/* Worker i begins a gradient after `wait` seconds; it will be that of step `step` - 1 when it is over. */
static inline event field_compute(field *f, uint32_t i, double wait) {
    const double seconds = weft_pace_draw(f->t->pace, f->t->seed, i, f->step[i]);
    event e = {0};
    e.at = f->now + wait + seconds;
    e.kind = EVENT_FINISH;
    e.who = i;
    e.step = f->step[i]++;
    f->busy += seconds;
    return e;
}

static inline void field_begin(field *f, uint32_t i, double wait) {
    events_push(&f->queue, field_compute(f, i, wait));
}

/* x_i <- x_i - scale eta g */
static inline void field_apply(field *f, uint32_t i, const double *g, double scale) {
    double *x = f->m.x + i * f->m.dim;
    const double a = f->t->eta * scale;
    for (size_t k = 0; k < f->m.dim; k++) {
        x[k] -= a * g[k];
        f->moved[k] -= a * g[k];
    }
    f->gradients++;
}

/* Worker i's gradient at its present parameters, applied: for rules under which they do not change meanwhile. */
static inline void field_step(field *f, const event *e) {
    f->t->task->gradient(f->t->task, e->who, f->t->seed, e->step, f->m.x + e->who * f->m.dim, f->g);
    field_apply(f, e->who, f->g, 1.0);
    f->out->age_seconds += weft_pace_draw(f->t->pace, f->t->seed, e->who, e->step);
}

static inline int field_next(field *f, event *e) {
    if (!f->queue.count) return 0;
    if (!watch_pass(&f->watch, f->queue.heap[0].at, f->gradients)) return 0;
    *e = events_pop(&f->queue);
    f->now = e->at;
    return 1;
}

static inline void field_close(field *f) {
    outcome *o = f->out;
    const size_t dim = f->m.dim, n = f->m.workers;
    double *mean = f->scratch;
    fleet_mean(&f->m, mean);
    f->t->task->start(f->t->task, f->g);
    for (size_t k = 0; k < dim; k++) o->leak = fmax(o->leak, fabs(mean[k] - f->g[k] - f->moved[k] / (double)n));
    /* computing that lies beyond the end was counted when it began */
    for (size_t i = 0; i < f->queue.count; i++) {
        if (f->queue.heap[i].kind == EVENT_FINISH) f->busy -= fmax(0.0, f->queue.heap[i].at - o->end);
        free(f->queue.heap[i].load);
    }
    if (isinf(o->t_mean)) o->averagings = (double)f->watch.averagings;
    o->steps = f->gradients;
    o->rate = (double)f->gradients / ((double)n * o->end);
    o->idle = 1.0 - f->busy / ((double)n * o->end);
    o->sent = f->gradients ? (double)f->sent / (double)f->gradients : 0.0;
    if (outcome_participations(o)) o->averaged /= (double)outcome_participations(o);
    o->age_seconds /= (double)(f->gradients ? f->gradients : 1);
    o->age_writes /= (double)(f->gradients ? f->gradients : 1);
    if (f->t->last) memcpy(f->t->last, f->m.x, n * dim * sizeof(double));
    watch_close(&f->watch);
    free(f->m.x);
    free(f->m.weight);
    free(f->m.elsewhere);
    free(f->scratch);
    free(f->w);
    free(f->who);
    free(f->step);
    free(f->g);
    free(f->moved);
    free(f->queue.heap);
}

/* ---- DSGD-AAU ---- */

/* All who are available average and go on. */
static inline void aau_iteration(field *f, unsigned char *available) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < f->m.workers; i++)
        if (available[i]) f->who[count++] = i;
    dsgd_aau_weights(f->t->graph, f->who, count, f->w);
    mix_by_weights(f->m.x, f->m.dim, f->who, count, f->w, f->scratch);
    f->watch.averagings++;
    for (uint32_t k = 0; k < count; k++) {
        const uint32_t p = weft_graph_degree_among(f->t->graph, available, f->who[k]);
        outcome_neighbours(f->out, p);
        f->sent += p;
        field_begin(f, f->who[k], f->t->cost);
    }
    memset(available, 0, f->m.workers);
}

static inline void ideal_aau(const trial *t, outcome *out) {
    const uint32_t n = t->task->workers;
    unsigned char *available = (unsigned char *)new_array(n, 1);
    uint32_t *labels = (uint32_t *)new_array(n, sizeof *labels);
    field f;
    event e;
    field_open(&f, t, out);
    for (uint32_t i = 0; i < n; i++) {
        labels[i] = i;
        field_begin(&f, i, 0.0);
    }
    while (field_next(&f, &e)) {
        uint32_t parts = 0;
        field_step(&f, &e);
        available[e.who] = 1;
        if (f.queue.count && f.queue.heap[0].at == f.now) continue; /* all that finish now come first */
        if (n > 1 && !dsgd_aau_pathsearch(t->graph, available, labels, NULL, 0)) continue;
        aau_iteration(&f, available);
        for (uint32_t i = 0; i < n; i++) parts += labels[i] == i;
        if (parts > 1) continue;
        out->epochs++;
        for (uint32_t i = 0; i < n; i++) labels[i] = i;
    }
    field_close(&f);
    free(available);
    free(labels);
}

/* ---- synchronous DSGD ---- */

static inline void ideal_dsgd(const trial *t, outcome *out) {
    const uint32_t n = t->task->workers;
    uint32_t waiting = 0;
    field f;
    event e;
    field_open(&f, t, out);
    for (uint32_t i = 0; i < n; i++) {
        f.who[i] = i;
        field_begin(&f, i, 0.0);
    }
    dsgd_aau_weights(t->graph, f.who, n, f.w);
    while (field_next(&f, &e)) {
        field_step(&f, &e);
        if (++waiting < n) continue;
        waiting = 0;
        mix_by_weights(f.m.x, f.m.dim, f.who, n, f.w, f.scratch);
        f.watch.averagings++;
        out->epochs++;
        for (uint32_t i = 0; i < n; i++) {
            outcome_neighbours(out, weft_graph_degree(t->graph, i));
            f.sent += weft_graph_degree(t->graph, i);
            field_begin(&f, i, t->cost);
        }
    }
    field_close(&f);
}

/* ---- AD-PSGD ---- */

/* Reads its parameters as they are and computes on; the gradient goes along with the event. */
static inline void adpsgd_begin(field *f, uint32_t i, const uint64_t *version) {
    event e = field_compute(f, i, 0.0);
    e.load = (double *)new_array(f->m.dim, sizeof(double));
    f->t->task->gradient(f->t->task, i, f->t->seed, e.step, f->m.x + i * f->m.dim, e.load);
    e.version = version[i];
    e.read_at = f->now;
    events_push(&f->queue, e);
}

static inline void ideal_adpsgd(const trial *t, outcome *out) {
    const uint32_t n = t->task->workers;
    double *channel = (double *)new_array(n, sizeof *channel); /* is free from then on */
    uint64_t *version = (uint64_t *)new_array(n, sizeof *version);
    field f;
    event e;
    field_open(&f, t, out);
    for (uint32_t i = 0; i < n; i++) adpsgd_begin(&f, i, version);
    while (field_next(&f, &e)) {
        if (e.kind == EVENT_FINISH) {
            uint32_t degree;
            const uint32_t *j = weft_graph_neighbours(t->graph, e.who, &degree);
            const uint32_t i = e.who;
            e.with = degree ? j[rng_below(&f.partner, degree)] : i;
            e.kind = EVENT_MIX;
            e.at = fmax(f.now, fmax(channel[i], channel[e.with])) + (degree ? t->cost : 0.0);
            channel[i] = channel[e.with] = e.at;
            events_push(&f.queue, e);
            adpsgd_begin(&f, i, version);
            continue;
        }
        if (e.with != e.who) {
            mix_pair(f.m.x, f.m.dim, e.who, e.with);
            f.watch.averagings++;
            f.sent += 2;
            version[e.who]++;
            version[e.with]++;
            outcome_neighbours(out, 1);
        }
        field_apply(&f, e.who, e.load, 1.0);
        out->age_seconds += f.now - e.read_at;
        out->age_writes += (double)(version[e.who] - e.version);
        version[e.who]++;
        free(e.load);
    }
    field_close(&f);
    free(channel);
    free(version);
}

/* ---- Prague ---- */

enum { PRAGUE_GROUP = 4 };
#define PRAGUE_NONE SIZE_MAX

typedef struct prague_group {
    uint32_t member[PRAGUE_GROUP], count;
    size_t next[PRAGUE_GROUP]; /* the group that this member serves after this one */
} prague_group;

typedef struct prague {
    field f;
    prague_group *group;
    size_t groups, room;
    size_t *head, *tail;  /* each worker's buffer of groups, in the order in which they were made */
    unsigned char *ready; /* has finished a gradient and waits */
} prague;

static inline size_t *prague_next(prague *p, size_t group, uint32_t worker) {
    uint32_t k = 0;
    while (p->group[group].member[k] != worker) k++;
    return &p->group[group].next[k];
}

/* The generator: the asking worker and three others, whoever they are. */
static inline void prague_make(prague *p, uint32_t asks) {
    const uint32_t n = p->f.m.workers;
    prague_group *g;
    if (p->groups == p->room) {
        p->room = p->room ? 2 * p->room : 256;
        p->group = (prague_group *)realloc(p->group, p->room * sizeof *p->group);
        if (!p->group) abort();
    }
    g = &p->group[p->groups];
    g->member[0] = asks;
    g->count = 1;
    while (g->count < PRAGUE_GROUP && g->count < n) {
        const uint32_t j = rng_below(&p->f.partner, n);
        uint32_t k = 0;
        while (k < g->count && g->member[k] != j) k++;
        if (k == g->count) g->member[g->count++] = j;
    }
    for (uint32_t k = 0; k < g->count; k++) {
        const uint32_t j = g->member[k];
        g->next[k] = PRAGUE_NONE;
        if (p->head[j] == PRAGUE_NONE)
            p->head[j] = p->groups;
        else
            *prague_next(p, p->tail[j], j) = p->groups;
        p->tail[j] = p->groups;
    }
    p->groups++;
}

/* A group meets when it is next for all its members and they have all finished. */
static inline void prague_try(prague *p, size_t group) {
    const prague_group *g = &p->group[group];
    event e = {0};
    for (uint32_t k = 0; k < g->count; k++)
        if (!p->ready[g->member[k]] || p->head[g->member[k]] != group) return;
    for (uint32_t k = 0; k < g->count; k++) p->ready[g->member[k]] = 0;
    e.at = p->f.now + p->f.t->cost;
    e.kind = EVENT_MIX;
    e.step = group;
    events_push(&p->f.queue, e);
}

static inline void prague_mix(prague *p, size_t group) {
    const prague_group *g = &p->group[group];
    mix_group(p->f.m.x, p->f.m.dim, g->member, g->count);
    p->f.watch.averagings++;
    p->f.sent += 2 * (g->count - 1); /* each member: 2 (c - 1) / c of a model */
    for (uint32_t k = 0; k < g->count; k++) {
        p->head[g->member[k]] = g->next[k];
        outcome_neighbours(p->f.out, g->count - 1);
        if (g->next[k] == PRAGUE_NONE)
            field_begin(&p->f, g->member[k], 0.0);
        else
            p->ready[g->member[k]] = 1;
    }
    for (uint32_t k = 0; k < g->count; k++)
        if (p->ready[g->member[k]]) prague_try(p, p->head[g->member[k]]);
}

static inline void ideal_prague(const trial *t, outcome *out) {
    const uint32_t n = t->task->workers;
    prague p;
    event e;
    memset(&p, 0, sizeof p);
    p.head = (size_t *)new_array(n, sizeof *p.head);
    p.tail = (size_t *)new_array(n, sizeof *p.tail);
    p.ready = (unsigned char *)new_array(n, 1);
    field_open(&p.f, t, out);
    for (uint32_t i = 0; i < n; i++) {
        p.head[i] = PRAGUE_NONE;
        field_begin(&p.f, i, 0.0);
    }
    while (field_next(&p.f, &e)) {
        if (e.kind == EVENT_MIX) {
            prague_mix(&p, (size_t)e.step);
            continue;
        }
        field_step(&p.f, &e);
        p.ready[e.who] = 1;
        if (p.head[e.who] == PRAGUE_NONE) prague_make(&p, e.who);
        prague_try(&p, p.head[e.who]);
    }
    field_close(&p.f);
    free(p.group);
    free(p.head);
    free(p.tail);
    free(p.ready);
}

/* ---- AGP ---- */

/* What a worker has been sent and takes in when it has finished its gradient. */
typedef struct agp {
    field f;
    double *inbox, *inbox_weight; /* workers x dim; workers */
} agp;

/* x_i <- x_i - eta w_i g; half of it goes to a random neighbour; what has arrived is added. */
static inline void agp_finish(agp *a, const event *e) {
    field *f = &a->f;
    const size_t dim = f->m.dim;
    const uint32_t i = e->who;
    uint32_t degree;
    const uint32_t *j = weft_graph_neighbours(f->t->graph, i, &degree);
    event parcel = {0};
    fleet_own(&f->m, i, f->scratch);
    f->t->task->gradient(f->t->task, i, f->t->seed, e->step, f->scratch, f->g);
    field_apply(f, i, f->g, f->m.weight[i]);
    f->out->age_seconds += weft_pace_draw(f->t->pace, f->t->seed, i, e->step);
    if (degree) {
        parcel.load = (double *)new_array(dim, sizeof(double));
        push_off(f->m.x + i * dim, &f->m.weight[i], parcel.load, &parcel.weight, dim);
        for (size_t k = 0; k < dim; k++) f->m.elsewhere[k] += parcel.load[k];
        parcel.at = f->now + f->t->cost;
        parcel.kind = EVENT_ARRIVE;
        parcel.who = j[rng_below(&f->partner, degree)];
        events_push(&f->queue, parcel);
        f->sent++;
        f->watch.averagings++;
        outcome_neighbours(f->out, 1);
    }
    push_take(f->m.x + i * dim, &f->m.weight[i], a->inbox + i * dim, a->inbox_weight[i], dim);
    for (size_t k = 0; k < dim; k++) {
        f->m.elsewhere[k] -= a->inbox[i * dim + k];
        a->inbox[i * dim + k] = 0.0;
    }
    a->inbox_weight[i] = 0.0;
    field_begin(f, i, 0.0);
}

/* `weights`, if not NULL: the sum of all weights at the end, wherever they are. */
static inline void ideal_agp_weights(const trial *t, outcome *out, double *weights) {
    const uint32_t n = t->task->workers;
    const size_t dim = t->task->dim;
    agp a;
    event e;
    memset(&a, 0, sizeof a);
    field_open(&a.f, t, out);
    a.f.m.weight = (double *)new_array(n, sizeof(double));
    a.f.m.elsewhere = (double *)new_array(dim, sizeof(double));
    a.inbox = (double *)new_array(n * dim, sizeof(double));
    a.inbox_weight = (double *)new_array(n, sizeof(double));
    for (uint32_t i = 0; i < n; i++) {
        a.f.m.weight[i] = 1.0;
        field_begin(&a.f, i, 0.0);
    }
    while (field_next(&a.f, &e)) {
        if (e.kind == EVENT_FINISH) {
            agp_finish(&a, &e);
            continue;
        }
        push_take(a.inbox + e.who * dim, &a.inbox_weight[e.who], e.load, e.weight, dim);
        free(e.load);
    }
    if (weights) {
        *weights = 0.0;
        for (uint32_t i = 0; i < n; i++) *weights += a.f.m.weight[i] + a.inbox_weight[i];
        for (size_t i = 0; i < a.f.queue.count; i++) *weights += a.f.queue.heap[i].weight;
    }
    field_close(&a.f);
    free(a.inbox);
    free(a.inbox_weight);
}

static inline void ideal_agp(const trial *t, outcome *out) {
    ideal_agp_weights(t, out, NULL);
}

#endif
