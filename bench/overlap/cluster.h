/* SPDX-License-Identifier: MIT
 * cluster.h: one run of this study: workers with objects of hpsgd.h over a simulated network, in virtual time. A step
 * takes a second (5 % more or less), an all-reduce as long as the network is made to let it take. */
#ifndef OVERLAP_CLUSTER_H
#define OVERLAP_CLUSTER_H

#include "learning.h"

#include <float.h>
#include <math.h>
#include <string.h>

/* looks at the global model, evenly spaced; the last ones, in the last tenth of the time, are what counts: one alone is
 * mostly noise */
enum { CLUSTER_MOST = 16, CLUSTER_POINTS = 41, CLUSTER_LAST = 5 };

/* All methods are settings of one object. */
typedef struct method {
    const char *name;
    hpsgd_mode mode;
    uint32_t steps; /* BLOCKING: local steps a round; else at most without a result */
    double carry;   /* below 0: 1 / N */
    int delayed;    /* gradients are taken at the global model, so that nothing is learnt before it is averaged */
} method;

typedef struct run_result {
    double loss, accuracy; /* of the global model, mean over the last tenth of the time */
    double curve[CLUSTER_POINTS];
    double gradients;       /* a worker */
    double rounds, stalled; /* share of a worker's time that it could not train */
    double sync, hidden;    /* seconds from a launch until the result is there; share of them that was not waited for */
    double cosine, distance; /* of the replica's gradient and that at the global model, same batch; relative distance */
    int diverged;
} run_result;

typedef struct run run;

typedef struct run_worker {
    run *r;
    uint32_t rank;
    weft_transport net;
    hpsgd *h;
    void *memory;
    tensor_list params;
    weft_tensor tensor[MAX_TENSORS];
    sampler sampler;
    uint64_t due, waiting_since, launched;
    uint64_t steps, rounds, stalled, sync, syncs;
    int computing;
} run_worker;

struct run {
    const method *m;
    learning *l;
    weft_sim sim;
    weft_pace pace;
    uint64_t seed;
    uint32_t size;
    double rate;
    tensor_list grads, others, global;
    partition share;
    run_worker worker[CLUSTER_MOST];
    double cosine, distance, samples;
    int diverged;
};

static inline weft_tensors run_view(const learning *l, const tensor_list *t, weft_tensor *view) {
    weft_tensors all = {view, l->net.tensors};
    for (size_t i = 0; i < l->net.tensors; i++) view[i] = (weft_tensor){t->tensor[i], l->net.tensor[i].count, WEFT_F32};
    return all;
}

static inline void run_global(run_worker *w, tensor_list *into) {
    weft_tensor view[MAX_TENSORS];
    const weft_tensors all = run_view(w->r->l, into, view);
    hpsgd_model(w->h, &all);
}

/* How far the replica's gradient is from that at the global model, now and then. */
static inline void run_compare(run_worker *w) {
    run *r = w->r;
    double ab = 0, aa = 0, bb = 0, dd = 0;
    run_global(w, &r->global);
    learning_gradient(r->l, &r->global, &r->others);
    for (size_t t = 0; t < r->l->net.tensors; t++)
        for (size_t i = 0; i < r->l->net.tensor[t].count; i++) {
            const double a = (double)r->grads.tensor[t][i], b = (double)r->others.tensor[t][i];
            ab += a * b;
            aa += a * a;
            bb += b * b;
            dd += (a - b) * (a - b);
        }
    if (!(aa > 0 && bb > 0)) return;
    r->cosine += ab / sqrt(aa * bb);
    r->distance += sqrt(dd / bb);
    r->samples++;
}

static inline void run_learn(run_worker *w) {
    run *r = w->r;
    const tensor_list *at = &w->params;
    learning_draw(r->l, &w->sampler);
    if (r->m->delayed) {
        run_global(w, &r->global);
        at = &r->global;
    }
    learning_gradient(r->l, at, &r->grads);
    if (w->steps % 8 == 7 && !r->m->delayed) run_compare(w);
    for (size_t t = 0; t < r->l->net.tensors; t++)
        for (size_t i = 0; i < r->l->net.tensor[t].count; i++)
            w->params.tensor[t][i] -= (float)r->rate * r->grads.tensor[t][i];
    w->steps++;
}

/* A round's time is that from its launch until this worker has the result. */
static inline void run_trace(void *ctx, const weft_event *e) {
    run_worker *w = (run_worker *)ctx;
    if (e->kind == WEFT_EVENT_ROUND_BEGUN) w->launched = weft_sim_now(&w->r->sim);
    if (e->kind != WEFT_EVENT_COMMITTED) return;
    w->sync += weft_sim_now(&w->r->sim) - w->launched;
    w->syncs++;
}

static inline int run_step(void *user, uint32_t rank) {
    run_worker *w = (run_worker *)user;
    run *r = w->r;
    const uint64_t now = weft_sim_now(&r->sim);
    weft_status s;
    (void)rank;
    if (w->computing && now < w->due) {
        hpsgd_progress(w->h);
        weft_sim_sleep(&r->sim, w->rank, w->due - now);
        return 0;
    }
    if (w->computing) {
        run_learn(w);
        w->computing = 0;
        w->waiting_since = now;
        s = hpsgd_step(w->h);
    } else {
        s = hpsgd_poll(w->h);
    }
    if (s == WEFT_ERR_NONFINITE) r->diverged = 1;
    if (s < 0) return 1;
    if (s != WEFT_OK) return 0; /* asked again when something has come */
    w->stalled += now - w->waiting_since;
    w->computing = 1;
    w->due = now + weft_pace_draw_ns(&r->pace, r->seed, w->rank, w->steps);
    weft_sim_sleep(&r->sim, w->rank, w->due - now);
    return 0;
}

static inline void run_refuse(const char *what, weft_status s, const weft_detail *why) {
    fprintf(stderr, "bench-overlap: %s: %s (%s)\n", what, weft_strerror(s), why && why->field ? why->field : "-");
    exit(1);
}

/* `sync` seconds an all-reduce, `seconds` of training; alpha 0: shares alike. */
static inline void run_cluster(run_result *out, const method *m, learning *l, uint32_t size, double rate, double sync,
                               double seconds, double alpha, uint64_t seed, int curve) {
    static run storage;
    run *r = &storage;
    weft_sim_desc sd;
    tensor_list first = tensors_new(&l->net);
    double stalled = 0, total = 0, launches = 0, accuracy;
    memset(r, 0, sizeof *r);
    memset(out, 0, sizeof *out);
    memset(&sd, 0, sizeof sd);
    r->m = m;
    r->l = l;
    r->seed = seed;
    r->size = size;
    r->rate = rate;
    r->pace = weft_pace_default();
    weft_pace_parse(&r->pace, "uniform:1:0.05");
    r->grads = tensors_new(&l->net);
    r->others = tensors_new(&l->net);
    r->global = tensors_new(&l->net);
    partition_make(&r->share, &l->data, size, alpha, seed);
    sd.seed = seed;
    sd.size = size;
    sd.latency_ns = 100000;
    /* to each peer go two shards: one to be summed there, one that is summed */
    sd.bytes_per_second = (uint64_t)(8.0 * (double)l->net.parameters / size / sync + 1.0);
    if (weft_sim_init(&r->sim, &sd) != WEFT_OK) run_refuse("simulation", WEFT_ERR_MEMORY, NULL);
    model_init(&l->net, &first, seed);
    for (uint32_t i = 0; i < size; i++) {
        run_worker *w = &r->worker[i];
        hpsgd_desc d;
        weft_detail why;
        weft_status s;
        size_t bytes;
        memset(&d, 0, sizeof d);
        w->r = r;
        w->rank = i;
        w->params = tensors_new(&l->net);
        tensors_copy(&l->net, &w->params, &first);
        sampler_init(&w->sampler, &r->share, i, &l->data, seed);
        weft_sim_transport(&r->sim, i, &w->net);
        d.struct_size = sizeof d;
        d.params = run_view(l, &w->params, w->tensor);
        d.transport = &w->net;
        d.mode = m->mode;
        d.min_steps = m->mode == HPSGD_BLOCKING ? m->steps : 1;
        d.max_steps = m->steps;
        d.carry = m->carry < 0 ? 1.0 / size : m->carry;
        d.trace = run_trace;
        d.trace_ctx = w;
        bytes = hpsgd_memory(&d, NULL);
        w->memory = malloc(bytes ? bytes : 1);
        s = w->memory ? hpsgd_init_detail(&w->h, &d, w->memory, bytes, &why) : WEFT_ERR_MEMORY;
        if (s != WEFT_OK) run_refuse(m->name, s, w->memory ? &why : NULL);
        hpsgd_start(w->h);
        weft_sim_worker(&r->sim, i, run_step, w);
    }
    for (int k = 0; k < CLUSTER_POINTS; k++) {
        const uint64_t until = (uint64_t)(seconds * 1e9 * k / (CLUSTER_POINTS - 1));
        if (until > weft_sim_now(&r->sim)) weft_sim_advance(&r->sim, until - weft_sim_now(&r->sim));
        if (!curve && k + CLUSTER_LAST < CLUSTER_POINTS) continue;
        run_global(&r->worker[0], &r->global);
        learning_measure(l, &r->global, &out->curve[k], &accuracy);
        if (k + CLUSTER_LAST < CLUSTER_POINTS) continue;
        out->loss += out->curve[k] / CLUSTER_LAST;
        out->accuracy += accuracy / CLUSTER_LAST;
    }
    for (uint32_t i = 0; i < size; i++) {
        run_worker *w = &r->worker[i];
        hpsgd_stats_t s;
        hpsgd_stats(w->h, &s);
        if (!w->computing) w->stalled += weft_sim_now(&r->sim) - w->waiting_since;
        out->gradients += (double)w->steps / size;
        out->rounds += (double)s.rounds / size;
        stalled += (double)w->stalled * 1e-9;
        total += (double)w->sync * 1e-9;
        launches += (double)w->syncs;
        hpsgd_close(w->h);
        free(w->memory);
        tensors_free(&l->net, &w->params);
        sampler_free(&w->sampler);
    }
    out->stalled = stalled / (seconds * size);
    out->sync = launches > 0 ? total / launches : 0;
    out->hidden = total > 0 ? fmax(0, 1 - stalled / total) : 0;
    out->cosine = r->samples > 0 ? r->cosine / r->samples : (double)NAN;
    out->distance = r->samples > 0 ? r->distance / r->samples : (double)NAN;
    out->diverged = r->diverged || !(out->loss < 100);
    if (weft_sim_violation(&r->sim)) {
        fprintf(stderr, "bench-overlap: %s\n", weft_sim_violation(&r->sim));
        exit(1);
    }
    weft_sim_free(&r->sim);
    partition_free(&r->share);
    tensors_free(&l->net, &r->grads);
    tensors_free(&l->net, &r->others);
    tensors_free(&l->net, &r->global);
    tensors_free(&l->net, &first);
}

#endif
