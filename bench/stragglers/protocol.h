/* SPDX-License-Identifier: MIT
 * protocol.h: the same task and compute times with the real objects of dsgd_aau.h, which exchange messages over the
 * simulated network of weft_sim.h. A worker that computes answers as soon as a message arrives, as one that polls
 * between layers (or from another thread) would. */
#ifndef STRAGGLERS_PROTOCOL_H
#define STRAGGLERS_PROTOCOL_H

#include "watch.h"

/* Seconds, and the descriptor's fan. */
typedef struct network {
    double latency, transfer; /* of any message; of a model, beside that */
    double grace, coalesce;
    uint32_t fan;
    int deaf; /* nobody polls while it computes */
} network;

static inline network network_default(void) {
    const network n = {0.005, 0.025, 0.030, 0.020, 8, 0};
    return n;
}

/* A model goes with zeros up to this size, so that the bytes of control messages do not count beside it. */
enum { MODEL_BYTES = 16384 };

typedef struct node node;

typedef struct team {
    const trial *t;
    outcome *out;
    network net;
    fleet m;
    watch watch;
    weft_sim sim;
    node *node;
    uint64_t gradients;
    double busy, *g;
    size_t padding;
} team;

struct node {
    team *team;
    uint32_t rank;
    weft_transport net;
    weft_tensor tensor[2];
    dsgd_aau *x;
    void *memory, *padding;
    int computing;
    uint64_t step, due_ns, timer_ns;
};

static inline uint64_t nanoseconds(double seconds) {
    return (uint64_t)(seconds * 1e9 + 0.5);
}

static inline void team_must(weft_status s, const node *w, const char *what) {
    const weft_detail *d = w->x ? dsgd_aau_detail(w->x) : NULL;
    if (s >= 0) return;
    broken("worker %u: %s: %s (%s)", w->rank, what, weft_strerror(s), d && d->field ? d->field : "-");
}

/* An averaging, as each of its members tells of it: its leader has averaged with all the others, a leaf with one. */
static inline void team_trace(void *ctx, const weft_event *e) {
    node *w = (node *)ctx;
    if (e->kind != WEFT_EVENT_COMMITTED) return;
    outcome_neighbours(w->team->out, e->peer == w->rank ? (uint32_t)e->value - 1 : 1);
    if (e->peer == w->rank) w->team->watch.averagings++;
}

/* Called again at `at` at the latest. */
static inline void node_wake(node *w, uint64_t at) {
    const uint64_t now = weft_sim_now(&w->team->sim), also = dsgd_aau_wake_ns(w->x);
    if (also < at) at = also;
    if (at == UINT64_MAX || (at == w->timer_ns && at > now)) return;
    if (at <= now) at = now + 1;
    w->timer_ns = at;
    weft_sim_sleep(&w->team->sim, w->rank, at - now);
}

static inline void node_begin(node *w) {
    team *m = w->team;
    const double seconds = weft_pace_draw(m->t->pace, m->t->seed, w->rank, w->step);
    const uint64_t now = weft_sim_now(&m->sim);
    w->computing = 1;
    w->due_ns = now + nanoseconds(seconds);
    m->busy += seconds;
    if (m->net.deaf) weft_sim_busy(&m->sim, w->rank, w->due_ns - now);
}

static inline void node_finish(node *w) {
    team *m = w->team;
    double *x = m->m.x + w->rank * m->m.dim;
    m->t->task->gradient(m->t->task, w->rank, m->t->seed, w->step, x, m->g);
    for (size_t k = 0; k < m->m.dim; k++) x[k] -= m->t->eta * m->g[k];
    m->out->age_seconds += weft_pace_draw(m->t->pace, m->t->seed, w->rank, w->step);
    w->step++;
    w->computing = 0;
    m->gradients++;
}

static inline int node_step(void *user, uint32_t rank) {
    node *w = (node *)user;
    (void)rank;
    for (;;) {
        weft_status s;
        if (w->computing && weft_sim_now(&w->team->sim) < w->due_ns) {
            if (!w->team->net.deaf) team_must(dsgd_aau_poll(w->x), w, "poll");
            node_wake(w, w->due_ns);
            return 0;
        }
        if (w->computing) {
            node_finish(w);
            s = dsgd_aau_step(w->x);
        } else {
            s = dsgd_aau_poll(w->x);
        }
        team_must(s, w, "step");
        if (s == WEFT_AGAIN) {
            node_wake(w, UINT64_MAX);
            return 0;
        }
        node_begin(w);
        if (w->team->net.deaf) return 0;
    }
}

static inline void node_open(node *w, team *m, uint32_t rank) {
    dsgd_aau_desc d;
    size_t bytes;
    w->team = m;
    w->rank = rank;
    m->t->task->start(m->t->task, m->m.x + rank * m->m.dim);
    w->padding = new_array(m->padding ? m->padding : 1, sizeof(double));
    w->tensor[0].data = m->m.x + rank * m->m.dim;
    w->tensor[0].count = m->m.dim;
    w->tensor[1].data = w->padding;
    w->tensor[1].count = m->padding;
    w->tensor[0].dtype = w->tensor[1].dtype = WEFT_F64;
    weft_sim_transport(&m->sim, rank, &w->net);
    memset(&d, 0, sizeof d);
    d.struct_size = sizeof d;
    d.params.tensor = w->tensor;
    d.params.count = 2;
    d.transport = &w->net;
    d.graph = m->t->graph;
    d.fan = m->net.fan;
    d.grace_ns = nanoseconds(m->net.grace);
    d.coalesce_ns = nanoseconds(m->net.coalesce);
    d.trace = team_trace;
    d.trace_ctx = w;
    bytes = dsgd_aau_memory(&d, NULL);
    w->memory = new_array(bytes, 1);
    team_must(dsgd_aau_init(&w->x, &d, w->memory, bytes), w, "init");
    node_begin(w);
    weft_sim_worker(&m->sim, rank, node_step, w);
}

static inline void team_open(team *m, const trial *t, const network *net, outcome *out) {
    const size_t n = t->task->workers, bytes = t->task->dim * sizeof(double);
    weft_sim_desc d;
    memset(m, 0, sizeof *m);
    m->t = t;
    m->net = *net;
    m->out = out;
    m->m.dim = t->task->dim;
    m->m.workers = t->task->workers;
    m->m.x = (double *)new_array(n * m->m.dim, sizeof(double));
    m->g = (double *)new_array(m->m.dim, sizeof(double));
    m->node = (node *)new_array(n, sizeof *m->node);
    m->padding = bytes < MODEL_BYTES ? (MODEL_BYTES - bytes) / sizeof(double) : 0;
    watch_open(&m->watch, t, &m->m, out);
    memset(&d, 0, sizeof d);
    d.seed = t->seed;
    d.size = t->task->workers;
    d.latency_ns = nanoseconds(net->latency);
    d.bytes_per_second = (uint64_t)((double)(bytes + m->padding * sizeof(double)) / net->transfer);
    if (weft_sim_init(&m->sim, &d) != WEFT_OK) broken("no memory for the simulated network");
    for (uint32_t r = 0; r < m->m.workers; r++) node_open(&m->node[r], m, r);
}

static inline void team_close(team *m) {
    outcome *o = m->out;
    const size_t n = m->m.workers;
    uint64_t models = 0;
    const uint64_t now = weft_sim_now(&m->sim);
    if (weft_sim_violation(&m->sim)) broken("%s", weft_sim_violation(&m->sim));
    for (size_t r = 0; r < n; r++) {
        node *w = &m->node[r];
        dsgd_aau_stats_t s;
        memset(&s, 0, sizeof s);
        dsgd_aau_stats(w->x, &s);
        models += s.partners; /* a leaf is counted at both ends, and two models move for it */
        o->epochs = fmax(o->epochs, (double)s.epochs);
        o->neighbours[0] += s.alone;
        o->control_bytes += s.traffic.control_sent;
        o->control_messages += weft_sim_counts_of(&m->sim, (uint32_t)r)->sent[0];
        if (w->computing && w->due_ns > now) m->busy -= (double)(w->due_ns - now) * 1e-9;
        dsgd_aau_close(w->x);
        free(w->memory);
        free(w->padding);
    }
    if (isinf(o->t_mean)) o->averagings = (double)m->watch.averagings;
    o->steps = m->gradients;
    o->rate = (double)m->gradients / ((double)n * o->end);
    o->idle = 1.0 - m->busy / ((double)n * o->end);
    o->sent = m->gradients ? (double)models / (double)m->gradients : 0.0;
    if (outcome_participations(o)) o->averaged /= (double)outcome_participations(o);
    o->age_seconds /= (double)(m->gradients ? m->gradients : 1);
    if (m->t->last) memcpy(m->t->last, m->m.x, n * m->m.dim * sizeof(double));
    watch_close(&m->watch);
    weft_sim_free(&m->sim);
    free(m->m.x);
    free(m->g);
    free(m->node);
}

static inline void run_protocol(const trial *t, const network *net, outcome *out) {
    static team m;
    team_open(&m, t, net, out);
    do {
        const uint64_t until = nanoseconds(m.watch.next), now = weft_sim_now(&m.sim);
        if (until > now) weft_sim_advance(&m.sim, until - now);
    } while (watch_pass(&m.watch, m.watch.next, m.gradients));
    team_close(&m);
}

#endif
