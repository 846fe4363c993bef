/* SPDX-License-Identifier: MIT
 * cluster.h: one run: workers over a simulated network, in virtual time, under one of the rules. A gradient takes a
 * second (5 % more or less), a sum of models over all workers `sync` seconds where all come at once. GRAWA and uniform
 * averaging are objects of grawa.h, the rest sums and broadcasts of its collective with the arithmetic of elastic.h. */
#ifndef FLATNESS_CLUSTER_H
#define FLATNESS_CLUSTER_H

#include "transports/weft_pace.h"
#include "transports/weft_sim.h"

#include "problem.h"

#include "train/elastic.h"

#include <math.h>

enum { CLUSTER_MOST = 32, CLUSTER_POINTS = 33 };

typedef enum kind { ALL_REDUCE, EASGD, LSGD, UNIFORM, MGRAWA, LGRAWA } kind;

typedef struct rule {
    const char *name;
    kind kind;
    uint32_t period; /* local steps a round, of all workers together: workers times as many */
    double pull;     /* EASGD: its beta */
} rule;

typedef struct setting {
    const rule *rule;
    uint32_t workers;
    double rate, sync, seconds; /* virtual time a run lasts; sync: see above */
    uint64_t steps;             /* or: so many steps of each worker, whatever the time; 0: by time */
    double slow;                /* worker 0 takes so many times as long */
    uint64_t seed;
} setting;

typedef struct run_result {
    double curve[CLUSTER_POINTS]; /* looks at the model, evenly spaced in time (or steps) */
    double steps, rounds, bytes, waited,
        seconds;   /* a worker: steps; of them all: rounds; bytes sent a worker; shares */
    double spread; /* mean |workers times weight - 1| of the rounds */
    int diverged;
} run_result;

typedef struct cluster cluster;

typedef struct worker {
    cluster *c;
    uint32_t rank;
    weft_transport net;
    tensor_list params, grads, velocity, other, center;
    weft_tensor param[MAX_TENSORS], grad[MAX_TENSORS], moved[MAX_TENSORS], one;
    grawa *g;
    weft_collective *sum, *vote;
    void *memory[2];
    float loss[CLUSTER_MOST];
    double losses;
    uint64_t steps, rounds, probes, due, since, waited, counted;
    enum { COMPUTING, PROBING, SHARING, VOTING, LEADING, DONE } state;
} worker;

struct cluster {
    problem *p;
    const setting *s;
    weft_sim sim;
    weft_pace pace;
    uint64_t total;             /* steps of all */
    double share[CLUSTER_MOST]; /* of a mean: read until a sum is done */
    double spread, spreads;
    int diverged;
    tensor_list mean;
    worker of[CLUSTER_MOST];
};

static inline void cluster_stop(const char *what, weft_status s, const weft_detail *d) {
    fprintf(stderr, "bench-flatness: %s: %s (%s)\n", what, weft_strerror(s), d && d->field ? d->field : "-");
    exit(1);
}

static inline weft_tensors cluster_view(const problem *p, const tensor_list *t, weft_tensor *view) {
    for (size_t i = 0; i < p->tensors; i++) view[i] = (weft_tensor){t->tensor[i], p->count[i], WEFT_F32};
    return (weft_tensors){view, (uint32_t)p->tensors};
}

static inline int cluster_by_grawa(const worker *w) {
    return w->c->s->rule->kind >= UNIFORM;
}

static inline void worker_compute(worker *w) {
    cluster *c = w->c;
    const uint64_t now = weft_sim_now(&c->sim);
    w->due = now + weft_pace_draw_ns(&c->pace, c->s->seed, w->rank, w->steps + w->probes);
    weft_sim_sleep(&c->sim, w->rank, w->due - now);
}

/* One step of SGD. */
static inline void worker_move(worker *w) {
    const problem *p = w->c->p;
    const float rate = (float)w->c->s->rate, m = (float)p->momentum;
    for (size_t t = 0; t < p->tensors; t++)
        for (size_t i = 0; i < p->count[t]; i++) {
            const float g = w->grads.tensor[t][i], v = w->velocity.tensor[t][i] = m * w->velocity.tensor[t][i] + g;
            w->params.tensor[t][i] -= rate * (g + m * v);
        }
}

static inline void worker_losses(worker *w, double loss) {
    if (!isfinite(loss) || loss > 1e4) w->c->diverged = 1;
    w->losses += loss;
    w->counted++;
}

/* How far the weights of a round are from equal ones. */
static inline void worker_spread(worker *w) {
    const uint32_t n = w->c->s->workers, groups = grawa_groups(w->g);
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t k = 0; k < groups; k++) {
            w->c->spread += fabs(n * grawa_weight(w->g, i, k) - 1);
            w->c->spreads++;
        }
}

/* A verb of grawa.h has said s. 1: the next step may be taken. */
static inline int worker_of_grawa(worker *w, weft_status s) {
    grawa_stats_t stats = {.rounds = 0};
    if (s == WEFT_WANT_GRADIENT) {
        w->state = PROBING;
        worker_compute(w);
        return 0;
    }
    if (s == WEFT_AGAIN) {
        w->state = SHARING;
        return 0;
    }
    if (s == WEFT_ERR_NONFINITE) w->c->diverged = 1;
    if (s < 0 && s != WEFT_ERR_NONFINITE) cluster_stop(w->c->s->rule->name, s, grawa_detail(w->g));
    grawa_stats(w->g, &stats);
    if (stats.rounds > w->rounds && w->rank == 0) worker_spread(w);
    w->rounds = stats.rounds;
    return 1;
}

/* One of the collective's; 1: the round is over. */
static inline int worker_of_sums(worker *w, weft_status s) {
    const problem *p = w->c->p;
    const rule *r = w->c->s->rule;
    const uint32_t n = w->c->s->workers;
    if (s == WEFT_AGAIN) return 0;
    if (s == WEFT_ERR_NONFINITE) {
        w->c->diverged = 1;
        return 0;
    }
    if (s < 0) cluster_stop(r->name, s, weft_collective_detail(w->state == VOTING ? w->vote : w->sum));
    if (w->state == VOTING) { /* the model of whoever has the lowest loss is next */
        uint32_t rank[CLUSTER_MOST];
        for (uint32_t i = 0; i < n; i++) rank[i] = i;
        problem_copy(p, &w->other, &w->params);
        w->state = LEADING;
        return worker_of_sums(w, weft_collective_begin(w->sum, WEFT_OP_BROADCAST, NULL, lsgd_leader(w->loss, rank, n)));
    }
    if (r->kind == ALL_REDUCE) worker_move(w); /* `grads` are everybody's now */
    for (size_t t = 0; t < p->tensors; t++) {
        if (r->kind == EASGD)
            easgd_move(p->count[t], w->params.tensor[t], w->center.tensor[t], w->other.tensor[t], (float)(r->pull / n),
                       (float)r->pull);
        if (r->kind == LSGD) lsgd_pull(p->count[t], w->params.tensor[t], w->other.tensor[t], (float)r->pull);
    }
    w->rounds++;
    return 1;
}

/* A gradient is there: the local step, and what the rule does after it. 1: the next step may be taken. */
static inline int worker_step(worker *w) {
    cluster *c = w->c;
    const problem *p = c->p;
    const rule *r = c->s->rule;
    const uint32_t n = c->s->workers;
    weft_tensors grads = cluster_view(p, &w->grads, w->grad);
    worker_losses(w, c->p->gradient(c->p, &w->params, c->s->seed, w->rank, w->steps + w->probes, &w->grads));
    w->steps++;
    c->total++;
    w->since = weft_sim_now(&c->sim);
    if (r->kind != ALL_REDUCE) worker_move(w);
    if (cluster_by_grawa(w)) return worker_of_grawa(w, grawa_step(w->g, &grads));
    /* as published, whoever has done more than its share of a period's steps does the work of slower ones */
    if (r->kind != ALL_REDUCE && c->total < (uint64_t)n * r->period * (w->rounds + 1)) return 1;
    if (r->kind == LSGD) {
        memset(w->loss, 0, sizeof w->loss);
        w->loss[w->rank] = (float)(w->losses / (double)w->counted);
        w->losses = 0;
        w->counted = 0;
        w->state = VOTING;
        return worker_of_sums(w, weft_collective_begin(w->vote, WEFT_OP_ALL_REDUCE, NULL, 0));
    }
    w->state = SHARING;
    if (r->kind == EASGD) problem_copy(p, &w->other, &w->params);
    return worker_of_sums(w, weft_collective_begin(w->sum, WEFT_OP_ALL_REDUCE, c->share, 0));
}

static inline int worker_run(void *user, uint32_t rank) {
    worker *w = (worker *)user;
    cluster *c = w->c;
    const uint64_t now = weft_sim_now(&c->sim);
    int next = 0;
    (void)rank;
    if (c->diverged) return 1;
    if ((w->state == COMPUTING || w->state == PROBING) && now < w->due) {
        weft_sim_sleep(&c->sim, w->rank, w->due - now);
        return 0;
    }
    switch (w->state) {
    case COMPUTING: next = worker_step(w); break;
    case PROBING: {
        weft_tensors grads = cluster_view(c->p, &w->grads, w->grad);
        c->p->gradient(c->p, &w->params, c->s->seed, w->rank, w->steps + w->probes++, &w->grads);
        w->since = now;
        next = worker_of_grawa(w, grawa_probe(w->g, &grads));
        break;
    }
    case SHARING:
    case VOTING:
    case LEADING:
        next = cluster_by_grawa(w) ? worker_of_grawa(w, grawa_poll(w->g))
                                   : worker_of_sums(w, weft_collective_poll(w->state == VOTING ? w->vote : w->sum));
        break;
    case DONE: return 1;
    }
    if (!next) return 0; /* asked again when something has come */
    w->waited += now - w->since;
    w->state = COMPUTING;
    worker_compute(w);
    return 0;
}

static inline void *cluster_memory(size_t bytes) {
    void *p = malloc(bytes ? bytes : 1);
    if (!p) cluster_stop("memory", WEFT_ERR_MEMORY, NULL);
    return p;
}

static inline weft_collective *cluster_sums(worker *w, weft_tensors tensors, uint32_t channel, void **memory) {
    weft_collective_desc d;
    weft_collective *sum;
    weft_detail why;
    weft_status s;
    size_t bytes;
    memset(&d, 0, sizeof d);
    d.struct_size = sizeof d;
    d.tensors = tensors;
    d.transport = &w->net;
    d.channel = channel;
    bytes = weft_collective_memory(&d, NULL);
    *memory = cluster_memory(bytes);
    s = weft_collective_init(&sum, &d, *memory, bytes, &why);
    if (s != WEFT_OK) cluster_stop("sums", s, &why);
    return sum;
}

static inline void worker_open(worker *w, cluster *c, uint32_t rank, const tensor_list *first) {
    const problem *p = c->p;
    const rule *r = c->s->rule;
    w->c = c;
    w->rank = rank;
    w->params = problem_new(p);
    w->grads = problem_new(p);
    w->velocity = problem_new(p);
    w->other = problem_new(p);
    w->center = problem_new(p);
    problem_copy(p, &w->params, first);
    problem_copy(p, &w->center, first);
    weft_sim_transport(&c->sim, rank, &w->net);
    if (cluster_by_grawa(w)) {
        grawa_desc d;
        weft_detail why;
        weft_status s;
        size_t bytes;
        memset(&d, 0, sizeof d);
        d.struct_size = sizeof d;
        d.params = cluster_view(p, &w->params, w->param);
        d.transport = &w->net;
        d.weighting = r->kind == UNIFORM ? GRAWA_UNIFORM : r->kind == MGRAWA ? GRAWA_BY_MODEL : GRAWA_BY_LAYER;
        d.source = GRAWA_SOURCE_PROBE; /* as published */
        d.trigger = GRAWA_TRIGGER_TOTAL;
        d.period_steps = r->period;
        d.pull = r->pull;
        bytes = grawa_memory(&d, NULL);
        w->memory[0] = cluster_memory(bytes);
        s = grawa_init_detail(&w->g, &d, w->memory[0], bytes, &why);
        if (s != WEFT_OK) cluster_stop(r->name, s, &why);
    } else {
        const tensor_list *what = r->kind == ALL_REDUCE ? &w->grads : &w->other;
        w->sum = cluster_sums(w, cluster_view(p, what, w->moved), 0, &w->memory[0]);
        w->one = (weft_tensor){w->loss, c->s->workers, WEFT_F32};
        if (r->kind == LSGD) w->vote = cluster_sums(w, (weft_tensors){&w->one, 1}, 1, &w->memory[1]);
    }
    worker_compute(w);
    weft_sim_worker(&c->sim, rank, worker_run, w);
}

static inline double worker_sent(const worker *w) {
    weft_traffic t = {0};
    double bytes = 0;
    if (w->g) {
        grawa_stats_t s;
        grawa_stats(w->g, &s);
        t = s.traffic;
    }
    bytes += (double)t.payload_sent;
    if (w->sum) bytes += (double)weft_collective_traffic(w->sum)->payload_sent;
    if (w->vote) bytes += (double)weft_collective_traffic(w->vote)->payload_sent;
    return bytes;
}

static inline void worker_close(worker *w) {
    const problem *p = w->c->p;
    if (w->g) grawa_close(w->g);
    if (w->sum) weft_collective_close(w->sum);
    if (w->vote) weft_collective_close(w->vote);
    for (int i = 0; i < 2; i++) free(w->memory[i]);
    problem_free(p, &w->params);
    problem_free(p, &w->grads);
    problem_free(p, &w->velocity);
    problem_free(p, &w->other);
    problem_free(p, &w->center);
}

/* The model that is looked at, as published: the plain mean; EASGD's center. */
static inline void cluster_model(cluster *c, tensor_list *into) {
    const uint32_t n = c->s->workers;
    for (size_t t = 0; t < c->p->tensors; t++)
        for (size_t i = 0; i < c->p->count[t]; i++) {
            double sum = 0;
            if (c->s->rule->kind == EASGD)
                sum = n * (double)c->of[0].center.tensor[t][i];
            else
                for (uint32_t k = 0; k < n; k++) sum += (double)c->of[k].params.tensor[t][i];
            into->tensor[t][i] = (float)(sum / n);
        }
}

/* So far that all workers together have taken `steps` each, or `seconds` are over. */
static inline void cluster_go(cluster *c, double share) {
    if (!c->s->steps) {
        const uint64_t until = (uint64_t)(c->s->seconds * 1e9 * share);
        if (until > weft_sim_now(&c->sim)) weft_sim_advance(&c->sim, until - weft_sim_now(&c->sim));
        return;
    }
    while ((double)c->total < share * (double)c->s->steps * c->s->workers && !c->diverged)
        weft_sim_advance(&c->sim, 20000000);
}

/* *end, unless NULL, gets the last one; it is the caller's to free. */
static inline void cluster_run(run_result *out, problem *p, const setting *s, tensor_list *end) {
    static cluster storage;
    cluster *c = &storage;
    weft_sim_desc sd;
    tensor_list first = problem_new(p), at = problem_new(p);
    memset(c, 0, sizeof *c);
    memset(out, 0, sizeof *out);
    memset(&sd, 0, sizeof sd);
    c->p = p;
    c->s = s;
    c->pace = weft_pace_default();
    weft_pace_parse(&c->pace, "uniform:1:0.05");
    if (s->slow > 1) c->pace.slow = 1, c->pace.slow_factor = s->slow;
    sd.seed = s->seed;
    sd.size = s->workers;
    sd.latency_ns = 100000;
    /* to each peer go two shards: one to be summed there, one that is summed */
    sd.bytes_per_second = (uint64_t)(8.0 * (double)p->parameters / s->workers / s->sync + 1.0);
    if (weft_sim_init(&c->sim, &sd) != WEFT_OK) cluster_stop("simulation", WEFT_ERR_MEMORY, NULL);
    p->first(p, &first, s->seed);
    for (uint32_t i = 0; i < s->workers; i++) c->share[i] = 1.0 / s->workers;
    for (uint32_t i = 0; i < s->workers; i++) worker_open(&c->of[i], c, i, &first);
    for (int k = 0; k < CLUSTER_POINTS; k++) {
        cluster_go(c, (double)k / (CLUSTER_POINTS - 1));
        cluster_model(c, &at);
        out->curve[k] = c->diverged ? (double)NAN : p->look(p, &at);
        if (!isfinite(out->curve[k])) c->diverged = 1;
    }
    out->diverged = c->diverged;
    out->seconds = (double)weft_sim_now(&c->sim) * 1e-9;
    out->rounds = (double)c->of[0].rounds;
    out->spread = c->spreads > 0 ? c->spread / c->spreads : (double)NAN;
    for (uint32_t i = 0; i < s->workers; i++) {
        const worker *w = &c->of[i];
        out->steps += (double)w->steps / s->workers;
        out->bytes += worker_sent(w) / s->workers;
        out->waited += (double)w->waited * 1e-9 / out->seconds / s->workers;
    }
    if (weft_sim_violation(&c->sim)) {
        fprintf(stderr, "bench-flatness: %s\n", weft_sim_violation(&c->sim));
        exit(1);
    }
    for (uint32_t i = 0; i < s->workers; i++) worker_close(&c->of[i]);
    weft_sim_free(&c->sim);
    problem_free(p, &first);
    if (end)
        *end = at;
    else
        problem_free(p, &at);
}

#endif
