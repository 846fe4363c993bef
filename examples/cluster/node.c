/* SPDX-License-Identifier: MIT
 * node.c: the file of this program that implements the library's headers. */
#define GRAWA_IMPLEMENTATION
#define SUBSPACE_IMPLEMENTATION
#define HPSGD_IMPLEMENTATION
#define DSGD_AAU_IMPLEMENTATION
#define SADDLE_IMPLEMENTATION
#include "grawa.h"
#include "subspace.h"
#include "hpsgd.h"
#include "dsgd_aau.h"
#include "saddle.h"

#include "node.h"
#include "train/util.h"

#include <stdlib.h>
#include <string.h>

static weft_tensors view_of(const model *m, const tensor_list *t, weft_tensor *view) {
    for (size_t i = 0; i < m->tensors; i++) view[i] = (weft_tensor){t->tensor[i], m->tensor[i].count, WEFT_F32};
    return (weft_tensors){view, m->tensors};
}

static uint64_t ns_of(double seconds) {
    return (uint64_t)(seconds * 1e9 + 0.5);
}

static void refused(const node *n, weft_status s, const weft_detail *why) {
    if (s != WEFT_OK)
        broken("%s, worker %lu: %s (%s: expected %llu, got %llu)", METHOD_NAME[n->of->method], (unsigned long)n->rank,
               weft_strerror(s), why->field ? why->field : "value", (unsigned long long)why->expected,
               (unsigned long long)why->got);
}

static void open_aau(node *n, bool comes_back) {
    const options *o = n->of->o;
    dsgd_aau_desc d = {.struct_size = sizeof d};
    weft_detail why;
    d.params = view_of(&n->of->task->model, &n->params, n->param);
    d.transport = &n->net;
    d.graph = n->of->graph;
    d.fan = o->fan;
    d.grace_ns = o->grace < 0.0 ? 0 : o->grace > 0.0 ? ns_of(o->grace) : DSGD_AAU_NO_GRACE;
    d.coalesce_ns = ns_of(o->coalesce);
    d.patience_ns = ns_of(o->patience);
    d.join = comes_back ? DSGD_AAU_JOIN : DSGD_AAU_FOUND;
    n->bytes = dsgd_aau_memory(&d, NULL);
    n->memory = new_array(n->bytes, 1);
    refused(n, dsgd_aau_init_detail(&n->aau, &d, n->memory, n->bytes, &why), &why);
}

static void open_grawa(node *n) {
    grawa_desc d = {.struct_size = sizeof d};
    weft_detail why;
    d.params = view_of(&n->of->task->model, &n->params, n->param);
    d.transport = &n->net;
    d.weighting = n->of->method == METHOD_MGRAWA ? GRAWA_BY_MODEL : GRAWA_BY_LAYER;
    d.period_steps = (uint32_t)n->of->o->period;
    n->bytes = grawa_memory(&d, NULL);
    n->memory = new_array(n->bytes, 1);
    refused(n, grawa_init_detail(&n->grawa, &d, n->memory, n->bytes, &why), &why);
}

static void open_subspace(node *n) {
    subspace_desc d = {.struct_size = sizeof d};
    weft_detail why;
    n->grads = tensors_new(&n->of->task->model);
    d.gradients = view_of(&n->of->task->model, &n->grads, n->grad);
    d.transport = &n->net;
    d.rule = n->of->method == METHOD_MEAN ? SUBSPACE_MEAN : SUBSPACE_NORMALISED;
    d.momentum = n->of->method == METHOD_MEAN ? 0.0 : 0.99;
    n->bytes = subspace_memory(&d, NULL);
    n->memory = new_array(n->bytes, 1);
    refused(n, subspace_init_detail(&n->subspace, &d, n->memory, n->bytes, &why), &why);
}

static void open_hpsgd(node *n) {
    hpsgd_desc d = {.struct_size = sizeof d};
    weft_detail why;
    d.params = view_of(&n->of->task->model, &n->params, n->param);
    d.transport = &n->net;
    d.carry = n->of->o->beta;
    d.max_steps = (uint32_t)n->of->o->most_steps;
    n->bytes = hpsgd_memory(&d, NULL);
    n->memory = new_array(n->bytes, 1);
    refused(n, hpsgd_init_detail(&n->hpsgd, &d, n->memory, n->bytes, &why), &why);
}

static void open_saddle(node *n, bool comes_back) {
    static const saddle_variant variant[METHODS] = {
        [METHOD_QSADDLE] = SADDLE_Q, [METHOD_NSADDLE] = SADDLE_N,   [METHOD_QGM] = SADDLE_QGM,
        [METHOD_NGC] = SADDLE_NGC,   [METHOD_DPSGD] = SADDLE_DPSGD, [METHOD_DSGDM] = SADDLE_DSGDM};
    const options *o = n->of->o;
    saddle_desc d = {.struct_size = sizeof d};
    weft_detail why;
    d.params = view_of(&n->of->task->model, &n->params, n->param);
    d.transport = &n->net;
    d.graph = n->of->graph;
    d.variant = variant[n->of->method];
    d.learning_rate = o->rate;
    if (d.variant == SADDLE_Q || d.variant == SADDLE_N) d.rho = o->rho > 0.0 ? o->rho : WEFT_ZERO;
    d.beta = o->momentum > 0.0 ? o->momentum : WEFT_ZERO;
    d.gamma = o->gamma;
    d.codec = o->codec;
    d.seed = o->seed;
    d.join = comes_back;
    n->bytes = saddle_memory(&d, NULL);
    n->memory = new_array(n->bytes, 1);
    refused(n, saddle_init_detail(&n->saddle, &d, n->memory, n->bytes, &why), &why);
}

void node_open(node *n, bool comes_back) {
    const model *m = &n->of->task->model;
    n->params = tensors_new(m);
    n->index = new_array(n->of->task->batch, sizeof *n->index);
    if (!comes_back || method_is_saddle(n->of->method)) tensors_copy(m, &n->params, &n->of->initial);
    sgd_init(&n->sgd, m, (float)n->of->o->momentum, 0.0f, false);
    if (n->of->task->kind != TASK_QUADRATIC)
        sampler_init(&n->sampler, &n->of->task->share, n->rank, &n->of->task->data, n->of->o->seed);
    switch (n->of->method) {
    case METHOD_DSGD_AAU: open_aau(n, comes_back); break;
    case METHOD_MGRAWA:
    case METHOD_LGRAWA: open_grawa(n); break;
    case METHOD_HPSGD: open_hpsgd(n); break;
    case METHOD_MEAN:
    case METHOD_SUBSPACE: open_subspace(n); break;
    default: open_saddle(n, comes_back); break;
    }
}

void node_close(node *n) {
    if (n->aau) dsgd_aau_close(n->aau);
    if (n->grawa) grawa_close(n->grawa);
    if (n->subspace) subspace_close(n->subspace);
    if (n->hpsgd) hpsgd_close(n->hpsgd);
    if (n->saddle) saddle_close(n->saddle);
    n->aau = NULL;
    n->grawa = NULL;
    n->subspace = NULL;
    n->hpsgd = NULL;
    n->saddle = NULL;
    free(n->memory);
    n->memory = NULL;
}

void node_free(node *n) {
    const model *m = &n->of->task->model;
    node_close(n);
    tensors_free(m, &n->params);
    tensors_free(m, &n->grads);
    sgd_free(&n->sgd, m);
    free(n->index);
    if (n->of->task->kind != TASK_QUADRATIC) sampler_free(&n->sampler);
}

const tensor_list *node_model(node *n, tensor_list *room) {
    weft_tensor view[MAX_TENSORS];
    const weft_tensors all = view_of(&n->of->task->model, room, view);
    if (n->hpsgd && hpsgd_model(n->hpsgd, &all) == WEFT_OK) return room;
    return &n->params;
}

weft_status node_start(node *n) {
    if (n->saddle) return WEFT_OK; /* it begins with the first step */
    if (n->aau) return dsgd_aau_start(n->aau);
    if (n->hpsgd) return hpsgd_start(n->hpsgd);
    return n->grawa ? grawa_start(n->grawa) : WEFT_OK;
}

static void local_step(node *n, const tensor_list *grads) {
    sgd_step(&n->sgd, &n->of->task->model, &n->params, grads, (float)n->of->o->rate);
}

/* (subspace_aggregate would wait for the others inside; here all wait side by side.) */
static weft_status submit_all(node *n) {
    return subspace_submit(n->subspace, 0, n->of->task->model.tensors);
}

/* WANT_GRADIENT: the view is new, and the round that it cut short is wanted again: the gradients are as they were. */
static weft_status after_aggregate(node *n, weft_status s) {
    if (s == WEFT_WANT_GRADIENT) s = submit_all(n);
    if (s == WEFT_OK) local_step(n, &n->grads);
    return s;
}

/* Up to the next gradient, be it of this step or of another one. */
static weft_status saddle_go(node *n) {
    for (;;) {
        const weft_status s = saddle_next(n->saddle, &n->want);
        saddle_stats_t now = {0};
        if (s == WEFT_WANT_GRADIENT) {
            if (n->want.evaluation == 0) task_draw(n->of->task, &n->sampler, n->index);
            return WEFT_OK;
        }
        if (s != WEFT_OK) return s;
        saddle_stats(n->saddle, &now);
        n->steps++;
        n->alone += now.exchanges == n->averaged;
        n->averaged = now.exchanges;
    }
}

static weft_status saddle_gradient(node *n) {
    tensor_list at = {{NULL}}, into = {{NULL}};
    for (size_t i = 0; i < n->want.at.count; i++) {
        at.tensor[i] = n->want.at.tensor[i].data;
        into.tensor[i] = n->want.into.tensor[i].data;
    }
    task_gradient(n->of->task, n->rank, n->steps, n->index, &at, &into);
    return saddle_go(n);
}

weft_status node_gradient(node *n) {
    tensor_list *grads = n->subspace ? &n->grads : &n->of->grads;
    weft_tensor view[MAX_TENSORS];
    if (n->saddle) return saddle_gradient(n);
    task_draw(n->of->task, &n->sampler, n->index);
    task_gradient(n->of->task, n->rank, n->steps++, n->index, &n->params, grads);
    if (n->subspace) return after_aggregate(n, submit_all(n));
    local_step(n, grads);
    if (n->aau) return dsgd_aau_step(n->aau);
    if (n->hpsgd) return hpsgd_step(n->hpsgd);
    const weft_tensors all = view_of(&n->of->task->model, grads, view);
    return grawa_step(n->grawa, &all);
}

weft_status node_poll(node *n) {
    if (n->aau) return dsgd_aau_poll(n->aau);
    if (n->hpsgd) return hpsgd_poll(n->hpsgd);
    if (n->grawa) return grawa_poll(n->grawa);
    if (n->saddle) return saddle_go(n);
    return after_aggregate(n, subspace_poll(n->subspace));
}

weft_status node_regroup(node *n, uint32_t epoch, const uint32_t *members, uint32_t count) {
    const weft_view v = {sizeof v, epoch, count, members};
    n->epoch = epoch;
    if (n->hpsgd) return hpsgd_regroup(n->hpsgd, &v);
    return n->grawa ? grawa_regroup(n->grawa, &v) : after_aggregate(n, subspace_regroup(n->subspace, &v));
}

void node_peer(node *n, uint32_t rank, bool up) {
    if (n->aau)
        (void)(up ? dsgd_aau_peer_up(n->aau, rank) : dsgd_aau_peer_lost(n->aau, rank));
    else
        (void)(up ? saddle_peer_up(n->saddle, rank) : saddle_peer_lost(n->saddle, rank));
}

uint64_t node_wake_ns(const node *n) {
    return n->aau ? dsgd_aau_wake_ns(n->aau) : UINT64_MAX;
}

bool node_listens(const node *n) {
    return (n->aau || n->hpsgd || n->saddle) && !n->of->o->deaf;
}

weft_status node_listen(node *n) {
    if (n->saddle) return saddle_poll(n->saddle);
    return n->aau ? dsgd_aau_poll(n->aau) : hpsgd_progress(n->hpsgd);
}

const weft_detail *node_detail(const node *n) {
    if (n->aau) return dsgd_aau_detail(n->aau);
    if (n->hpsgd) return hpsgd_detail(n->hpsgd);
    if (n->saddle) return saddle_detail(n->saddle);
    return n->grawa ? grawa_detail(n->grawa) : subspace_detail(n->subspace);
}

void node_read(const node *n, node_stats *out) {
    memset(out, 0, sizeof *out);
    if (n->aau) {
        dsgd_aau_stats_t s;
        dsgd_aau_stats(n->aau, &s);
        *out = (node_stats){s.epochs, s.led + s.followed, s.partners, s.alone, s.traffic};
    } else if (n->hpsgd) {
        hpsgd_stats_t s;
        hpsgd_stats(n->hpsgd, &s);
        *out = (node_stats){s.rounds, s.rounds, 0, 0, s.traffic};
    } else if (n->saddle) {
        saddle_stats_t s;
        saddle_stats(n->saddle, &s);
        *out = (node_stats){s.steps, s.steps - n->alone, n->averaged, n->alone, s.traffic};
    } else if (n->grawa) {
        grawa_stats_t s;
        grawa_stats(n->grawa, &s);
        *out = (node_stats){s.rounds, s.rounds, 0, 0, s.traffic};
    } else if (n->subspace) {
        subspace_stats_t s;
        subspace_stats(n->subspace, &s);
        *out = (node_stats){s.rounds, s.rounds, 0, 0, s.traffic};
    }
}
