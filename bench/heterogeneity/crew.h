/* SPDX-License-Identifier: MIT
 * crew.h: one run: agents with objects of saddle.h, in one thread, polled in turn over a simulated network; all take a
 * step, gradients as they are wanted, until all are done with it. */
#ifndef HETEROGENEITY_CREW_H
#define HETEROGENEITY_CREW_H

#include "learning.h"
#include "rows.h"

#include <time.h>

enum { CREW_LATENCY_NS = 1000, CREW_MOST_TURNS = 100000 };

typedef struct crew_agent {
    weft_transport net;
    saddle *x;
    void *memory;
    tensor_list params;
    weft_tensor view[MAX_TENSORS];
    sampler draw;
    float *images;
    uint8_t *labels;
    uint32_t index[LEARN_BATCH];
    int done;
} crew_agent;

typedef struct crew {
    const run_desc *d;
    learner *l;
    weft_sim sim;
    weft_graph graph;
    void *graph_memory;
    partition share;
    uint32_t *pool; /* first the agents' images, then those held out */
    size_t trained, held_out;
    tensor_list mean;
    crew_agent agent[SHARES_MOST];
} crew;

static inline weft_codec crew_codec(coding c) {
    return c == CODING_Q8      ? weft_codec_q8()
           : c == CODING_TOP8  ? weft_codec_topk(0.875)
           : c == CODING_TOP30 ? weft_codec_topk(0.7)
                               : weft_codec_identity();
}

/* The graph with so many agents: `torus`: as square as they can be. */
static inline weft_status crew_graph(weft_graph *g, const char *topology, uint32_t agents, void *memory, size_t bytes) {
    uint32_t high = 1;
    if (!strcmp(topology, "ring")) return weft_graph_ring(g, agents, memory, bytes);
    for (uint32_t r = 1; r * r <= agents; r++)
        if (agents % r == 0) high = r;
    return weft_graph_torus(g, high, agents / high, memory, bytes);
}

static inline saddle_desc crew_desc(const run_desc *d) {
    static const saddle_variant variant[RULES] = {SADDLE_DPSGD, SADDLE_DSGDM, SADDLE_QGM,
                                                  SADDLE_Q,     SADDLE_NGC,   SADDLE_N};
    saddle_desc s;
    memset(&s, 0, sizeof s);
    s.struct_size = sizeof s;
    s.variant = variant[d->rule];
    s.learning_rate = d->rate;
    s.rho = rule_climbs(d->rule) ? d->rho : 0;
    s.weight_decay = 1e-4;
    s.gamma = d->gamma;
    s.codec = crew_codec(d->coding);
    s.seed = d->seed;
    return s;
}

static inline void crew_draw(crew *k) {
    const dataset *data = k->l->data;
    const size_t spare = data->train.count - k->trained;
    rng r = rng_make(k->d->seed, STREAM_POOL, 0);
    k->pool = (uint32_t *)new_array(data->train.count, sizeof *k->pool);
    for (size_t i = 0; i < data->train.count; i++) k->pool[i] = (uint32_t)i;
    rng_shuffle(&r, k->pool, data->train.count);
    k->held_out = spare < 10000 ? spare : 10000;
    shares_make(&k->share, data->train.label, k->pool, k->d->agents, k->d->images, k->d->alpha, k->d->seed);
}

static inline void crew_open(crew *k, const run_desc *d, learner *l) {
    weft_sim_desc sim;
    memset(k, 0, sizeof *k);
    memset(&sim, 0, sizeof sim);
    k->d = d;
    k->l = l;
    k->trained = (size_t)d->agents * d->images;
    k->mean = tensors_new(&l->net);
    crew_draw(k);
    sim.seed = d->seed;
    sim.size = d->agents;
    sim.latency_ns = CREW_LATENCY_NS;
    if (weft_sim_init(&k->sim, &sim) != WEFT_OK) broken("no simulated network");
    crew_graph(&k->graph, d->topology, d->agents, NULL, 0);
    k->graph_memory = new_array(1, k->graph.bytes);
    if (crew_graph(&k->graph, d->topology, d->agents, k->graph_memory, k->graph.bytes) != WEFT_OK)
        broken("no %s of %u agents", d->topology, d->agents);
    model_init(&l->net, &k->mean, d->seed);
    for (uint32_t i = 0; i < d->agents; i++) {
        crew_agent *a = &k->agent[i];
        saddle_desc s = crew_desc(d);
        weft_detail why;
        weft_status status;
        size_t bytes;
        a->params = tensors_new(&l->net);
        tensors_copy(&l->net, &a->params, &k->mean);
        a->images = new_floats(LEARN_BATCH * l->data->features);
        a->labels = (uint8_t *)new_array(LEARN_BATCH, 1);
        sampler_init(&a->draw, &k->share, i, l->data, d->seed);
        for (size_t t = 0; t < l->net.tensors; t++)
            a->view[t] = (weft_tensor){a->params.tensor[t], l->net.tensor[t].count, WEFT_F32};
        weft_sim_transport(&k->sim, i, &a->net);
        s.params.tensor = a->view;
        s.params.count = l->net.tensors;
        s.transport = &a->net;
        s.graph = &k->graph;
        bytes = saddle_memory(&s, NULL);
        a->memory = new_array(bytes ? bytes : 1, 1);
        status = saddle_init_detail(&a->x, &s, a->memory, bytes, &why);
        if (status != WEFT_OK) broken("%s: %s (%s)", rule_name[d->rule], weft_strerror(status), why.field);
    }
}

static inline void crew_close(crew *k) {
    for (uint32_t i = 0; i < k->d->agents; i++) {
        crew_agent *a = &k->agent[i];
        saddle_close(a->x);
        free(a->memory);
        tensors_free(&k->l->net, &a->params);
        sampler_free(&a->draw);
        free(a->images);
        free(a->labels);
    }
    if (weft_sim_violation(&k->sim)) broken("%s", weft_sim_violation(&k->sim));
    weft_sim_free(&k->sim);
    free(k->graph_memory);
    partition_free(&k->share);
    free(k->pool);
    tensors_free(&k->l->net, &k->mean);
}

static inline void crew_gradient(crew *k, crew_agent *a, const saddle_want *w) {
    tensor_list at = {{NULL}}, into = {{NULL}};
    size_t right = 0;
    for (size_t t = 0; t < k->l->net.tensors; t++) {
        at.tensor[t] = (float *)w->at.tensor[t].data;
        into.tensor[t] = (float *)w->into.tensor[t].data;
    }
    model_batch(&k->l->net, k->l->space, &at, a->images, a->labels, LEARN_BATCH, &into, &right);
}

/* As far as it goes without waiting. 0: it has diverged. */
static inline int crew_go(crew *k, uint32_t rank) {
    crew_agent *a = &k->agent[rank];
    weft_status s;
    saddle_want want;
    while ((s = saddle_next(a->x, &want)) == WEFT_WANT_GRADIENT) crew_gradient(k, a, &want);
    a->done = s == WEFT_OK;
    if (s == WEFT_ERR_NONFINITE) return 0;
    if (s < 0) {
        const weft_detail *why = saddle_detail(a->x);
        broken("%s, agent %u: %s (%s)", rule_name[k->d->rule], rank, weft_strerror(s), why->field ? why->field : "-");
    }
    return 1;
}

/* A step of all. 0: one has diverged. */
static inline int crew_step(crew *k) {
    uint32_t left = k->d->agents;
    for (uint32_t i = 0; i < k->d->agents; i++) {
        crew_agent *a = &k->agent[i];
        a->done = 0;
        sampler_next(&a->draw, LEARN_BATCH, a->index);
        dataset_gather(k->l->data, &k->l->data->train, a->index, LEARN_BATCH, a->images, a->labels);
    }
    for (int turn = 0; left && turn < CREW_MOST_TURNS; turn++) {
        left = 0;
        for (uint32_t i = 0; i < k->d->agents; i++) {
            if (k->agent[i].done)
                saddle_poll(k->agent[i].x);
            else if (!crew_go(k, i))
                return 0;
            left += !k->agent[i].done;
        }
        if (left) weft_sim_advance(&k->sim, CREW_LATENCY_NS);
    }
    if (left) broken("a step never ends");
    return 1;
}

static inline void crew_rate(crew *k, double rate) {
    for (uint32_t i = 0; i < k->d->agents; i++)
        if (saddle_set_learning_rate(k->agent[i].x, rate) != WEFT_OK) broken("no learning rate can be set");
}

static inline void crew_mean(crew *k, double *consensus) {
    const uint32_t n = k->d->agents;
    *consensus = 0;
    for (size_t t = 0; t < k->l->net.tensors; t++)
        for (size_t j = 0; j < k->l->net.tensor[t].count; j++) {
            double sum = 0;
            for (uint32_t i = 0; i < n; i++) sum += (double)k->agent[i].params.tensor[t][j];
            for (uint32_t i = 0; i < n; i++) {
                const double off = (double)k->agent[i].params.tensor[t][j] - sum / n;
                *consensus += off * off / n;
            }
            k->mean.tensor[t][j] = (float)(sum / n);
        }
}

static inline double crew_accuracy(crew *k, const tensor_list *at) {
    double accuracy;
    learner_loss(k->l, at, &k->l->data->test, NULL, k->l->data->test.count, &accuracy, NULL);
    return 100 * accuracy;
}

/* Bytes that a codec takes for what an agent of so many neighbours sends in a step. */
static inline double crew_codec_bytes(const run_desc *d, const model *net, double neighbours) {
    const weft_codec c = crew_codec(d->coding);
    double sum = 0;
    for (size_t t = 0; t < net->tensors; t++)
        sum += (double)weft_codec_bytes(&c, WEFT_F32, net->tensor[t].count, net->tensor[t].count);
    return sum * neighbours * (rule_crosses(d->rule) ? 2 : 1);
}

static inline void crew_measure(crew *k, run_result *r, uint64_t steps) {
    const uint32_t n = k->d->agents;
    double held_out, degree = 0;
    crew_mean(k, &r->consensus);
    for (uint32_t i = 0; i < n; i++) {
        saddle_stats_t s;
        saddle_stats(k->agent[i].x, &s);
        r->bytes += (double)s.traffic.payload_sent / (double)steps / n;
        r->control += (double)s.traffic.control_sent / (double)steps / n;
        r->gradients += (double)s.evaluations / (double)steps / n;
        degree += (double)weft_graph_degree(&k->graph, i) / n;
    }
    r->codec_bytes = crew_codec_bytes(k->d, &k->l->net, degree);
    r->accuracy = crew_accuracy(k, &k->mean);
    if (k->held_out) {
        learner_loss(k->l, &k->mean, &k->l->data->train, k->pool + k->trained, k->held_out, &held_out, NULL);
        r->held_out = 100 * held_out;
    }
    if (k->d->tuning) return;
    r->local = 0;
    for (uint32_t i = 0; i < n; i++) r->local += crew_accuracy(k, &k->agent[i].params) / n;
    r->gap = learner_gap(k->l, &k->mean, k->pool, k->trained, k->d->rho, &r->loss);
    r->eigenvalue = learner_eigenvalue(k->l, &k->mean, k->pool, k->trained, 1e-3, k->d->seed);
}

static inline double crew_clock(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Step size: a tenth from half of the steps on, a hundredth for the last quarter. */
static inline void crew_run(run_result *r, const run_desc *d, learner *l) {
    crew *k = (crew *)new_array(1, sizeof *k);
    const double begun = crew_clock();
    const uint64_t steps = (uint64_t)d->epochs * d->images / LEARN_BATCH;
    memset(r, 0, sizeof *r);
    r->local = r->held_out = r->loss = r->eigenvalue = r->gap = (double)NAN;
    crew_open(k, d, l);
    r->classes = shares_classes(&k->share, l->data->train.label);
    for (uint64_t s = 0; s < steps && !r->diverged; s++) {
        if (s == (steps + 1) / 2) crew_rate(k, 0.1 * d->rate);
        if (s == (3 * steps + 3) / 4) crew_rate(k, 0.01 * d->rate);
        r->diverged = !crew_step(k);
    }
    if (r->diverged)
        r->accuracy = r->consensus = r->bytes = r->control = r->codec_bytes = r->gradients = (double)NAN;
    else
        crew_measure(k, r, steps);
    crew_close(k);
    free(k);
    r->seconds = crew_clock() - begun;
}

#endif
